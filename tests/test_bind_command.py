# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
BIND over a route that the test plays, in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_socks5 import NoAuthentication, SOCKS5ServerFactory
from twisted_socks5.addresses import Address
from twisted_socks5.interfaces import IListening, IOutbound, IRoute
from twisted_socks5.settings import BindSettings, Limits, PublicAddress
from twisted_socks5.wire import Command, Reply, Request

LOCAL = Address(ip_address("198.51.100.1"), 4001)
PEER = Address(ip_address("198.51.100.9"), 20)


@implementer(IOutbound)
class Peer:
    local = LOCAL
    peer = PEER

    def __init__(self) -> None:
        self.transport = StringTransport()
        self.protocol: Any = None
        self.isAborted = False

    def attach(self, protocol: Any) -> Any:
        self.protocol = protocol
        protocol.makeConnection(self.transport)
        return self.transport

    def detachSocket(self) -> None:
        return None

    def abort(self) -> None:
        self.isAborted = True


@implementer(IListening)
class Listening:
    def __init__(self, local: Address) -> None:
        self.local = local
        self.accepting: Deferred[IOutbound] = Deferred()
        self.isOpen = True

    def accept(self) -> Deferred[IOutbound]:
        return self.accepting

    def close(self) -> None:
        self.isOpen = False


@implementer(IRoute)
class Route:
    resolvesNames = True

    def __init__(self) -> None:
        self.local = LOCAL
        self.ports: list[Listening] = []
        self.expected: list[Address] = []
        self.deliver: Callable[[Listening], Any] = succeed

    def boundTo(self, address: Any) -> Any:
        raise AssertionError

    def connect(self, target: Address, check: Any) -> Any:
        raise AssertionError

    def datagrams(self, check: Any) -> Any:
        raise AssertionError

    def listen(self, expected: Address, check: Any) -> Any:
        self.expected.append(expected)
        self.ports.append(Listening(self.local))
        return self.deliver(self.ports[-1])


class Server:
    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.route = Route()
        self.factory = SOCKS5ServerFactory(
            self.clock, [NoAuthentication()], route=self.route, **options
        )

    def bind(
        self,
        host: str = "198.51.100.9",
        client: str = "127.0.0.1",
        listener: Any = None,
    ) -> Client:
        return Client(self, host, client, listener)


class Client:
    def __init__(self, server: Server, host: str, client: str, listener: Any) -> None:
        self.server = server
        listener = listener or IPv4Address("TCP", "127.0.0.1", 1080)
        peer: Any = IPv4Address("TCP", client, 40000)
        if isinstance(listener, UNIXAddress):
            peer = UNIXAddress(None)
        factory: Any = server.factory
        self.protocol = factory.buildProtocol(None)
        self.transport: Any = StringTransport(hostAddress=listener, peerAddress=peer)
        self.protocol.makeConnection(self.transport)
        request = Request(Command.BIND, ip_address(host), 21).encode()
        self.protocol.dataReceived(b"\x05\x01\x00" + request)
        assert self.transport.value()[:2] == b"\x05\x00"

    @property
    def replies(self) -> list[tuple[int, str]]:
        """
        The replies that have come: REP and address.
        """
        rest = self.transport.value()[2:]
        replies = []
        while (parsed := Reply.parse(rest)) is not None:
            reply, length = parsed
            assert not isinstance(reply.host, bytes)
            replies.append((reply.reply, str(Address(reply.host, reply.port))))
            rest = rest[length:]
        return replies

    def goAway(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))


FAILED = "0.0.0.0:0"


def test_twoReplies() -> None:
    """
    What the client and its peer send early comes after the second.
    """
    server = Server()
    client = server.bind()
    [port] = server.route.ports
    assert server.route.expected == [Address(ip_address("198.51.100.9"), 21)]
    assert client.replies == [(0, "198.51.100.1:4001")]
    client.protocol.dataReceived(b"early")
    peer = Peer()
    port.accepting.callback(peer)
    assert client.replies == [(0, "198.51.100.1:4001"), (0, "198.51.100.9:20")]
    assert not port.isOpen
    assert peer.transport.value() == b"early"
    assert client.protocol.session.dialled == PEER


@pytest.mark.parametrize("isPlain", [True, False])
def test_plainResults(isPlain: bool) -> None:
    """
    A route need not bring its port later.
    """

    async def later(port: Listening) -> Listening:
        return port

    server = Server()
    server.route.deliver = (lambda port: port) if isPlain else later
    assert server.bind().replies == [(0, "198.51.100.1:4001")]


def test_nobodyComes() -> None:
    """
    The second reply tells.
    """
    server = Server()
    client = server.bind()
    server.clock.advance(59)
    assert server.route.ports[0].isOpen
    server.clock.advance(1)
    assert client.replies[1:] == [(6, FAILED)]
    assert not server.route.ports[0].isOpen
    server.clock.advance(1)
    assert server.clock.getDelayedCalls() == []


def test_theClientGoesAway() -> None:
    server = Server()
    client = server.bind()
    client.goAway()
    assert not server.route.ports[0].isOpen
    assert server.clock.getDelayedCalls() == []


def test_thePeerComesTooLate() -> None:
    """
    A connection that the client has left alone is not kept.
    """
    server = Server()
    client = server.bind()
    client.protocol.session.end("enough")
    server.clock.advance(0)
    assert not server.route.ports[0].isOpen
    assert client.replies == [(0, "198.51.100.1:4001")]


@pytest.mark.parametrize(
    ("local", "told"),
    [("0.0.0.0", "127.0.0.1:4001"), ("::", "[::1]:4001")],
)
def test_anyAddressOfThisHost(local: str, told: str) -> None:
    """
    The client is told the one that it knows, or its like.
    """
    server = Server()
    server.route.local = Address(ip_address(local), 4001)
    assert server.bind(local).replies == [(0, told)]


def test_limitOfPorts() -> None:
    """
    Each client address has as many ports as the limit says, at once.
    """
    server = Server(limits=Limits(bindsPerClient=2))
    clients = [server.bind() for _ in range(3)]
    assert [client.replies[0][0] for client in clients] == [0, 0, 1]
    assert server.bind(client="127.0.0.2").replies[0][0] == 0
    clients[0].goAway()
    assert server.bind().replies[0][0] == 0
    assert server.bind().replies[0][0] == 1
    server.route.ports[1].accepting.callback(Peer())
    assert server.bind().replies[0][0] == 0


def test_unixSocket() -> None:
    """
    Without a public address there is none to tell.
    """
    server = Server()
    assert server.bind(listener=UNIXAddress("s")).replies == [(7, FAILED)]
    assert server.route.ports == []


def test_unixSocketWithAPublicAddress() -> None:
    settings = BindSettings(PublicAddress(ip_address("203.0.113.1")))
    server = Server(bind=settings)
    server.route.local = Address(ip_address("203.0.113.1"), 4001)
    client = server.bind(listener=UNIXAddress("s"))
    assert client.replies == [(0, "203.0.113.1:4001")]
