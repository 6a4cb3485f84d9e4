# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Listening in one process for others: binding without accepting, and accepting from
what another process has bound.

Both stand in for the reactor, so that an endpoint string means the same in both.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
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


class BindingReactor(_InsteadOfReactor):
    """
    Binds, and never accepts.

    @ivar ports: What is bound, in order.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self.ports: list[Any] = []

    def listenTCP(self, *args: Any, **kwargs: Any) -> IListeningPort:
        """
        Bind a TCP port.
        """
        return self._held(self._reactor.listenTCP(*args, **kwargs))

    def listenSSL(self, *args: Any, **kwargs: Any) -> IListeningPort:
        """
        Bind a TCP port.
        """
        return self._held(self._reactor.listenSSL(*args, **kwargs))

    def listenUNIX(self, *args: Any, **kwargs: Any) -> IListeningPort:
        """
        Bind a UNIX socket.
        """
        return self._held(self._reactor.listenUNIX(*args, **kwargs))

    def adoptStreamPort(self, *args: Any, **kwargs: Any) -> IListeningPort:
        """
        Take over what somebody else has bound.
        """
        return self._held(self._reactor.adoptStreamPort(*args, **kwargs))

    def _held(self, port: Any) -> IListeningPort:
        port.stopReading()
        self.ports.append(port)
        held: IListeningPort = port
        return held


class AdoptingReactor(_InsteadOfReactor):
    """
    Accepts from sockets that were inherited: each call for listening takes the next
    one, whatever it says itself.
    """

    def __init__(self, reactor: Any, inherited: Iterable[socket.socket]) -> None:
        super().__init__(reactor)
        self._inherited = iter(inherited)

    def listenTCP(
        self,
        port: int,
        factory: IProtocolFactory,
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        """
        Accept from the next one.
        """
        return self._adopt(factory)

    def listenSSL(
        self,
        port: int,
        factory: IProtocolFactory,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        """
        Accept from the next one, with TLS.
        """
        return self._adopt(TLSMemoryBIOFactory(contextFactory, False, factory))

    def listenUNIX(
        self,
        address: str,
        factory: IProtocolFactory,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: bool = False,
    ) -> IListeningPort:
        """
        Accept from the next one.
        """
        return self._adopt(factory)

    def adoptStreamPort(
        self, fileDescriptor: int, addressFamily: int, factory: IProtocolFactory
    ) -> IListeningPort:
        """
        Accept from the next one.
        """
        return self._adopt(factory)

    def _adopt(self, factory: IProtocolFactory) -> IListeningPort:
        inherited = next(self._inherited)
        if inherited.family == socket.AF_UNIX:
            port = AdoptedUNIXPort(self._reactor, inherited, factory)
            port.startListening()
            return port
        with inherited:
            adopted: IListeningPort = self._reactor.adoptStreamPort(
                inherited.fileno(), inherited.family, factory
            )
        return adopted


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
