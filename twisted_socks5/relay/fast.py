# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The relay for plain TCP sockets on Linux.

Both sockets are watched by the reactor for objects of ours, which receive and
send at once: what a socket has taken is forgotten, and only what it has not is
kept.  Where much moves in one go, the kernel moves it by itself, through a
pipe (C{splice}).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer, IReactorFDSet
from twisted.internet.tcp import Connection
from zope.interface import implementer

from twisted_socks5.interfaces import IBoundedTraffic, ITunnel
from twisted_socks5.relay.deadlines import TunnelDeadlines
from twisted_socks5.relay.ends import BUFFER_SIZE, ClientEnd, DestinationEnd, End
from twisted_socks5.relay.pipes import PipePool
from twisted_socks5.resets import Resets
from twisted_socks5.settings import Timeouts

if TYPE_CHECKING:
    from twisted_socks5.limits.bandwidth import Meters
    from twisted_socks5.stream import ByteStream


@implementer(ITunnel, IBoundedTraffic)
class FastTunnel:
    """
    Two sockets, joined.

    @ivar deadlines: Its deadlines.
    @ivar isClosing: Whether nothing more is read, and each side is closed when
        it has got what waits for it.
    """

    __slots__ = (
        "_client",
        "_destination",
        "_ended",
        "_reason",
        "_relay",
        "deadlines",
        "isClosing",
    )

    def __init__(
        self,
        relay: FastRelay,
        transport: Connection,
        destination: socket.socket,
        ended: Callable[[str], None],
        meters: Meters | None,
    ) -> None:
        self.deadlines = TunnelDeadlines(relay.reactor, relay.timeouts, self._expired)
        self.isClosing = False
        self._relay = relay
        self._ended = ended
        self._reason = ""
        self._client = ClientEnd(relay, self, transport)
        self._destination = DestinationEnd(relay, self, destination)
        self._client.other = self._destination
        self._destination.other = self._client
        if meters is not None:
            self.bound(meters)

    def bound(self, meters: Meters) -> None:
        """
        Carry no more than there is credit for.
        """
        self._client.bound(meters.up)
        self._destination.bound(meters.down)

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

    def join(self, transport: Connection, stream: ByteStream) -> None:
        """
        Begin.  Nothing is sent, and nothing can fail, before the reactor tells
        that a socket is ready.
        """
        stream.detach(self._client)
        # Only now, since the stream may have paused and resumed it by itself.
        # From here on the reactor knows the socket as ours.
        transport.pauseProducing()
        self._client.begin()
        self._destination.begin()

    def ended(self, end: End) -> None:
        """
        A side has closed its direction.
        """
        self._reason = self._reason or f"{end.name} closed"

    def passedOn(self, source: End) -> None:
        """
        The other side has got all that was read of a side that is read no more.
        """
        other = source.other
        if self.isClosing:
            other.close(withReset=False)
            if source.isLost:
                self._finish()
        elif other.hasEnded and not source.isWaitedFor:
            self._closeAll(withReset=False)
        else:
            self.deadlines.halfClosed()
            source.watchForReset()
            other.shutDown()

    def lost(self, end: End) -> bool:
        """
        A side is gone: the other is told so by a reset.
        """
        self._reason = self._reason or f"{end.name} reset"
        self._closeAll(withReset=True)
        return False

    def abort(self) -> None:
        """
        Cut both ends now.
        """
        if not (self._client.isLost and self._destination.isLost):
            self.lost(self._client)

    def _expired(self, reason: str) -> None:
        if self.isClosing or reason == "write stalled":
            self._reason = self._reason or reason
            self.abort()
            return
        self._reason = reason
        self.isClosing = True
        for end in (self._client, self._destination):
            if end.isWaitedFor:
                end.pauseProducing()
                self.deadlines.closing(end)
            else:
                end.close(withReset=False)
        if self._client.isLost and self._destination.isLost:
            self._finish()

    def _closeAll(self, withReset: bool) -> None:
        for end in (self._client, self._destination):
            if not end.isLost:
                end.close(withReset)
        self._finish()

    def _finish(self) -> None:
        self.deadlines.stop()
        self._relay.tunnelEnded(self)
        self._client.letGo()
        self._destination.letGo()
        ended = self._ended
        del self._ended
        ended(self._reason)


class FastRelay:
    """
    Joins plain TCP sockets.

    @ivar buffer: Where bytes are on their way from one socket to another.
    @ivar pipes: The pipes that the kernel moves bytes through.
    @ivar reactor: Watches the sockets.
    @ivar resets: Looks after sides that have closed their direction.
    @ivar seconds: The reactor's clock.
    @ivar timeouts: The deadlines of tunnels.
    @ivar view: The buffer, to be cut into slices.
    """

    def __init__(self, reactor: Any, timeouts: Timeouts) -> None:
        """
        @param reactor: One that L{canWatch}.
        """
        self.reactor = reactor
        self.seconds = reactor.seconds
        self.timeouts = timeouts
        self.buffer = bytearray(BUFFER_SIZE)
        self.view = memoryview(self.buffer)
        self.pipes = PipePool(reactor)
        self.resets = Resets(reactor)
        self._tunnels: set[FastTunnel] = set()
        self._trigger: Any = None

    def join(
        self,
        transport: Connection,
        stream: ByteStream,
        destination: socket.socket,
        ended: Callable[[str], None],
        meters: Meters | None = None,
    ) -> ITunnel:
        """
        Carry bytes both ways until both sides have closed.

        @param transport: Has nothing to send, and is ours from now on.
        @param stream: What has come from it.
        @param destination: Connected, and ours from now on.
        @param ended: Called once when both ends are closed, with the reason.
        @param meters: What bounds the bytes, if anything does.
        """
        if not self._tunnels:
            # When the reactor stops it closes what it watches; a tunnel that
            # is paused both ways is not among that.
            self._trigger = self.reactor.addSystemEventTrigger(
                "during", "shutdown", self._abortAll
            )
        tunnel = FastTunnel(self, transport, destination, ended, meters)
        self._tunnels.add(tunnel)
        tunnel.join(transport, stream)
        return tunnel

    def tunnelEnded(self, tunnel: FastTunnel) -> None:
        """
        Both ends are closed.
        """
        self._tunnels.discard(tunnel)
        if not self._tunnels:
            if self._trigger is not None:
                self.reactor.removeSystemEventTrigger(self._trigger)
                self._trigger = None
            self.pipes.clear()
            self.resets.rest()

    def _abortAll(self) -> None:
        self._trigger = None  # it has been pulled
        for tunnel in list(self._tunnels):
            tunnel.abort()


def canWatch(reactor: Any) -> bool:
    """
    Whether a reactor can watch sockets of ours, on a system that can move
    bytes between them.
    """
    return IReactorFDSet.providedBy(reactor) and hasattr(os, "splice")
