# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
For the tests of those who use this package: proxies and clients in memory, that
do what the test wants, and a real server on loopback.

Nothing here needs a test framework.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from typing import Any, TypeVar

import attrs
from twisted.internet.address import IPv4Address as TCP4Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_socks5 import wire
from twisted_socks5.addresses import addressOf
from twisted_socks5.authenticators import NoAuthentication
from twisted_socks5.interfaces import IAuthenticator
from twisted_socks5.server.factory import SOCKS5ServerFactory

_Message = TypeVar("_Message")

_PROXY = TCP4Address("TCP", "192.0.2.1", 1080)
_CLIENT = TCP4Address("TCP", "192.0.2.99", 49152)


# -- a proxy in memory ------------------------------------------------------------


class FakeConnection(StringTransport):
    """
    A connection to a L{FakeProxy}, as the client's transport, and as the test
    sees it from the other end.

    @ivar request: What the client has asked for, once it has.
    @ivar login: Username and password, where it has sent them.
    @ivar received: Payload that the client has sent.
    @ivar isClosed: Whether it is over.
    """

    disconnecting: bool

    def __init__(self, proxy: FakeProxy, protocol: Any) -> None:
        super().__init__(peerAddress=_PROXY, lenient=True)  # type: ignore[no-untyped-call]
        self._proxy = proxy
        self._protocol = protocol
        self._buffer = bytearray()
        self._sent = 0
        self._state: Callable[[], bool] = self._greeting
        self.request: wire.Request | None = None
        self.login: tuple[bytes, bytes] | None = None
        self.received = b""
        self.isClosed = False

    # -- the test's end -------------------------------------------------------

    def send(self, data: bytes) -> None:
        """
        The destination sends payload.
        """
        self._protocol.dataReceived(data)

    def endStream(self) -> None:
        """
        The destination closes its direction.
        """
        if IHalfCloseableProtocol.providedBy(self._protocol):
            self._protocol.readConnectionLost()
        else:
            self.close()

    def close(self, reason: Exception | None = None) -> None:
        """
        The connection is lost.

        @param reason: Why; without it, because the other side closed.
        """
        if not self.isClosed:
            self.isClosed = self.disconnecting = True
            self._protocol.connectionLost(Failure(reason or ConnectionDone()))

    # -- the client's end -----------------------------------------------------

    def write(self, data: bytes) -> None:
        """
        Take what the client sends.
        """
        if self.isClosed:
            return
        super().write(data)  # type: ignore[no-untyped-call]
        self._buffer += data
        while not self.isClosed and self._state():
            pass

    def writeSequence(self, data: Any) -> None:
        """
        Take what the client sends.
        """
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """
        The client closes.
        """
        self.close()

    def abortConnection(self) -> None:
        """
        The client closes, in a hurry.
        """
        self.disconnected = True
        self.close(ConnectionAborted())

    # -- what the proxy does --------------------------------------------------

    def _take(
        self, parse: Callable[[bytearray], tuple[_Message, int] | None]
    ) -> _Message | None:
        parsed = parse(self._buffer)
        if parsed is None:
            return None
        message, length = parsed
        del self._buffer[:length]
        return message

    def _greeting(self) -> bool:
        greeting = self._take(wire.Greeting.parse)
        if greeting is None:
            return False
        proxy = self._proxy
        method = int(wire.Method.NONE if proxy.users is None else wire.Method.USERNAME)
        if proxy.method is not None:
            method = proxy.method
        elif method not in greeting.methods:
            method = wire.NO_ACCEPTABLE_METHODS
        self._state = (
            self._credentials if method == wire.Method.USERNAME else self._requested
        )
        self._answer(wire.MethodChoice(method).encode())
        return True

    def _credentials(self) -> bool:
        sent = self._take(wire.UsernamePassword.parse)
        if sent is None:
            return False
        self.login = sent.username, sent.password
        known = self._proxy.users or {}
        isKnown = known.get(sent.username.decode()) == sent.password.decode()
        self._state = self._requested
        self._answer(wire.UsernamePasswordStatus(0 if isKnown else 1).encode())
        if not isKnown:
            self.close()
        return isKnown

    def _requested(self) -> bool:
        self.request = self._take(wire.Request.parse)
        if self.request is None:
            return False
        proxy = self._proxy
        self._state = self._payload
        reply = wire.Reply(proxy.reply, IPv4Address("192.0.2.2"), 1).encode()
        isOver = proxy.reply != 0
        self._answer(reply + (b"" if isOver else proxy.banner))
        if isOver:
            self.close()
        return True

    def _payload(self) -> bool:
        self.received += self._buffer
        self._buffer.clear()
        return False

    def _answer(self, data: bytes) -> None:
        """
        Send as much as the script allows.
        """
        proxy = self._proxy
        for limit, end in ((proxy.cutAt, self.close), (proxy.silentAt, None)):
            if limit is not None and self._sent + len(data) >= limit:
                self._deliver(data[: max(0, limit - self._sent)])
                self._sent = limit
                if end is not None:
                    end()
                return
        self._sent += len(data)
        self._deliver(data)

    def _deliver(self, data: bytes) -> None:
        size = 1 if self._proxy.byOctets else max(1, len(data))
        for start in range(0, len(data), size):
            if not self.isClosed:
                self._protocol.dataReceived(data[start : start + size])


