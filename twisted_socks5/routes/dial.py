# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Connecting to one IP address with a socket of our own, registered with the
reactor only while the kernel connects.

Next to C{connectTCP} this keeps the kernel's C{errno} as it was, leaves a bare
socket to whoever can do with one, and costs less a connection.
"""

from __future__ import annotations

import socket
from errno import EALREADY, EINPROGRESS
from os import strerror
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IProtocol,
    IReactorFDSet,
    IReactorSocket,
    ITransport,
    IWriteDescriptor,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_socks5.addresses import Address, IPAddress, familyOf, fromSocketName
from twisted_socks5.device import bindToDevice
from twisted_socks5.errors import (
    AddressTypeNotSupported,
    GeneralFailure,
    errorForOSError,
)
from twisted_socks5.interfaces import IOutbound

# Linux: choose the port when connecting, so that it is only unique for each
# destination; else a bound address runs out of ports after 28,000 connections.
_BIND_ADDRESS_NO_PORT: int | None = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)


@implementer(IOutbound)
class SocketOutbound:
    """
    A connected socket.
    """

    __slots__ = ("_reactor", "_socket", "local", "peer")

    def __init__(
        self, reactor: IReactorSocket, connected: socket.socket, peer: Address
    ) -> None:
        self._reactor = reactor
        self._socket: socket.socket | None = connected
        self.local = fromSocketName(connected.getsockname())
        self.peer: Address | None = peer

    def attach(self, protocol: IProtocol) -> ITransport:
        """
        Make a transport of the socket.

        @raise OSError: The destination has reset the connection meanwhile.
        """
        connected = self._take()
        factory: Any = Factory()
        factory.noisy = False
        factory.buildProtocol = lambda address: protocol
        try:
            # It works on a duplicate of the descriptor.
            self._reactor.adoptStreamConnection(
                connected.fileno(), connected.family, factory
            )
        finally:
            connected.close()
        attached: Any = protocol  # IProtocol does not tell of its transport
        transport: ITransport = attached.transport
        return transport

    def detachSocket(self) -> socket.socket | None:
        """
        Give the socket away.
        """
        return self._take()

    def abort(self) -> None:
        """
        Close the socket, if it is still here.
        """
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _take(self) -> socket.socket:
        taken, self._socket = self._socket, None
        if taken is None:
            raise RuntimeError("the connection was taken over already")
        return taken


@implementer(IWriteDescriptor)
class _Dial:
    """
    A socket that the kernel is connecting.
    """

    def __init__(
        self, reactor: Any, connecting: socket.socket, target: Address
    ) -> None:
        self._reactor = reactor
        self._socket = connecting
        self._target = target
        self.outcome: Deferred[IOutbound] = Deferred(self._cancel)
        reactor.addWriter(self)

    def fileno(self) -> int:
        """
        The descriptor for the reactor to watch.
        """
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """
        What the reactor calls us.
        """
        return "dial"

    def doWrite(self) -> None:
        """
        The kernel is done, one way or the other.
        """
        self._reactor.removeWriter(self)
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._fail(OSError(error, strerror(error)))
            return
        self.outcome.callback(SocketOutbound(self._reactor, self._socket, self._target))

    def connectionLost(self, reason: Failure) -> None:
        """
        The reactor tells of a failed connection in this way too, and of its
        own end.
        """
        if self._socket.fileno() != -1:
            self.doWrite()

    def _fail(self, problem: OSError) -> None:
        self._socket.close()
        self.outcome.errback(errorForOSError(problem))

    def _cancel(self, outcome: Deferred[IOutbound]) -> None:
        self._reactor.removeWriter(self)
        self._socket.close()


def canDial(reactor: Any) -> bool:
    """
    Whether a reactor can watch sockets of ours, and make transports of them.
    """
    return IReactorFDSet.providedBy(reactor) and IReactorSocket.providedBy(reactor)


def dial(
    reactor: Any,
    target: Address,
    bindAddress: IPAddress | None = None,
    interface: str = "",
) -> Deferred[IOutbound] | IOutbound:
    """
    Connect to an IP address.

    @param reactor: One that L{canDial}.
    @param bindAddress: The address on this host to go out from.
    @param interface: The network interface to go out by; empty is any.
    @return: The connection, at once or later.
    @raise ReplyError: It failed at once.
    """
    host = target.host
    assert not isinstance(host, str)
    if target.port == 0:
        raise GeneralFailure("port 0 cannot be connected to")
    if bindAddress is not None and bindAddress.version != host.version:
        raise AddressTypeNotSupported("the outbound address is of the other family")
    family = familyOf(host)
    try:
        connecting = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as problem:
        raise errorForOSError(problem) from None
    try:
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connecting.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        bindToDevice(connecting, interface)
        if bindAddress is not None:
            if _BIND_ADDRESS_NO_PORT is not None and family == socket.AF_INET:
                connecting.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
            connecting.bind((str(bindAddress), 0))
        name = (str(host), target.port)
        error = connecting.connect_ex(name)
        if error == EINPROGRESS:
            # On this host the connection is there by now, though the first call
            # does not tell so; that saves the reactor a round.
            error = connecting.connect_ex(name)
        if not error:
            return SocketOutbound(reactor, connecting, target)
        if error not in (EINPROGRESS, EALREADY):
            raise OSError(error, strerror(error))
    except OSError as problem:
        connecting.close()
        raise errorForOSError(problem) from None
    return _Dial(reactor, connecting, target).outcome
