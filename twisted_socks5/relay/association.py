# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The relay of one UDP association (RFC 1928, section 7): datagrams from a client
to their destinations, and what comes back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from errno import EMSGSIZE
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_socks5 import wire
from twisted_socks5.addresses import Address, addressOf
from twisted_socks5.errors import ConnectionNotAllowed, SOCKSError
from twisted_socks5.interfaces import (
    IDatagramReceiver,
    IDatagrams,
    IDatagramTraffic,
    IStreamLayer,
)
from twisted_socks5.observe.defects import logDefect
from twisted_socks5.outcome import outcomeOf
from twisted_socks5.relay.fragments import Reassembly

if TYPE_CHECKING:
    import socket

MAX_DESTINATIONS = 4096
"""
How many destinations of a client are remembered, and how many that it may not
send to.
"""

MAX_WAITING = 256 * 1024
"""
How many bytes of a client's may wait for destinations to be looked up and
judged.
"""

MAX_LOOKUPS = 64
"""
How many destinations of a client may be looked up and judged at once.
"""

_WAITING_EACH = 64
"""
How many datagrams may wait for one destination.
"""


@implementer(IDatagramReceiver, IDatagramTraffic)
class Association(DatagramProtocol):
    """
    Receives the datagrams of one client.

    The first datagram that a destination is named by has it looked up and
    judged; what does that is remembered by the very bytes of the header, so
    that all others take one look into a dictionary.

    @ivar client: Where the client's datagrams come from, once one has come.
    @ivar drops: How many datagrams were dropped, by reason.
    """

    noisy = False
    transport: Any

    def __init__(
        self,
        reactor: Any,
        datagrams: IDatagrams,
        isClient: Callable[[str], bool],
        idle: Callable[[], object],
        idleTimeout: float,
        layer: IStreamLayer | None = None,
        reassembles: bool = False,
    ) -> None:
        """
        @param datagrams: The way out.
        @param isClient: Whether an IP address is the client's.
        @param idle: Called when nothing has moved for C{idleTimeout} seconds.
        @param layer: What protects the client's datagrams.
        @param reassembles: Whether fragments are joined, else they are dropped.
        """
        self._reactor = reactor
        self._datagrams = datagrams
        self._isClient = isClient
        self._idle = idle
        self._idleTimeout = idleTimeout
        self._layer = layer
        self._reassembly = Reassembly(reactor) if reassembles else None
        self._socket: socket.socket | None = None
        self.client: tuple[str, int] | None = None
        self.bytesUp = self.bytesDown = 0
        self.datagramsUp = self.datagramsDown = 0
        self.drops: Counter[str] = Counter()
        # All by the header of a datagram, from FRAG on.
        self._senders: dict[bytes, Callable[[bytes], object]] = {}
        self._denied: dict[bytes, None] = {}
        self._waiting: dict[bytes, list[bytes]] = {}
        self._waitingSize = 0
        self._lookups: dict[bytes, Deferred[None]] = {}
        self._seconds: Callable[[], float] = reactor.seconds
        self._lastMoved = reactor.seconds()
        self._timer: IDelayedCall | None = None

    def startProtocol(self) -> None:
        """
        The port is open.
        """
        self._socket = self.transport.getHandle()
        self._timer = self._reactor.callLater(self._idleTimeout, self._checkIdle)
        self._datagrams.start(self)

    def close(self) -> None:
        """
        Close the port and the way out, and forget everybody.
        """
        self._datagrams.close()
        if self._socket is None:
            return
        self._socket = None
        self.transport.stopListening()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._reassembly is not None:
            self._reassembly.abandon()
        for lookup in list(self._lookups.values()):
            lookup.cancel()

    @property
    def local(self) -> Address:
        """
        Where it receives the client's datagrams.
        """
        return addressOf(self.transport.getHost())

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
        if addr != self.client and (
            self.client is not None or not self._isClient(addr[0])
        ):
            self.dropped("source")
            return
        try:
            if self._layer is not None:
                datagram = self._layer.unwrapDatagram(datagram)
            end = wire.datagramHeaderLength(datagram)
        except SOCKSError:
            self.dropped("malformed")
            return
        header = datagram[2:end]
        send = self._senders.get(header)
        if send is None:
            if self._socket is not None:
                self._comeToKnow(header, datagram[end:], addr)
            return
        self._lastMoved = self._seconds()
        self._send(send, datagram[end:])

    def _send(self, send: Callable[[bytes], object], payload: bytes) -> None:
        try:
            send(payload)
        except OSError as problem:
            self.dropped("size" if problem.errno == EMSGSIZE else "unsent")
        else:
            self.datagramsUp += 1
            self.bytesUp += len(payload)

    def _comeToKnow(self, header: bytes, payload: bytes, addr: tuple[str, int]) -> None:
        """
        The client names a destination for the first time, or one that
        nothing, or nothing yet, is sent to; or it sends a fragment.
        """
        if header[0]:
            whole = None
            if self._reassembly is not None:
                self._knowClient(addr)
                whole = self._reassembly.add(header[0], header[1:], payload)
            else:
                self.dropped("fragment")
            if whole is None:
                return
            header, payload = b"\0" + whole[0], whole[1]
        self._knowClient(addr)
        send = self._senders.get(header)
        if send is not None:
            self._send(send, payload)
        elif header in self._denied:
            self.dropped("denied")
        else:
            self._wait(header, payload)

    def _knowClient(self, addr: tuple[str, int]) -> None:
        """
        From here on the client's datagrams come from one port.
        """
        self.client = addr
        self._lastMoved = self._seconds()

    def _wait(self, header: bytes, payload: bytes) -> None:
        """
        Keep a payload until its destination is known.
        """
        queue = self._waiting.get(header)
        if (
            self._waitingSize + len(payload) > MAX_WAITING
            or (queue is None and len(self._waiting) >= MAX_LOOKUPS)
            or (queue is not None and len(queue) >= _WAITING_EACH)
        ):
            self.dropped("queue")
            return
        self._waitingSize += len(payload)
        if queue is not None:
            queue.append(payload)
            return
        self._waiting[header] = [payload]
        lookup = Deferred.fromCoroutine(self._lookUp(header))
        if header in self._waiting:
            self._lookups[header] = lookup

    async def _lookUp(self, header: bytes) -> None:
        """
        Find the way to a destination, and send what waits for it.
        """
        send = None
        try:
            _, host, port, _ = wire.parseDatagramHeader(b"\0\0" + header)
            destination = (
                Address.fromName(host, port)
                if isinstance(host, bytes)
                else Address(host, port)
            )
            send = await outcomeOf(self._datagrams.sender(destination))
        except CancelledError:
            pass
        except ConnectionNotAllowed:
            _remember(self._denied, header, None)
            reason = "denied"
        except SOCKSError:
            reason = "unreachable"
        except Exception:
            logDefect(self._datagrams, "sender", Failure())
            reason = "unreachable"
        waiting = self._waiting.pop(header)
        self._lookups.pop(header, None)
        self._waitingSize -= sum(map(len, waiting))
        if self._socket is None:
            return  # it has ended meanwhile
        if send is not None:
            _remember(self._senders, header, send)
        for payload in waiting:
            if send is None:
                self.dropped(reason)
            else:
                self._send(send, payload)

    # -- from destinations to the client ------------------------------------------

    def received(self, header: bytes, payload: bytes) -> None:
        """
        Something came back for the client.
        """
        if self._socket is None or self.client is None:
            return
        datagram = header + payload
        try:
            if self._layer is not None:
                datagram = self._layer.wrapDatagram(datagram)
            self._socket.sendto(datagram, self.client)
        except (OSError, SOCKSError) as problem:
            isLong = isinstance(problem, OSError) and problem.errno == EMSGSIZE
            self.dropped("size" if isLong else "unsent")
        else:
            self.datagramsDown += 1
            self.bytesDown += len(payload)
            self._lastMoved = self._seconds()

    # -- the end ------------------------------------------------------------------

    def _checkIdle(self) -> None:
        left = self._lastMoved + self._idleTimeout - self._seconds()
        if left > 0:
            self._timer = self._reactor.callLater(left, self._checkIdle)
        else:
            self._timer = None
            self._idle()


def _remember(known: dict[bytes, Any], header: bytes, what: Any) -> None:
    """
    Remember something, and forget the oldest where there is too much.
    """
    known[header] = what
    if len(known) > MAX_DESTINATIONS:
        del known[next(iter(known))]
