# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The route through another proxy, on loopback.
"""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet import reactor as theReactor
from twisted.internet.endpoints import connectProtocol
from twisted.internet.protocol import DatagramProtocol, Protocol
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.conversation import assertServes, connectTo, connectToName, readExactly
from tests.loopback import (
    Echo,
    HalfClosingPeer,
    Peer,
    Place,
    factoryOf,
    inReactor,
    passwords,
)
from tests.test_start import refused
from twisted_socks5 import (
    Decision,
    Guard,
    Login,
    SOCKS5ClientEndpoint,
    SOCKS5DatagramEndpoint,
    SOCKS5ServerEndpoint,
    ThroughProxy,
    errors,
)
from twisted_socks5.addresses import Address
from twisted_socks5.interfaces import IRoute
from twisted_socks5.routes import DirectRoute, NameResolver

if TYPE_CHECKING:
    from tests.conftest import Server

ALICE = Login("alice", "wonderland")
reactor: Any = theReactor


class Two:
    """
    A proxy, and a second one that it leaves through.
    """

    def __init__(self, place: Place) -> None:
        self.place = place

    async def start(self, login: Login = ALICE, policy: Any = None) -> None:
        second: Any = await self.place.proxy(passwords(alice="wonderland"))
        self.second = second
        route = ThroughProxy(reactor, self.place.to(second.port), login)
        assert verifyObject(IRoute, route)
        first: Any = await self.place.proxy(route=route, policy=policy)
        self.first = first
        self.proxy = self.place.to(first.port)

    async def connect(
        self, port: int, host: str = "127.0.0.1", kind: Any = Peer
    ) -> Any:
        return await SOCKS5ClientEndpoint(self.proxy, host, port).connect(
            factoryOf(kind)
        )

    async def end(self) -> None:
        await self.place.until(
            lambda: not [*self.first.registry, *self.second.registry]
        )


@pytest.fixture
def two(place: Place) -> Two:
    return Two(place)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@inReactor
async def test_CONNECT(place: Place, two: Two, host: str) -> None:
    """
    Names stay names.
    """
    await two.start()
    port = await place.serve(Echo)
    peer = await two.connect(port, host)
    (session,) = two.second.registry
    assert session.rawTarget == (b"localhost" if host == "localhost" else b"\x7f\0\0\1")
    assert session.identity.name == "alice"
    peer.transport.write(b"hello")
    await place.until(lambda: peer.received == b"hello")
    peer.transport.loseConnection()
    await place.until(lambda: peer.reason)
    await two.end()


class Banner(Protocol):
    """
    Speaks first.
    """

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"220 hello")
        self.transport.loseConnection()


@inReactor
async def test_aBanner(place: Place, two: Two) -> None:
    await two.start()
    port = await place.serve(Banner)
    peer = await two.connect(port)
    await place.until(lambda: peer.reason)
    assert peer.received == b"220 hello"
    await two.end()


@inReactor
async def test_halfClose(place: Place, two: Two) -> None:
    await two.start()
    port = await place.serve(HalfClosingPeer)
    peer = await two.connect(port, kind=HalfClosingPeer)
    await place.until(lambda: place.protocols)
    (destination,) = place.protocols
    peer.transport.write(b"question")
    peer.transport.loseWriteConnection()
    await place.until(lambda: destination.isReadClosed)
    destination.transport.write(b"answer")
    destination.transport.loseConnection()
    await place.until(lambda: peer.isReadClosed)
    assert (destination.received, peer.received) == (b"question", b"answer")
    peer.transport.loseConnection()
    await two.end()


@inReactor
async def test_failures(place: Place, two: Two) -> None:
    """
    What the second proxy replies, the first one does too.
    """
    await two.start()
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(errors.ConnectionRefused):
            await two.connect(bound.getsockname()[1])
    with pytest.raises(errors.ConnectionNotAllowed):  # its own port
        await two.connect(two.second.port)
    await two.end()


@inReactor
async def test_aWrongPassword(place: Place, two: Two) -> None:
    """
    It is no business of the client's.
    """
    await two.start(Login("alice", "looking-glass"))
    with pytest.raises(errors.GeneralFailure):
        await two.connect(9)
    await two.end()


@inReactor
async def test_theSecondProxyIsNotThere(place: Place, two: Two) -> None:
    await two.start()
    await place.ports.pop(0).stopListening()
    with pytest.raises(errors.GeneralFailure):
        await two.connect(9)
    await two.end()


class NotToLoopback(Guard):
    """
    Lets nobody there.
    """

    def checkAddress(self, request: Any, address: Any) -> Decision:
        return Decision.deny()

    def decide(self, request: Any) -> Decision:
        return Decision.allow()


@inReactor
async def test_addressesAreJudged(place: Place, two: Two) -> None:
    await two.start(policy=NotToLoopback())
    port = await place.serve(Echo)
    with pytest.raises(errors.ConnectionNotAllowed):
        await two.connect(port)
    assert not list(two.second.registry)
    await two.end()


class Changing(Guard):
    """
    Lets everybody everywhere, until it changes.
    """

    isOpen = True

    def decide(self, request: Any) -> Decision:
        return Decision.allow()

    def checkAddress(self, request: Any, address: Any) -> Decision:
        return Decision.allow() if self.isOpen else Decision.deny()


@inReactor
async def test_addressesAreJudgedAgain(place: Place, two: Two) -> None:
    """
    An address that the client has named is judged, though no one here has dialled
    it.
    """
    policy = Changing()
    await two.start(policy=policy)
    port = await place.serve(Echo)
    peer = await two.connect(port)
    await two.first.reviseSessions()
    peer.transport.write(b"hello")
    await place.until(lambda: peer.received == b"hello")
    policy.isOpen = False
    await two.first.reviseSessions()
    await place.until(lambda: peer.reason)
    await two.end()


@inReactor
async def test_theClientGoesAway(place: Place, two: Two) -> None:
    """
    What was begun at the second proxy is undone.
    """
    silent = await place.serve(Peer)
    route = ThroughProxy(reactor, place.to(silent))
    first: Any = await place.proxy(route=route)
    attempt = SOCKS5ClientEndpoint(place.to(first.port), "127.0.0.1", 9).connect(
        factoryOf(Peer)
    )
    attempt.addErrback(lambda failure: None)
    await place.until(lambda: place.protocols and place.protocols[0].received)
    attempt.cancel()
    await place.until(lambda: place.protocols[0].reason and not list(first.registry))


@inReactor
async def test_BIND(place: Place, two: Two) -> None:
    await two.start()
    port: Any = await SOCKS5ServerEndpoint(two.proxy, "127.0.0.1", 0).listen(
        factoryOf(Peer)
    )
    peer: Any = await connectProtocol(place.to(port.getHost().port), Peer())
    accepted: Any = await port.accepted
    peer.transport.write(b"hello")
    await place.until(lambda: accepted.received == b"hello")
    accepted.transport.loseConnection()
    await place.until(lambda: peer.reason)
    await two.end()


class Keeping(DatagramProtocol):
    """
    Keeps what it gets.
    """

    def __init__(self) -> None:
        self.received: list[object] = []

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        self.received.append((datagram, addr))


class Answering(DatagramProtocol):
    """
    Sends back what it gets.
    """

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        transport: Any = self.transport
        transport.write(datagram, addr)


@inReactor
async def test_ASSOCIATE(place: Place, two: Two) -> None:
    await two.start()
    answering = reactor.listenUDP(
        0, Answering(), interface="127.0.0.1", maxPacketSize=65536
    )
    place.ports.append(answering)
    number = answering.getHost().port
    protocol = Keeping()
    port = await SOCKS5DatagramEndpoint(reactor, two.proxy).listen(protocol)
    for payload, host in ((b"one", "127.0.0.1"), (bytes(65490), "localhost")):
        protocol.received.clear()
        port.write(payload, (host, number))
        await place.until(lambda: protocol.received)
        assert protocol.received == [(payload, ("127.0.0.1", number))]
    await port.stopListening()
    await two.end()


@inReactor
async def test_peersAreJudged(place: Place, two: Two) -> None:
    await two.start(policy=NotToLoopback())
    with pytest.raises(errors.ConnectionNotAllowed):
        await SOCKS5ServerEndpoint(two.proxy, "127.0.0.1", 0).listen(factoryOf(Peer))
    assert not list(two.second.registry)
    port: Any = await SOCKS5ServerEndpoint(two.proxy, "0.0.0.0", 0).listen(
        factoryOf(Peer)
    )
    peer: Any = await connectProtocol(place.to(port.getHost().port), Peer())
    with pytest.raises(errors.ConnectionNotAllowed):
        await port.accepted
    await place.until(lambda: peer.reason)
    await two.end()


@inReactor
async def test_destinationsOfDatagramsAreJudged(place: Place, two: Two) -> None:
    await two.start(policy=NotToLoopback())
    port = await SOCKS5DatagramEndpoint(reactor, two.proxy).listen(Keeping())
    (session,) = two.first.registry
    port.write(b"hello", ("127.0.0.1", 9))
    await place.until(lambda: session.traffic.drops["denied"] == 1)
    await port.stopListening()
    await two.end()


class Saying(Peer):
    """
    Says what the test has it say.
    """

    said = b""

    def connectionMade(self) -> None:
        self.transport.write(self.said)


@inReactor
async def test_whatComesFromOurPortComesFromNoClient(place: Place) -> None:
    relay = Keeping()
    listening = reactor.listenUDP(0, relay, interface="127.0.0.1")
    place.ports.append(listening)
    number = listening.getHost().port.to_bytes(2, "big")
    said = b"\x05\x00" + b"\x05\x00\x00\x01\x7f\x00\x00\x01" + number
    port = await place.serve(type("Relaying", (Saying,), {"said": said}))
    route: Any = ThroughProxy(reactor, place.to(port))

    datagrams = await route.datagrams(allow)
    send = await datagrams.sender(Address("example.org", 53))
    send(b"hello")
    with pytest.raises(OSError, match="too long"):
        send(bytes(65507))
    await place.until(lambda: relay.received)
    received: Any = relay.received[0]
    source = received[1][1]
    assert list(datagrams.ports) == [source]
    datagrams.close()
    await place.until(lambda: place.protocols[0].reason)


async def allow(address: Address) -> None:
    """
    Anything goes.
    """


NAMED = b"\x05\x00\x00\x03\x01a\x00\x50"
NUMBERED = b"\x05\x00\x00\x01\xc0\x00\x02\x07\x00\x50"


async def rogue(place: Place, said: bytes) -> Any:
    port = await place.serve(type("Rogue", (Saying,), {"said": b"\x05\x00" + said}))
    return ThroughProxy(reactor, place.to(port))


@inReactor
async def test_anOutboundThatNobodyTakesOver(place: Place) -> None:
    route = await rogue(place, NAMED)
    outbound = await route.connect(Address("example.org", 80), allow)
    assert str(outbound.local) == "0.0.0.0:0"  # no client is told a name
    assert outbound.peer is None
    assert outbound.detachSocket() is None
    outbound.abort()
    await place.until(lambda: place.protocols[0].reason)


@inReactor
async def test_aPortThatHasAName(place: Place) -> None:
    route = await rogue(place, NAMED)
    with pytest.raises(errors.GeneralFailure):
        await route.listen(Address("example.org", 80), allow)
    await place.until(lambda: place.protocols[0].reason)


@inReactor
async def test_aPeerThatHasAName(place: Place) -> None:
    route = await rogue(place, NUMBERED + NAMED)
    listening = await route.listen(Address("example.org", 80), allow)
    assert str(listening.local) == "192.0.2.7:80"
    with pytest.raises(errors.GeneralFailure):
        await listening.accept()
    listening.close()
    await place.until(lambda: place.protocols[0].reason)


def test_noOtherAddressToGoOutFrom() -> None:
    route: Any = ThroughProxy(reactor, Place(reactor).to(9))
    with pytest.raises(errors.CommandNotSupported):
        route.boundTo(None)


@inReactor
async def test_whatIsNoName(place: Place, two: Two) -> None:
    """
    What others may take for an address, or for another name, stays here.
    """
    await two.start()
    asked = two.second.accessLog = Asked()
    port = await place.serve(Peer)
    for host in (
        *("127.1", "2130706433", "0x7f.1", "0177.0.0.1.", "127.0.0.0x1", "0x", "a.1"),
        *(r"loc\097lhost", "[::1]", "127.0.0.1%lo", "localhost:80", "localhost/"),
    ):
        with pytest.raises(errors.HostUnreachable):
            await two.connect(port, host)
        listening = SOCKS5ServerEndpoint(two.proxy, host, 0)
        with pytest.raises(errors.HostUnreachable):
            await listening.listen(factoryOf(Peer))
    association = await SOCKS5DatagramEndpoint(reactor, two.proxy).listen(Keeping())
    (session,) = two.first.registry
    association.write(b"hello", ("127.1", port))
    await place.until(lambda: session.traffic.drops["unreachable"] == 1)
    await association.stopListening()
    for host in ("localhost", "a_b.localhost", "1-2.localhost"):
        with pytest.raises(errors.ReplyError):
            await two.connect(1, host)
    await two.end()
    assert asked.targets == [
        *("0.0.0.0:0", "localhost:1", "a_b.localhost:1", "1-2.localhost:1")
    ]


class Asked:
    """
    Takes down what a proxy was asked for.
    """

    def __init__(self) -> None:
        self.targets: list[str] = []

    def sessionStarted(self, session: Any) -> None: ...

    def sessionEnded(self, session: Any) -> None:
        self.targets.append(str(session.target))


class Choosing(Guard):
    """
    Has names under test go by a way of its own, and the rest from an address.
    """

    def __init__(self, route: IRoute) -> None:
        Guard.__init__(self)
        self.route = route

    def __bool__(self) -> bool:
        return False  # which is no reason to ask another one

    def decide(self, request: Any) -> Decision:
        if str(request.destination.host).endswith(".test"):
            return Decision.allow(route=self.route)
        return Decision.allow(bindAddress=ip_address("127.0.0.4"))


@implementer(IRoute)
class AllTo:
    """
    A way of somebody else's, to the one destination that it knows.
    """

    resolvesNames = False

    def __bool__(self) -> bool:
        return False  # which is no reason to go another way

    def __init__(self, direct: IRoute, port: int) -> None:
        self.direct = direct
        self.port = port

    def boundTo(self, address: Any) -> IRoute:
        raise errors.CommandNotSupported("no")

    def connect(self, target: Address, check: Any) -> Any:
        return self.direct.connect(Address(ip_address("127.0.0.1"), self.port), check)

    def listen(self, expected: Address, check: Any) -> Any:
        raise errors.CommandNotSupported("no")

    def datagrams(self, check: Any) -> Any:
        raise errors.CommandNotSupported("no")


@inReactor
async def test_aPolicyChoosesTheWay(place: Place) -> None:
    """
    It may be any, also one that a plugin of its own has made.
    """
    port, other = await place.serve(Peer), await place.serve(Peer)
    direct = DirectRoute(reactor, NameResolver(reactor))
    route = AllTo(direct, other)
    assert verifyObject(IRoute, route)
    proxy: Any = await place.proxy(policy=Choosing(route))
    for host, expected, source in (
        ("a.test", other, "127.0.0.1"),
        ("localhost", port, "127.0.0.4"),
    ):
        before = len(place.protocols)
        endpoint = SOCKS5ClientEndpoint(place.to(proxy.port), host, port)
        peer: Any = await endpoint.connect(factoryOf(Peer))
        await place.until(lambda before=before: len(place.protocols) > before)  # type: ignore[misc]  # mypy does not type defaults of lambdas
        destination = place.protocols[-1].transport
        assert destination.getHost().port == expected
        assert destination.getPeer().host == source
        peer.transport.loseConnection()
    listening = SOCKS5ServerEndpoint(place.to(proxy.port), "a.test", 0)
    with pytest.raises(errors.CommandNotSupported):
        await listening.listen(factoryOf(Peer))
    await place.until(lambda: not list(proxy.registry))
    another: Any = await place.proxy(route=route)
    endpoint = SOCKS5ClientEndpoint(place.to(another.port), "127.0.0.1", port)
    last: Any = await endpoint.connect(factoryOf(Peer))
    await place.until(lambda: len(place.protocols) == 3)
    assert place.protocols[-1].transport.getHost().port == other
    last.transport.loseConnection()
    await place.until(lambda: not list(another.registry))


# -- a chain of three -------------------------------------------------------------


CHUNK = 1 << 16
CHUNKS = 1024


class Hashing(Peer):
    """
    Sends 64 MiB, as fast as they are taken, and takes the same.
    """

    def connectionMade(self) -> None:
        self.hashed = hashlib.sha256()
        self.sent = hashlib.sha256()
        self.count = self.left = 0
        self.left = CHUNKS
        self.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        if not self.left:
            self.transport.unregisterProducer()
            return
        self.left -= 1
        data = hashlib.shake_128(b"%d %d" % (id(self), self.left)).digest(1024) * (
            CHUNK // 1024
        )
        self.sent.update(data)
        self.transport.write(data)

    def stopProducing(self) -> None: ...

    def dataReceived(self, data: bytes) -> None:
        self.hashed.update(data)
        self.count += len(data)


@inReactor
async def test_aChainOfThree(place: Place) -> None:
    """
    By two users and nobody, 64 MiB each way; and when the middle one ends it, both
    ends see that.
    """
    third: Any = await place.proxy(passwords(bob="builder"))
    second: Any = await place.proxy(
        passwords(alice="wonderland"),
        route=ThroughProxy(reactor, place.to(third.port), Login("bob", "builder")),
    )
    first: Any = await place.proxy(
        route=ThroughProxy(reactor, place.to(second.port), ALICE)
    )
    proxies = [first, second, third]
    port = await place.serve(Hashing)
    endpoint = SOCKS5ClientEndpoint(place.to(first.port), "localhost", port)
    peer: Any = await endpoint.connect(factoryOf(Hashing))
    await place.until(lambda: place.protocols)
    (destination,) = place.protocols
    total = CHUNK * CHUNKS
    await place.until(lambda: peer.count == destination.count == total, 120)
    assert peer.hashed.digest() == destination.sent.digest()
    assert destination.hashed.digest() == peer.sent.digest()
    (session,) = second.registry
    session.end("killed")
    await place.until(lambda: peer.reason and destination.reason)
    await place.until(
        lambda: not any(session for proxy in proxies for session in proxy.registry)
    )


# -- the command line -------------------------------------------------------------


def test_option(
    start: Callable[..., Server], listener: socket.socket, tmp_path: Path
) -> None:
    (tmp_path / "users").touch(0o600)
    (tmp_path / "users").write_text("alice:wonderland\n")
    (tmp_path / "password").write_text("wonderland\n")
    second = start("--auth", f"file:{tmp_path}/users")
    first = start(
        "--route",
        f"socks5:tcp\\:127.0.0.1\\:{second.port}:user=alice"
        f":passwordFile={tmp_path}/password",
    )
    assertServes(first, listener)
    second.waitForLog("user=alice")
    with first.connect() as client:
        client.sendall(b"\x05\x01\x00" + connectToName(b"localhost", 1))
        assert readExactly(client, 4) == b"\x05\x00\x05\x05"
    second.waitForLog("target=localhost:1 ")
    with first.connect() as client:
        client.sendall(b"\x05\x01\x00" + connectTo(second.port))
        assert readExactly(client, 4) == b"\x05\x00\x05\x02"


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ("nosuch", "no such plugin; there is socks5"),
        ("socks5", "expected ENDPOINT"),
        ("socks5:nonsense\\:1", "nonsense"),
        ("socks5:tcp\\:127.0.0.1\\:1:user=a", "passwordFile"),
        ("socks5:tcp\\:127.0.0.1\\:1:user=a:passwordFile=/nowhere", "No such file"),
        ("socks5:tcp\\:127.0.0.1\\:1:timeout=soon", "soon"),
        ("socks5:tcp\\:127.0.0.1\\:1:timeout=-1", "timeout -1: expected a number"),
        ("socks5:tcp\\:127.0.0.1\\:1:timeout=nan", "timeout nan: expected a number"),
    ],
)
def test_mistakes(route: str, words: str) -> None:
    line = refused("--route", route)
    assert "--route" in line
    assert words in line


def test_help() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twisted", "socks5", "--help-route"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0
    assert "socks5:ENDPOINT[" in done.stdout