@implementer(IStreamClientEndpoint)
@attrs.define
class FakeProxy:
    """
    A proxy in memory, to be given to
    L{SOCKS5ClientEndpoint<twisted_socks5.client.SOCKS5ClientEndpoint>} as its
    C{proxyEndpoint}.  It connects nowhere; the test plays the destination.

    @ivar users: Passwords by username; L{None} asks for none.
    @ivar reply: The REP octet for every request.
    @ivar banner: Payload that comes with the reply.
    @ivar method: The METHOD octet to choose, whatever was offered; L{None} for a
        decent choice.
    @ivar byOctets: Send everything one byte at a time.
    @ivar cutAt: Close the connection after so many bytes of answers.
    @ivar silentAt: Say nothing more after so many.
    @ivar connections: One for each connection, the newest last.
    """

    users: Mapping[str, str] | None = None
    reply: int = 0x00
    banner: bytes = b""
    method: int | None = None
    byOctets: bool = False
    cutAt: int | None = None
    silentAt: int | None = None
    connections: list[FakeConnection] = attrs.field(factory=list, init=False)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect at once.
        """
        protocol: Any = protocolFactory.buildProtocol(_PROXY)
        connection = FakeConnection(self, protocol)
        self.connections.append(connection)
        protocol.makeConnection(connection)
        connected: Deferred[IProtocol] = succeed(protocol)
        return connected


# -- a client in memory -----------------------------------------------------------


class FakeClient:
    """
    A client of a server in memory: for authenticators, policies, routes and
    commands of one's own.

    @ivar transport: The server's transport.
    @ivar protocol: The server's protocol; its C{session} tells what is known.
    """

    def __init__(
        self, factory: SOCKS5ServerFactory, peer: TCP4Address = _CLIENT
    ) -> None:
        """
        @param factory: The server.
        @param peer: Where the client is.
        """
        self.transport = StringTransport(_PROXY, peer, lenient=True)
        protocol: Any = factory.buildProtocol(peer)
        self.protocol: Any = protocol
        protocol.makeConnection(self.transport)

    def send(self, *messages: Any) -> None:
        """
        Send messages of L{twisted_socks5.wire}, or bytes, all in one segment.
        """
        self.protocol.dataReceived(
            b"".join(
                each if isinstance(each, bytes) else each.encode() for each in messages
            )
        )

    def read(
        self, parse: Callable[[bytes], tuple[_Message, int] | None]
    ) -> _Message | None:
        """
        Read one message.

        @param parse: C{parse} of a class of L{twisted_socks5.wire}.
        @return: It, or L{None} if it has not come.
        """
        data: bytes = self.transport.value()
        parsed = parse(data)
        if parsed is None:
            return None
        message, length = parsed
        self.transport.clear()
        self.transport.io.write(data[length:])
        return message

    @property
    def received(self) -> bytes:
        """
        What has come and was not read.
        """
        data: bytes = self.transport.value()
        return data

    @property
    def isClosed(self) -> bool:
        """
        Whether the server has closed the connection.
        """
        return bool(self.transport.disconnecting)

    def close(self) -> None:
        """
        The client closes.
        """
        self.protocol.connectionLost(Failure(ConnectionDone()))


# -- a server on loopback -----------------------------------------------------------


@attrs.frozen
class LoopbackServer:
    """
    A server that listens on 127.0.0.1.

    @ivar factory: The server.
    @ivar port: Its port.
    @ivar endpoint: Connects to it.
    """

    factory: SOCKS5ServerFactory
    port: int
    endpoint: IStreamClientEndpoint


@asynccontextmanager
async def serving(
    reactor: Any, *authenticators: IAuthenticator, **options: Any
) -> AsyncIterator[LoopbackServer]:
    """
    Run a real server on 127.0.0.1 meanwhile::

        async with serving(reactor) as server:
            endpoint = SOCKS5ClientEndpoint(server.endpoint, "127.0.0.1", port)

    @param authenticators: Without any, everybody is let in.
    @param options: Those of L{SOCKS5ServerFactory}.
    """
    factory = SOCKS5ServerFactory(
        reactor, authenticators or [NoAuthentication()], **options
    )
    listening: Any = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
        factory
    )
    port = listening.getHost().port
    factory.ownListeners.add(addressOf(listening.getHost()))
    try:
        yield LoopbackServer(
            factory, port, TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        )
    finally:
        for session in factory.registry:
            session.end("the test is over")
        await maybeDeferred(listening.stopListening)
