# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The relay of one UDP association (RFC 1928, section 7): datagrams from a client
to their destinations, and what comes back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from errno import EMSGSIZE
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_socks5.addresses import Address
from twisted_socks5.errors import SOCKSError
from twisted_socks5.interfaces import (
    IBoundedTraffic,
    IDatagramReceiver,
    IDatagrams,
    IDatagramTraffic,
    IRevisable,
    IStreamLayer,
)
from twisted_socks5.observe.defects import logDefect
from twisted_socks5.relay.destinations import Destinations, Lookups
from twisted_socks5.relay.fragments import Reassembly
from twisted_socks5.wire import datagramHeaderLength

if TYPE_CHECKING:
    import socket

    from twisted_socks5.limits.bandwidth import Meters


@implementer(IDatagramReceiver, IDatagramTraffic, IRevisable, IBoundedTraffic)
class Association(DatagramProtocol):
    """
    Receives the datagrams of one client.  Its IP address is known beforehand,
    its port from the first good datagram on; all others are strangers.

    @ivar drops: How many datagrams were dropped, by reason.
    """

    noisy = False
    transport: Any

    def __init__(
        self,
        reactor: Any,
        datagrams: IDatagrams,
        isClient: Callable[[tuple[str, int]], bool],
        end: Callable[[str], object],
        idleTimeout: float,
        layer: IStreamLayer | None = None,
        reassembles: bool = False,
        lookups: Lookups | None = None,
        checkName: Callable[[Address], Awaitable[None]] | None = None,
        meters: Meters | None = None,
    ) -> None:
        """
        @param datagrams: The way out.
        @param isClient: Whether an IP address and port may be the client's.
        @param end: Called with a reason when nothing has moved for C{idleTimeout}
            seconds, or when the way out has ended.
        @param layer: What protects the client's datagrams.
        @param reassembles: Whether fragments are joined, else they are dropped.
        @param lookups: Bounds those of all associations together.
        @param checkName: Asks about a name that the client sends to, before it is
            looked up.
        @param meters: What bounds the bytes, if anything does.
        """
        self._reactor = reactor
        self._datagrams = datagrams
        self._destinations = Destinations(
            datagrams, self._send, self.dropped, lookups or Lookups(), checkName
        )
        self._senders = self._destinations.senders
        self._isClient = isClient
        self._end = end
        self._idleTimeout = idleTimeout
        self._layer = layer
        self._meters = meters
        self._reassembly = Reassembly(reactor, self.dropped) if reassembles else None
        self._client: tuple[str, int] | None = None
        self._socket: socket.socket | None = None
        self._seconds: Callable[[], float] = reactor.seconds
        self._lastMoved = reactor.seconds()
        self._timer: IDelayedCall | None = None
        self.bytesUp = self.bytesDown = 0
        self.datagramsUp = self.datagramsDown = 0
        self.drops: Counter[str] = Counter()

    def startProtocol(self) -> None:
        """
        The port is open.
        """
        self._socket = self.transport.getHandle()
        self._timer = self._reactor.callLater(self._idleTimeout, self._checkIdle)
        self._datagrams.start(self)

    def close(self) -> None:
        """
        Close the port and the way out.
        """
        self._closePort()
        self._destinations.close()
        self._datagrams.close()

    def _closePort(self) -> None:
        if self._socket is None:
            return
        self._socket = None
        self.transport.stopListening()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._reassembly is not None:
            self._reassembly.abandon()

    def bound(self, meters: Meters) -> None:
        """
        Carry no more than there is credit for.
        """
        self._meters = meters

    @property
    def local(self) -> Address:
        """
        Where it receives the client's datagrams.
        """
        local: Address = self.transport.local
        return local

    @property
    def denial(self) -> str:
        """
        Why the policy has denied a destination, the last time.
        """
        return self._destinations.denial

    async def revise(self) -> None:
        """
        The policy may have changed.
        """
        self._destinations.forget()
        if IRevisable.providedBy(self._datagrams):
            await self._datagrams.revise()

    @property
    def ports(self) -> Collection[int]:
        """
        The UDP ports of this host that it sends to destinations from.
        """
        return self._datagrams.ports

    def dropped(self, reason: str) -> None:
        """
        A datagram is not passed on.
        """
        self.drops[reason] += 1

    # -- from the client to destinations ------------------------------------------

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """
        Something came to where the client sends.
        """
        if addr != self._client and (
            self._client is not None or not self._isClient(addr)
        ):
            self.dropped("source")
            return
        try:
            if self._layer is not None:
                datagram = self._layer.unwrapDatagram(datagram)
            end = datagramHeaderLength(datagram)
        except SOCKSError:
            self.dropped("malformed")
            return
        except Exception:
            self._layerFailed("unwrapDatagram")
            return
        header = datagram[2:end]
        send = self._senders.get(header)
        if send is None:
            self._takeNew(header, datagram[end:], addr)
        else:
            self._send(send, datagram[end:])

    def _takeNew(self, header: bytes, payload: bytes, addr: tuple[str, int]) -> None:
        """
        The client names a destination for the first time, or sends a fragment.
        """
        fragment = header[0]
        if fragment and self._reassembly is None:
            self.dropped("fragment")
            return
        self._client = addr
        if fragment and self._reassembly is not None:
            whole = self._reassembly.add(fragment, header[1:], payload)
            if whole is None:
                return
            header, payload = b"\0" + header[1:], whole
        self._destinations.take(header, payload)

    def _send(self, send: Callable[[bytes], object], payload: bytes) -> None:
        if self._meters is not None and not self._meters.up.carry(len(payload)):
            self.dropped("bandwidth")
            return
        try:
            send(payload)
        except OSError as problem:
            self.dropped(_whyNot(problem))
        else:
            self._lastMoved = self._seconds()
            self.datagramsUp += 1
            self.bytesUp += len(payload)

    # -- from destinations to the client ------------------------------------------

    def received(self, header: bytes, payload: bytes) -> None:
        """
        Something came back for the client.
        """
        if self._socket is None or self._client is None:
            return
        if self._meters is not None and not self._meters.down.carry(len(payload)):
            self.dropped("bandwidth")
            return
        datagram = header + payload
        try:
            if self._layer is not None:
                datagram = self._layer.wrapDatagram(datagram)
            self._socket.sendto(datagram, self._client)
        except OSError as problem:
            self.dropped(_whyNot(problem))
        except Exception:
            self._layerFailed("wrapDatagram")
        else:
            self._lastMoved = self._seconds()
            self.datagramsDown += 1
            self.bytesDown += len(payload)

    def _layerFailed(self, method: str) -> None:
        # Its text may hold what is to be protected.
        logDefect(self._layer, method, Failure(), withText=False)
        self._end("protection failed")

    # -- the end ------------------------------------------------------------------

    def ended(self, reason: str) -> None:
        """
        There is no way out any more.
        """
        if self._socket is not None:
            self._end(reason)

    def _checkIdle(self) -> None:
        left = self._lastMoved + self._idleTimeout - self._seconds()
        if left > 0:
            self._timer = self._reactor.callLater(left, self._checkIdle)
        else:
            self._timer = None
            self._end("idle")


def _whyNot(problem: OSError) -> str:
    return "size" if problem.errno == EMSGSIZE else "unsent"
