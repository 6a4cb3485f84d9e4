# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Proxies, destinations and clients in the test's own reactor, on loopback.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

from pytest_twisted import ensureDeferred
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    serverFromString,
    wrapServerTLS,
)
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.certificates import forLocalhost
from twisted_socks5 import (
    NoAuthentication,
    SOCKS5ServerFactory,
    UsernamePasswordAuthenticator,
)
from twisted_socks5.interfaces import IAuthenticator

Arguments = ParamSpec("Arguments")


def inReactor(
    test: Callable[Arguments, Coroutine[Deferred[Any], Any, None]],
) -> Callable[Arguments, None]:
    """
    Wait for a test as pytest-twisted does, with its types.
    """
    waited: Callable[Arguments, None] = ensureDeferred(test)
    return waited


def openSockets() -> set[str]:
    """
    The sockets of this process.
    """
    names = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            names.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:  # the one that listed them
            continue
    return {name for name in names if name.startswith("socket:")}


def passwords(**users: str) -> IAuthenticator:
    """
    Lets users in whose passwords are given.
    """
    known = InMemoryUsernamePasswordDatabaseDontUse()
    for name, password in users.items():
        known.addUser(name.encode(), password.encode())
    return UsernamePasswordAuthenticator.withCheckers(known)


def factoryOf(kind: Any) -> Any:
    """
    A factory that does not say when it begins.
    """
    factory: Any = Factory.forProtocol(kind)
    factory.noisy = False
    return factory


class Place:
    """
    Where things listen, until the test is over.
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.ports: list[Any] = []
        self.protocols: list[Any] = []

    async def listen(
        self,
        factory: IProtocolFactory,
        endpoint: str = "tcp:0:interface=127.0.0.1",
        isTLS: bool = False,
    ) -> int:
        """
        @return: The port, or 0 if it is at an endpoint that has none.
        """
        server = serverFromString(self.reactor, endpoint)
        if isTLS:
            server = wrapServerTLS(forLocalhost().options(), server)
        port: Any = await server.listen(factory)
        self.ports.append(port)
        return int(getattr(port.getHost(), "port", 0))

    async def serve(self, protocol: Callable[[], Any]) -> int:
        """
        Have protocols serve those who connect.
        """
        factory = factoryOf(protocol)
        built = factory.buildProtocol

        def build(addr: object) -> Any:
            self.protocols.append(built(addr))
            return self.protocols[-1]

        factory.buildProtocol = build
        return await self.listen(factory)

    async def proxy(
        self, *authenticators: IAuthenticator, **options: Any
    ) -> SOCKS5ServerFactory:
        """
        A proxy of ours; its C{port} is where it is.
        """
        factory = SOCKS5ServerFactory(
            self.reactor, authenticators or [NoAuthentication()], **options
        )
        factory.port = await self.listen(factory)  # type: ignore[attr-defined]  # for the tests alone
        return factory

    def to(self, port: int) -> TCP4ClientEndpoint:
        """
        An endpoint that connects to a port on 127.0.0.1.
        """
        return TCP4ClientEndpoint(self.reactor, "127.0.0.1", port)

    async def until(self, isSo: Callable[[], object], seconds: float = 10) -> None:
        """
        Wait for what only looking shows.
        """
        for _ in range(int(seconds * 200)):
            if isSo():
                return
            await self.pause(0.005)
        raise AssertionError("it did not come about")

    def pause(self, seconds: float) -> Deferred[None]:
        """
        Let the reactor run.
        """
        paused: Deferred[None] = Deferred()
        self.reactor.callLater(seconds, paused.callback, None)
        return paused

    async def close(self) -> None:
        """
        The test is over.
        """
        for port in self.ports:
            await port.stopListening()


class Peer(Protocol):
    """
    One end of a connection.

    @ivar received: What has come.
    @ivar reason: Why the connection ended, once it has.
    """

    transport: Any
    reason: type[BaseException] | None = None

    def __init__(self) -> None:
        self.received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason.type or ConnectionDone


@implementer(IHalfCloseableProtocol)
class HalfClosingPeer(Peer):
    """
    One end that is told of half-closes.
    """

    isReadClosed = False
    isWriteClosed = False

    def readConnectionLost(self) -> None:
        self.isReadClosed = True

    def writeConnectionLost(self) -> None:
        self.isWriteClosed = True


class Echo(Protocol):
    """
    Sends back what it gets.
    """

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)
