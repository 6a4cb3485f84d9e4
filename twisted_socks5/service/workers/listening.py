# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Listening in one process for others: binding without accepting, and accepting from
what another process has bound.

Both stand in for the reactor, so that an endpoint string means the same in both.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IProtocolFactory,
    IReadDescriptor,
)
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import directlyProvides, implementer, providedBy

_AT_ONCE = 16
"""
How many clients are accepted before others get their turn.
"""


_PAUSE = 0.1
"""
How long, in seconds, it is waited for descriptors where there are too few.
"""


class _InsteadOfReactor:
    """
    A reactor, but for listening.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


@implementer(IListeningPort)
class HeldPort:
    """
    A port that is bound for others, who accept from it.

    @ivar key: What it was bound for, which those others will ask for too.
    """

    def __init__(self, key: str, port: Any, released: list[Any]) -> None:
        """
        @param port: Is never read.
        @param released: Where it goes when it is needed no more.
        """
        self.key = key
        self._port = port
        self._released = released
        port.stopReading()

    def startListening(self) -> None:
        """
        It is bound.
        """

    def stopListening(self) -> Deferred[None]:
        """
        Say that it is needed no more.  Twisted shuts a socket down when it closes it,
        for all that share it, and they are to stop accepting first.
        """
        self._released.append(self._port)
        return succeed(None)

    def getHost(self) -> Any:
        """
        Where clients connect.
        """
        return self._port.getHost()

    def fileno(self) -> int:
        """
        The descriptor.
        """
        number: int = self._port.fileno()
        return number


class BindingReactor(_InsteadOfReactor):
    """
    Binds, and never accepts.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self._released: list[IListeningPort] = []

    def takeReleased(self) -> list[IListeningPort]:
        """
        Those that are needed no more since this was asked the last time.  Who asks
        has to close them.
        """
        released = list(self._released)
        self._released.clear()
        return released

    def listenTCP(
        self,
        port: int,
        factory: IProtocolFactory,
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        """
        Bind a TCP port.
        """
        bound = self._reactor.listenTCP(port, factory, backlog, interface)
        return self._held(_tcp(interface, port), bound)

    def listenSSL(
        self,
        port: int,
        factory: IProtocolFactory,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        """
        Bind a TCP port.
        """
        bound = self._reactor.listenSSL(
            port, factory, contextFactory, backlog, interface
        )
        return self._held(_tcp(interface, port), bound)

    def listenUNIX(
        self, address: str, factory: IProtocolFactory, *args: Any, **kwargs: Any
    ) -> IListeningPort:
        """
        Bind a UNIX socket.
        """
        bound = self._reactor.listenUNIX(address, factory, *args, **kwargs)
        return self._held(_unix(address), bound)

    def adoptStreamPort(
        self, fileDescriptor: int, addressFamily: int, factory: IProtocolFactory
    ) -> IListeningPort:
        """
        Take over what somebody else has bound.
        """
        bound = self._reactor.adoptStreamPort(fileDescriptor, addressFamily, factory)
        return self._held(_descriptor(fileDescriptor), bound)

    def _held(self, key: str, bound: Any) -> IListeningPort:
        return HeldPort(key, bound, self._released)


class AdoptingReactor(_InsteadOfReactor):
    """
    Accepts from sockets of another process: a call for listening takes the one that
    the other process has bound for the same call.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self._offered: list[tuple[str, socket.socket]] = []
        self._adopted: list[Any] = []

    def offer(self, key: str, listening: socket.socket) -> None:
        """
        There is a socket.

        @param key: As of its L{HeldPort}.
        """
        self._adopted = [port for port in self._adopted if port.fileno() != -1]
        own = listening.fileno()
        if any(os.path.sameopenfile(port.fileno(), own) for port in self._adopted):
            listening.close()  # it is one that we accept from
        else:
            self._offered.append((key, listening))

    def drop(self) -> None:
        """
        Close what was not taken.
        """
        for _, listening in self._offered:
            listening.close()
        self._offered.clear()

    def listenTCP(
        self,
        port: int,
        factory: IProtocolFactory,
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        """
        Accept from it.
        """
        return self._adopt(_tcp(interface, port), factory)

    def listenSSL(
        self,
        port: int,
        factory: IProtocolFactory,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        """
        Accept from it, with TLS.
        """
        tls = TLSMemoryBIOFactory(contextFactory, False, factory)
        return self._adopt(_tcp(interface, port), tls)

    def listenUNIX(
        self,
        address: str,
        factory: IProtocolFactory,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: bool = False,
    ) -> IListeningPort:
        """
        Accept from it.
        """
        return self._adopt(_unix(address), factory)

    def adoptStreamPort(
        self, fileDescriptor: int, addressFamily: int, factory: IProtocolFactory
    ) -> IListeningPort:
        """
        Accept from it.
        """
        return self._adopt(_descriptor(fileDescriptor), factory)

    def _adopt(self, key: str, factory: IProtocolFactory) -> IListeningPort:
        listening = self._take(key)
        port: Any
        if listening.family == socket.AF_UNIX:
            port = AdoptedUNIXPort(self._reactor, listening, factory)
            port.startListening()
        else:
            with listening:
                port = self._reactor.adoptStreamPort(
                    listening.fileno(), listening.family, factory
                )
        self._adopted.append(port)
        adopted: IListeningPort = port
        return adopted

    def _take(self, key: str) -> socket.socket:
        for place, (offered, listening) in enumerate(self._offered):
            if offered == key:
                del self._offered[place]
                return listening
        raise ValueError(
            "the server does not listen there yet; SIGHUP has it load the configuration"
        )


def _tcp(interface: str, port: int) -> str:
    return f"tcp {interface} {port}"


def _unix(address: str) -> str:
    return f"unix {os.fsdecode(address)}"


def _descriptor(number: int) -> str:
    return f"descriptor {number}"


@implementer(IListeningPort, IReadDescriptor)
class AdoptedUNIXPort:
    """
    Accepts from a UNIX socket of another process.  Twisted's own port would set the
    mode of its file, and remove the file when it has done.
    """

    def __init__(
        self, reactor: Any, listening: socket.socket, factory: IProtocolFactory
    ) -> None:
        self._reactor = reactor
        self._listening = listening
        self._factory = factory
        self._pause: IDelayedCall | None = None

    def startListening(self) -> None:
        """
        Begin to accept.
        """
        self._factory.doStart()
        self.startReading()

    def startReading(self) -> None:
        """
        Accept.
        """
        self._reactor.addReader(self)

    def stopReading(self) -> None:
        """
        Accept nobody for now.
        """
        self._reactor.removeReader(self)

    def stopListening(self) -> Deferred[None]:
        """
        Accept nobody any more.  For others, the socket stays as it is.
        """
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self.fileno() != -1:
            self.stopReading()
            self._listening.close()
            self._factory.doStop()
        return succeed(None)

    def getHost(self) -> UNIXAddress:
        """
        Where clients connect.
        """
        return UNIXAddress(self._listening.getsockname())

    def fileno(self) -> int:
        """
        The descriptor; -1 when it is closed.
        """
        return self._listening.fileno()

    def doRead(self) -> None:
        """
        Accept those who wait.
        """
        for _ in range(_AT_ONCE):
            try:
                client, _peer = self._listening.accept()
            except BlockingIOError:  # another process was faster, or that was all
                return
            except OSError:  # there are too few descriptors
                self.stopReading()
                self._pause = self._reactor.callLater(_PAUSE, self._goOn)
                return
            with client:
                client.setblocking(False)
                self._reactor.adoptStreamConnection(
                    client.fileno(), socket.AF_UNIX, self._factory
                )

    def _goOn(self) -> None:
        self._pause = None
        self.startReading()

    def connectionLost(self, reason: object) -> None:
        """
        The reactor has ended.
        """
        self.stopListening()

    def logPrefix(self) -> str:
        """
        What the log calls it.
        """
        return "AdoptedUNIXPort"
