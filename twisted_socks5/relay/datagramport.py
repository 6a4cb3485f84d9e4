# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Ports for datagrams.

Twisted's C{listenUDP} reads on until 256 KiB have come, to which empty datagrams
add nothing: whoever sends them fast enough stops the reactor.  It also logs two
lines for each port, and checks each address anew that is sent to.
"""

from __future__ import annotations

import socket
from errno import EADDRINUSE
from ipaddress import IPv6Address
from typing import Any

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_socks5.addresses import IPAddress, familyOf, fromSocketName
from twisted_socks5.device import bindToDevice
from twisted_socks5.errors import CommandNotSupported, GeneralFailure, errorForOSError
from twisted_socks5.observe.defects import logDefect
from twisted_socks5.settings import Ports

_MAX_DATAGRAM = 65536
"""
More than the payload of any UDP datagram, so that none is cut.
"""

_AT_ONCE = 64
"""
How many datagrams are received before others get their turn.
"""

_RECEIVE_BUFFER = 1024 * 1024
_SO_RCVBUFFORCE = 33  # Linux; not in Python's socket module


@implementer(IReadDescriptor)
class DatagramPort:
    """
    The transport of a C{DatagramProtocol}, which sends by the socket itself.

    @ivar local: The address of this host that it receives at.
    """

    def __init__(
        self, reactor: Any, protocol: DatagramProtocol, opened: socket.socket
    ) -> None:
        """
        @param opened: Bound, and non-blocking.
        """
        self._reactor = reactor
        self._protocol = protocol
        self._socket = opened
        self._isIPv6 = opened.family == socket.AF_INET6
        self.local = fromSocketName(opened.getsockname())
        reactor.addReader(self)

    def getHandle(self) -> socket.socket:
        """
        The socket.
        """
        return self._socket

    def stopListening(self) -> None:
        """
        Close it.
        """
        self._reactor.removeReader(self)
        self._close()

    # -- IReadDescriptor ------------------------------------------------------

    def fileno(self) -> int:
        """
        The descriptor for the reactor to watch.
        """
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """
        What the reactor calls us.
        """
        return "datagrams"

    def doRead(self) -> None:
        """
        Datagrams came.
        """
        receive, deliver = self._socket.recvfrom, self._protocol.datagramReceived
        for _ in range(_AT_ONCE):
            try:
                datagram, source = receive(_MAX_DATAGRAM)
            except OSError:  # there is none, or an error that one of ours has met
                return
            if self._isIPv6:
                source = source[:2]
            try:
                deliver(datagram, source)
            except Exception:
                logDefect(self._protocol, "datagramReceived", Failure())

    def connectionLost(self, reason: Failure) -> None:
        """
        The reactor ends.
        """
        self._close()

    def _close(self) -> None:
        if self._socket.fileno() != -1:
            self._socket.close()
            self._protocol.doStop()


def openDatagramPort(
    reactor: Any,
    protocol: DatagramProtocol,
    host: IPAddress,
    ports: Ports,
    interface: str = "",
) -> None:
    """
    Open a UDP port that takes whole datagrams, and bursts of them.

    @param protocol: Is given a L{DatagramPort} for its transport.
    @param host: The address of this host to receive at; a link-local one with its
        scope, a number.
    @param ports: Which ports there are.
    @param interface: The network interface to keep to; empty is any.
    @raise ReplyError: It cannot be opened.
    """
    if not IReactorFDSet.providedBy(reactor):
        raise CommandNotSupported("the reactor cannot watch a port of ours")
    for number in ports.inTurn():
        try:
            opened = socket.socket(familyOf(host), socket.SOCK_DGRAM)
        except OSError as error:
            raise errorForOSError(error) from None
        try:
            opened.setblocking(False)
            bindToDevice(opened, interface)
            opened.bind(_socketName(host, number))
            _enlarge(opened)
        except OSError as error:
            opened.close()
            if ports.areGiven and error.errno == EADDRINUSE:
                continue
            raise errorForOSError(error) from None
        port: Any = DatagramPort(reactor, protocol, opened)
        protocol.makeConnection(port)
        return
    raise GeneralFailure(f"no port of {ports} is free")


def _socketName(host: IPAddress, port: int) -> tuple[Any, ...]:
    """
    An address as C{bind} takes it, which would overlook a scope in the text.
    """
    if isinstance(host, IPv6Address) and host.scope_id:
        text, _, scope = str(host).partition("%")
        return text, port, 0, int(scope)
    return str(host), port


def _enlarge(opened: socket.socket) -> None:
    """
    Have the kernel keep bursts.
    """
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    try:
        # With the privilege for it, beyond what net.core.rmem_max allows.
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
    except OSError:
        pass
