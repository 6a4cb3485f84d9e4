# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The relay for transports of all kinds, on Twisted's producers and consumers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_socks5.interfaces import IBoundedTraffic, IOutbound, IRelay, ITunnel
from twisted_socks5.relay.deadlines import TunnelDeadlines
from twisted_socks5.relay.halfclose import canHalfClose
from twisted_socks5.relay.sendqueue import queuedIn
from twisted_socks5.settings import Timeouts

if TYPE_CHECKING:
    from twisted_socks5.limits.bandwidth import Meter, Meters
    from twisted_socks5.stream import ByteStream


@implementer(IPushProducer)
class _Flow:
    """
    What comes from one side, as the transport of the other sees it, which takes
    it: its producer.
    """

    __slots__ = ("_end",)

    def __init__(self, end: _End) -> None:
        self._end = end

    def pauseProducing(self) -> None:
        self._end.holdBack()

    def resumeProducing(self) -> None:
        self._end.goOn()

    def stopProducing(self) -> None:
        """
        The other side is lost, as its C{connectionLost} will say.
        """


@implementer(IHalfCloseableProtocol, IPushProducer)
class _End(Protocol):
    """
    One side of a tunnel.  What comes from it goes to the other side's
    transport, as long as that takes it and nobody pauses this.
    """

    transport: Any
    other: _End

    meter: Meter | None = None

    def __init__(self, tunnel: PortableTunnel, name: str) -> None:
        self.tunnel = tunnel
        self.name = name
        self.received = 0
        self.isHeldBack = False
        self.isPaused = False
        self.hasEnded = False
        self.isLost = False

    def bound(self, meter: Meter) -> None:
        """
        Carry no more than there is credit for, and have little come at once, where
        little is allowed to; as far as that can be told the transport, or the one that
        it comes down to.
        """
        self.meter = meter
        meter.resume = self._readOn
        transport = self.transport
        while isinstance(transport, ProtocolWrapper):
            transport = transport.transport
        if isinstance(transport, Connection):
            transport.bufferSize = meter.portion

    def queued(self) -> int:
        """
        How many bytes the kernel holds for it.
        """
        return queuedIn(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        self.tunnel.moved()
        if not self.other.isLost:
            self.other.transport.write(data)
        meter = self.meter
        if meter is not None and not meter.spend(len(data)) and not self.isLost:
            self.transport.pauseProducing()

    def readConnectionLost(self) -> None:
        self.tunnel.endOfStream(self)

    def writeConnectionLost(self) -> None: ...

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.tunnel.lost(self, reason)

    def holdBack(self) -> None:
        """
        The other side does not take everything.
        """
        self.isHeldBack = True
        if not self.isLost:
            self.tunnel.deadlines.stalled(self.other)
            self.transport.pauseProducing()

    def goOn(self) -> None:
        """
        The other side has taken everything.
        """
        self.isHeldBack = False
        self.tunnel.deadlines.taken(self.other)
        self._readOn()

    def _readOn(self) -> None:
        # Were it resumed after its end, the end would be read again.
        if not (self.isHeldBack or self.isPaused or self.isLost or self.hasEnded) and (
            self.meter is None or self.meter.credit > 0
        ):
            self.transport.resumeProducing()

    # -- IPushProducer: whoever wants less to come from here --------------------

    def pauseProducing(self) -> None:
        self.isPaused = True
        if not self.isLost:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.isPaused = False
        self._readOn()

    def stopProducing(self) -> None:
        self.tunnel.abort()


@implementer(ITunnel, IBoundedTraffic)
class PortableTunnel:
    """
    Two transports, joined.
    """

    def __init__(
        self,
        reactor: Any,
        timeouts: Timeouts,
        ended: Callable[[str], None],
        meters: Meters | None = None,
    ) -> None:
        self.deadlines = TunnelDeadlines(reactor, timeouts, self._expired)
        self._seconds = reactor.seconds
        self._ended = ended
        self._reason = ""
        self._isClosing = False
        self._meters = meters
        self._client = _End(self, "client")
        self._destination = _End(self, "destination")
        self._client.other = self._destination
        self._destination.other = self._client

    @property
    def bytesUp(self) -> int:
        """
        Bytes from the client.
        """
        return self._client.received

    @property
    def bytesDown(self) -> int:
        """
        Bytes to the client.
        """
        return self._destination.received

    @property
    def fromClient(self) -> IPushProducer:
        """
        What comes from the client.
        """
        return self._client

    @property
    def fromDestination(self) -> IPushProducer:
        """
        What comes from the destination.
        """
        return self._destination

    def join(self, transport: Any, stream: ByteStream, outbound: IOutbound) -> None:
        """
        Begin.
        """
        client, destination = self._client, self._destination
        client.transport = transport
        try:
            destination.transport = outbound.attach(destination)
        except OSError:  # it was reset since it was connected
            self._reason = "destination reset"
            destination.isLost = True
            stream.detach(client)
            transport.abortConnection()
            return
        if self._meters is not None:
            self.bound(self._meters)
        transport.registerProducer(_Flow(destination), True)
        destination.transport.registerProducer(_Flow(client), True)
        stream.detach(client)

    def bound(self, meters: Meters) -> None:
        """
        Carry no more than there is credit for.
        """
        self._client.bound(meters.up)
        self._destination.bound(meters.down)

    def moved(self) -> None:
        """
        Bytes have moved.
        """
        self.deadlines.lastMoved = self._seconds()

    def endOfStream(self, end: _End) -> None:
        """
        A side has closed its direction: pass it on, after all its bytes.
        """
        if end.hasEnded:
            return
        end.hasEnded = True
        other = end.other
        self._reason = self._reason or f"{end.name} closed"
        if self._isClosing or other.isLost:
            return
        if other.hasEnded or not canHalfClose(other.transport):
            self._close()
        else:
            other.transport.loseWriteConnection()
            self.deadlines.halfClosed()

    def lost(self, end: _End, reason: Failure) -> None:
        """
        A side is gone.  A reset passes as a reset; else the other side gets
        what there is for it before it is closed.
        """
        if end.isLost:
            return
        end.isLost = True
        other = end.other
        wasReset = reason.check(ConnectionLost, ConnectionAborted) is not None
        self._reason = self._reason or f"{end.name} {'reset' if wasReset else 'closed'}"
        if other.isLost:
            self.deadlines.stop()
            self._ended(self._reason)
        elif self._isClosing:
            pass  # the other side is getting what waits for it
        elif wasReset:
            other.transport.abortConnection()
        else:
            self._close()

    def _close(self) -> None:
        """
        Close both sides, each after the bytes that wait for it.
        """
        self._isClosing = True
        for end in (self._client, self._destination):
            if not end.isLost:
                self._closeSide(end)

    def _closeSide(self, end: _End) -> None:
        # A transport with a producer waits for more before it closes.
        end.transport.unregisterProducer()
        end.transport.loseConnection()
        self.deadlines.closing(end)

    def _expired(self, reason: str) -> None:
        if self._isClosing or reason == "write stalled":
            self._reason = self._reason or reason
            self.abort()
        else:
            self._reason = reason
            self._close()

    def abort(self) -> None:
        """
        Cut both ends now.
        """
        for end in (self._client, self._destination):
            if not end.isLost:
                end.transport.abortConnection()


@implementer(IRelay)
class PortableRelay:
    """
    Joins transports of all kinds: TCP, TLS, UNIX, behind layers and wrappers.
    Memory is bounded by what Twisted's transports buffer.
    """

    def __init__(self, reactor: IReactorTime, timeouts: Timeouts) -> None:
        self._reactor = reactor
        self._timeouts = timeouts

    def join(
        self,
        transport: Any,
        stream: ByteStream,
        outbound: IOutbound,
        ended: Callable[[str], None],
        plain: Connection | None = None,
        meters: Meters | None = None,
    ) -> ITunnel:
        """
        Carry bytes both ways until both sides have closed.
        """
        tunnel = PortableTunnel(self._reactor, self._timeouts, ended, meters)
        tunnel.join(transport, stream, outbound)
        return tunnel
