# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Listening on this host for one peer (BIND).

The port is a socket of our own, registered with the reactor, so that a peer is
judged while it is nothing but a connected socket, and the next one waits.
"""

from __future__ import annotations

import socket
from collections.abc import Container
from errno import EADDRINUSE
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_socks5.addresses import Address, IPAddress, familyOf, fromSocketName
from twisted_socks5.device import bindToDevice
from twisted_socks5.errors import ConnectionNotAllowed, GeneralFailure, errorForOSError
from twisted_socks5.interfaces import IListening, IOutbound
from twisted_socks5.routes.dial import SocketOutbound
from twisted_socks5.settings import BindSettings, Ports

if TYPE_CHECKING:
    from twisted_socks5.interfaces import Check

_BACKLOG = 128
"""
How many peers may wait while one is judged.
"""

_PATIENCE = 1.0
"""
How long to leave peers waiting when this host has no descriptors left, in
seconds.
"""


@implementer(IListening, IReadDescriptor)
class Listening:
    """
    A port that waits for one peer.
    """

    def __init__(
        self,
        reactor: Any,
        port: socket.socket,
        expected: Container[IPAddress] | None,
        check: Check,
        local: Address,
    ) -> None:
        """
        @param port: Bound, listening, and non-blocking.
        @param expected: Who may connect; L{None} is anybody.
        @param check: Judges a peer.
        @param local: Where peers are to connect to.
        """
        self._reactor = reactor
        self._port = port
        self._expected = expected
        self._check = check
        self._judging: Deferred[None] | None = None
        self._retry: IDelayedCall | None = None
        self._accepted: Deferred[IOutbound] = Deferred(lambda _: self.close())
        self.local = local

    def accept(self) -> Deferred[IOutbound]:
        """
        Wait for the peer.
        """
        self._reactor.addReader(self)
        return self._accepted

    def close(self) -> None:
        """
        Close the port, if it is still open.
        """
        self._reactor.removeReader(self)
        self._port.close()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._judging is not None:
            self._judging.cancel()

    # -- IReadDescriptor ------------------------------------------------------

    def fileno(self) -> int:
        """
        The descriptor for the reactor to watch.
        """
        return self._port.fileno()

    def logPrefix(self) -> str:
        """
        What the reactor calls us.
        """
        return "bind"

    def doRead(self) -> None:
        """
        Somebody has connected.
        """
        try:
            peer, name = self._port.accept()
        except (BlockingIOError, ConnectionError):
            return  # gone again
        except OSError:
            # No descriptor left for it.  It waits, and we do not spin.
            self._reactor.removeReader(self)
            self._retry = self._reactor.callLater(_PATIENCE, self._resume)
            return
        peer.setblocking(False)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        address = fromSocketName(name)
        if self._expected is not None and address.ip not in self._expected:
            peer.close()
            return
        self._reactor.removeReader(self)
        self._judging = Deferred.fromCoroutine(self._judge(peer, address))

    def connectionLost(self, reason: Failure) -> None:
        """
        The reactor ends.
        """
        self.close()

    def _resume(self) -> None:
        self._retry = None
        self._reactor.addReader(self)

    async def _judge(self, peer: socket.socket, address: Address) -> None:
        """
        Take a peer, or close it and go on waiting.
        """
        try:
            await self._check(address)
        except ConnectionNotAllowed:
            peer.close()
            self._judging = None
            self._reactor.addReader(self)
        except Exception:  # also when it is cancelled
            peer.close()
            self._judging = None
            if not self._accepted.called:
                self._accepted.errback()
        else:
            self._judging = None
            self.close()
            self._accepted.callback(SocketOutbound(self._reactor, peer, address))


def listen(
    reactor: Any,
    host: IPAddress,
    expected: Container[IPAddress] | None,
    check: Check,
    settings: BindSettings,
    interface: str = "",
) -> Listening:
    """
    Listen on an address of this host.

    @param reactor: Provides C{IReactorFDSet}.
    @param host: The address to listen on.
    @param expected: Who may connect; L{None} is anybody.
    @param check: Judges a peer.
    @param settings: Which ports there are, and what is told of the address.
    @param interface: The network interface to keep to; empty is any.
    @raise ReplyError: It cannot be done.
    """
    try:
        port = _openPort(host, settings.ports, interface)
    except OSError as problem:
        raise errorForOSError(problem) from None
    local = fromSocketName(port.getsockname())
    public = settings.publicAddress.like(host)
    if public is not None:
        local = Address(public, local.port)
    return Listening(reactor, port, expected, check, local)


def _openPort(host: IPAddress, ports: Ports, interface: str) -> socket.socket:
    """
    Open one of the ports that there are.

    @return: A socket that listens, and does not block.
    @raise OSError: It cannot be done.
    @raise GeneralFailure: They are all in use.
    """
    for number in ports.inTurn():
        opened = socket.socket(familyOf(host), socket.SOCK_STREAM)
        try:
            opened.setblocking(False)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if opened.family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            bindToDevice(opened, interface)
            opened.bind((str(host), number))
            opened.listen(_BACKLOG)
        except OSError as problem:
            opened.close()
            if problem.errno != EADDRINUSE:
                raise
        else:
            return opened
    raise GeneralFailure(f"no port of {ports} is free")
