# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What a start would find wrong, looked for without starting: no file is made, and
nothing listens.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping
from errno import EADDRINUSE, EEXIST
from typing import Any

import attrs
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from zope.interface import directlyProvides, implementer, providedBy

from twisted_socks5.observe.destinations import checkFolder
from twisted_socks5.service.configuration import Configuration, Said
from twisted_socks5.service.listeners import Listener
from twisted_socks5.service.logs import checkLogs
from twisted_socks5.service.metrics import checkStatus
from twisted_socks5.service.overlap import ANYWHERE
from twisted_socks5.service.prepared import Prepared, prepare
from twisted_socks5.service.quotas import ledgerOf


def lookAt(
    reactor: Any,
    configuration: Configuration,
    runner: Any,
    environment: Mapping[str, str] = os.environ,
) -> Prepared:
    """
    Make what a configuration asks for, and see whether it could be started.  That
    somebody listens at a port is not told: it may be the server that is to be
    changed.

    @param runner: The options of C{twistd} or C{twist}, if there are any.
    @return: What was made.
    @raise ValueError: It could not be started; the text says why.
    """
    checkLogs(configuration, runner)
    ledgerOf(reactor, configuration)
    prepared = prepare(reactor, configuration)
    looking = LookingReactor(reactor)
    for settings, factory in prepared.served:
        if "LISTEN_FDS" in environment or not _isInherited(settings.endpoint):
            Listener.open(looking, settings, factory)
    checkStatus(looking, configuration)
    return prepared


def _isInherited(endpoint: Said) -> bool:
    """
    Whether an endpoint is what systemd has opened for the server, and for nobody else.
    """
    return endpoint.text.removeprefix("haproxy:").startswith("systemd:")


@implementer(IListeningPort)
@attrs.frozen
class _Place:
    """
    Where somebody would listen.
    """

    address: IAddress

    def startListening(self) -> None:
        """
        Nobody does.
        """

    def stopListening(self) -> None:
        """
        Nobody has.
        """

    def getHost(self) -> IAddress:
        """
        Where it would be.
        """
        return self.address


def _checkLength(address: str | bytes) -> None:
    """
    See that a path is not longer than one of a UNIX socket can be.  Another kind of
    socket is not connected to it, whoever listens there.

    @raise OSError: It is longer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(address)
        except OSError as error:
            if error.errno is None:
                raise


def _socketName(interface: str, port: int) -> tuple[Any, ...]:
    """
    What to bind for a port, with the number of the network interface that an address
    may have the name of behind it, such as C{fe80::1%eth0}.

    @raise OSError: There is no such network interface.
    """
    if "%" not in interface:
        return interface, port
    found = socket.getaddrinfo(
        interface, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )
    return found[0][4]


class LookingReactor:
    """
    A reactor, but for listening: it only looks whether that could be done.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """
        See whether the port may be bound, and is of this host.  Bound it is for a
        moment only, without listening, which keeps nobody else from it.

        @raise CannotListenError: It may not.
        """
        isIPv6 = ":" in interface
        family = socket.AF_INET6 if isIPv6 else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(_socketName(interface, port))
        except OSError as error:
            if error.errno != EADDRINUSE:
                raise CannotListenError(interface, port, error) from None
        kind = IPv6Address if isIPv6 else IPv4Address
        return _Place(kind("TCP", interface or ANYWHERE, port))

    def listenSSL(
        self,
        port: int,
        factory: Any,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        """
        The same.
        """
        return self.listenTCP(port, factory, backlog, interface)

    def listenUNIX(
        self,
        address: str | bytes,
        factory: Any,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: bool = False,
    ) -> IListeningPort:
        """
        See whether there could be a UNIX socket.

        @raise CannotListenError: There could not.
        """
        path = os.path.abspath(os.fsdecode(address))
        try:
            _checkLength(address)
            checkFolder(os.path.dirname(path))
            if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
                raise FileExistsError(EEXIST, os.strerror(EEXIST), path)
        except OSError as error:
            raise CannotListenError(None, path, error) from None
        return _Place(UNIXAddress(os.fsencode(path)))

    def adoptStreamPort(
        self, fileDescriptor: int, addressFamily: int, factory: Any
    ) -> IListeningPort:
        """
        See what was inherited.
        """
        with socket.fromfd(
            fileDescriptor, addressFamily, socket.SOCK_STREAM
        ) as inherited:
            name = inherited.getsockname()
        if addressFamily == socket.AF_UNIX:
            return _Place(UNIXAddress(os.fsencode(name)))
        kind = IPv6Address if addressFamily == socket.AF_INET6 else IPv4Address
        return _Place(kind("TCP", name[0], name[1]))
