# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Datagrams through a proxy, on loopback.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pytest_twisted import blockon
from twisted.internet import reactor as theReactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP6ClientEndpoint
from twisted.internet.error import MessageLengthError
from twisted.internet.interfaces import IListeningPort, IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.names import dns
from twisted.names.common import ResolverBase
from twisted.names.server import DNSServerFactory
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.clientmemory import CHOSEN, MemoryEndpoint, errorOf
from tests.conversation import loopback6, pattern
from tests.loopback import Peer, Place, inReactor, openSockets, passwords
from tests.test_client_loopback import tlsTo
from tests.test_layer import Flipping, flip
from twisted_socks5 import (
    Decision,
    Guard,
    Login,
    NoAuthentication,
    SOCKS5ClientEndpoint,
    SOCKS5DatagramEndpoint,
    SOCKS5ServerFactory,
    errors,
)
from twisted_socks5.interfaces import IClientAuthenticator, IClientExchange

reactor: Any = theReactor
ALICE = Login("alice", "wonderland")


class Datagrams(DatagramProtocol):
    """
    Keeps what it gets.

    @ivar answers: Sends it back, too.
    """

    answers = False

    def __init__(self) -> None:
        self.received: list[tuple[bytes, Any]] = []
        self.events: list[str] = []

    def startProtocol(self) -> None:
        self.events.append("start")

    def stopProtocol(self) -> None:
        self.events.append("stop")

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.received.append((datagram, addr))
        if self.answers:
            transport: Any = self.transport
            transport.write(datagram, addr)


class Answering(Datagrams):
    answers = True


class UDPPlace(Place):
    """
    A place for UDP too.
    """

    def answering(self, interface: str = "127.0.0.1") -> int:
        """
        @return: A port that answers with what it gets.
        """
        port = self.reactor.listenUDP(
            0, Answering(), interface=interface, maxPacketSize=65536
        )
        self.ports.append(port)
        return int(port.getHost().port)


@pytest.fixture
def place() -> Iterator[UDPPlace]:
    before = openSockets()
    place = UDPPlace(theReactor)
    yield place
    blockon(Deferred.fromCoroutine(place.close()))
    blockon(Deferred.fromCoroutine(place.until(lambda: not openSockets() - before)))


async def associate(place: UDPPlace, protocol: Any) -> Any:
    """
    @return: The port, and the proxy.
    """
    proxy: Any = await place.proxy(passwords(alice="wonderland"))
    endpoint = SOCKS5DatagramEndpoint(theReactor, place.to(proxy.port), ALICE)
    return await endpoint.listen(protocol), proxy


@inReactor
async def test_thereAndBack(place: UDPPlace) -> None:
    protocol = Datagrams()
    port, proxy = await associate(place, protocol)
    assert verifyObject(IListeningPort, port)
    assert verifyObject(IUDPTransport, port)
    isReplaced = protocol.transport is port
    assert isReplaced
    assert protocol.events == ["start"]
    assert port.getHost().host == "127.0.0.1"
    number = place.answering()
    for payload in (b"one", b"", pattern(6, 65497)):
        protocol.received.clear()
        port.write(payload, ("127.0.0.1", number))
        await place.until(lambda: protocol.received)
        assert protocol.received == [(payload, ("127.0.0.1", number))]
    await port.stopListening()
    assert protocol.events == ["start", "stop"]
    isGone = protocol.transport is None
    assert isGone
    await port.stopListening()
    await place.until(lambda: not list(proxy.registry))


@inReactor
async def test_names(place: UDPPlace) -> None:
    """
    They go to the proxy, which looks them up.
    """
    protocol = Datagrams()
    port, proxy = await associate(place, protocol)
    number = place.answering()
    port.write(b"hello", ("localhost", number))
    await place.until(lambda: protocol.received)
    assert protocol.received == [(b"hello", ("127.0.0.1", number))]
    await port.stopListening()


@inReactor
async def test_IPv6(place: UDPPlace) -> None:
    """
    The relay and the destination have IPv6 addresses.
    """
    loopback6().close()
    server = SOCKS5ServerFactory(reactor, [NoAuthentication()])
    proxyPort = await place.listen(server, "tcp6:0:interface=\\:\\:1")
    proxy = TCP6ClientEndpoint(reactor, "::1", proxyPort)
    protocol = Datagrams()
    port = await SOCKS5DatagramEndpoint(reactor, proxy).listen(protocol)
    assert port.getHost().host == "::1"
    number = place.answering("::1")
    port.write(b"hello", ("::1", number))
    await place.until(lambda: protocol.received)
    assert protocol.received == [(b"hello", ("::1", number))]
    await port.stopListening()


@inReactor
async def test_connected(place: UDPPlace) -> None:
    protocol = Datagrams()
    port, proxy = await associate(place, protocol)
    first, second = place.answering(), place.answering()
    port.connect("127.0.0.1", first)
    port.write(b"elsewhere", ("127.0.0.1", second))
    await place.pause(0.05)
    port.write(b"hello")
    await place.until(lambda: protocol.received)
    assert protocol.received == [(b"hello", ("127.0.0.1", first))]
    with pytest.raises(RuntimeError):
        port.connect("127.0.0.1", second)
    await port.stopListening()


@inReactor
async def test_whatCannotBeSent(place: UDPPlace) -> None:
    port, _ = await associate(place, Datagrams())
    with pytest.raises(ValueError, match="where to"):
        port.write(b"hello")
    with pytest.raises(ValueError, match="65536"):
        port.write(b"hello", ("127.0.0.1", 65536))
    with pytest.raises(errors.InvalidName):
        port.write(b"hello", ("a..b", 53))
    with pytest.raises(MessageLengthError):
        port.write(bytes(65498), ("127.0.0.1", 9))
    with pytest.raises(ValueError, match="broadcasting"):
        port.setBroadcastAllowed(True)
    port.setBroadcastAllowed(False)
    assert port.getBroadcastAllowed() is False
    await port.stopListening()
    port.write(b"too late", ("127.0.0.1", 9))


@inReactor
async def test_theProxyEndsIt(place: UDPPlace) -> None:
    protocol = Datagrams()
    _, proxy = await associate(place, protocol)
    (session,) = proxy.registry
    session.end("enough")
    await place.until(lambda: protocol.events == ["start", "stop"])


@inReactor
async def test_wrongPassword(place: UDPPlace) -> None:
    proxy: Any = await place.proxy(passwords(alice="wonderland"))
    endpoint = SOCKS5DatagramEndpoint(
        theReactor, place.to(proxy.port), Login("alice", "")
    )
    protocol = Datagrams()
    with pytest.raises(errors.AuthenticationFailed, match="datagrams through 127"):
        await endpoint.listen(protocol)
    assert protocol.events == []


class Zone(ResolverBase):
    """
    Knows every name's address.
    """

    def _lookup(self, name: bytes, cls: int, type: int, timeout: Any) -> Any:
        record: Any = dns.Record_A("192.0.2.7", 60)
        answer: Any = dns.RRHeader(name, dns.A, dns.IN, 60, record)
        deferred: Deferred[Any] = Deferred()
        deferred.callback(([answer], [], []))
        return deferred


@inReactor
async def test_DNS(place: UDPPlace) -> None:
    """
    A protocol of Twisted's, as it is.
    """
    zone: Any = Zone
    server: Any = DNSServerFactory(clients=[zone()])
    server.noisy = False
    listening = reactor.listenUDP(
        0, dns.DNSDatagramProtocol(server), interface="127.0.0.1"
    )
    place.ports.append(listening)
    protocol: Any = dns.DNSDatagramProtocol(None)
    port, _ = await associate(place, protocol)
    query = dns.Query(b"example.org", dns.A, dns.IN)
    message = await protocol.query(("127.0.0.1", listening.getHost().port), [query])
    assert message.answers[0].payload.dottedQuad() == "192.0.2.7"
    await port.stopListening()


# -- a rogue relay ------------------------------------------------------------------


class RogueProxy(Peer):
    """
    Answers with the address of the test's own relay.
    """

    relay = b""

    def connectionMade(self) -> None:
        self.transport.write(CHOSEN + b"\x05\x00\x00" + self.relay)


async def rogue(place: UDPPlace, relay: bytes) -> SOCKS5DatagramEndpoint:
    port = await place.serve(type("Saying", (RogueProxy,), {"relay": relay}))
    return SOCKS5DatagramEndpoint(theReactor, place.to(port))


HEADER = bytes.fromhex("0000 00 01 c0000207 0035")


@pytest.mark.parametrize("host", ["7f000001", "00000000"])
@inReactor
async def test_whatComesFromTheRelay(place: UDPPlace, host: str) -> None:
    """
    Only whole datagrams, and only from it.
    """
    relay = Datagrams()
    listening = reactor.listenUDP(0, relay, interface="127.0.0.1")
    stranger = reactor.listenUDP(0, Datagrams(), interface="127.0.0.1")
    place.ports += [listening, stranger]
    number = listening.getHost().port.to_bytes(2, "big")
    endpoint = await rogue(place, b"\x01" + bytes.fromhex(host) + number)
    protocol = Datagrams()
    port = await endpoint.listen(protocol)
    port.write(b"query", ("192.0.2.7", 53))
    await place.until(lambda: relay.received)
    data, client = relay.received[0]
    assert data == HEADER + b"query"
    stranger.write(HEADER + b"stranger", client)
    for length in range(len(HEADER)):
        listening.write(HEADER[:length], client)
    listening.write(b"\x00\x00\x01" + HEADER[3:] + b"fragment", client)
    listening.write(b"\x00\x00\x00\x05" + HEADER[4:] + b"unknown", client)
    listening.write(b"\x00\x00\x00\x03\x01a\x00\x35name", client)
    listening.write(b"\xff\xff\x00" + HEADER[3:] + b"answer", client)
    await place.until(lambda: len(protocol.received) == 2)
    assert protocol.received == [
        (b"name", ("a", 53)),
        (b"answer", ("192.0.2.7", 53)),
    ]
    await port.stopListening()


@inReactor
async def test_nobodyAtTheRelayForAWhile(place: UDPPlace) -> None:
    gone = reactor.listenUDP(0, Datagrams(), interface="127.0.0.1")
    number = gone.getHost().port
    await gone.stopListening()
    protocol = Datagrams()
    endpoint = await rogue(place, b"\x01\x7f\x00\x00\x01" + number.to_bytes(2, "big"))
    port = await endpoint.listen(protocol)
    port.write(b"query", ("192.0.2.7", 53))
    relay = Datagrams()
    place.ports.append(reactor.listenUDP(number, relay, interface="127.0.0.1"))
    port.write(b"again", ("192.0.2.7", 53))
    await place.until(lambda: relay.received)
    assert protocol.events == ["start"]
    await port.stopListening()


@implementer(IClientAuthenticator)
class Protected:
    """
    A method whose layer flips every bit.
    """

    method = 0x80

    async def authenticate(self, exchange: IClientExchange) -> Flipping:
        return Flipping()


class ProtectingProxy(Peer):
    """
    Speaks that method.
    """

    relay = b""

    def connectionMade(self) -> None:
        self.transport.write(b"\x05\x80" + flip(b"\x05\x00\x00" + self.relay))


@inReactor
async def test_aLayerProtectsDatagrams(place: UDPPlace) -> None:
    relay = Datagrams()
    # An octet of FF would be 00 on the wire, which the layer takes for bad.
    number = b"\xff\xff"
    while b"\xff" in number:
        listening = reactor.listenUDP(0, relay, interface="127.0.0.1")
        place.ports.append(listening)
        number = listening.getHost().port.to_bytes(2, "big")
    bound = b"\x01\x7f\x00\x00\x01" + number
    port = await place.serve(type("Saying", (ProtectingProxy,), {"relay": bound}))
    protocol = Datagrams()
    endpoint = SOCKS5DatagramEndpoint(reactor, place.to(port), Protected())
    association = await endpoint.listen(protocol)
    association.write(b"query", ("192.0.2.7", 53))
    await place.until(lambda: relay.received)
    data, client = relay.received[0]
    assert data == flip(HEADER + b"query")
    listening.write(HEADER + b"clear", client)
    listening.write(flip(HEADER + b"answer"), client)
    await place.until(lambda: protocol.received)
    assert protocol.received == [(b"answer", ("192.0.2.7", 53))]
    await association.stopListening()


@inReactor
async def test_aRelayWithAName(place: UDPPlace) -> None:
    endpoint = await rogue(place, b"\x03\x01a\x00\x35")
    with pytest.raises(errors.MalformedMessage, match="datagrams through"):
        await endpoint.listen(Datagrams())
    await place.until(lambda: place.protocols[0].reason)


def test_commandNotSupported() -> None:
    proxy = MemoryEndpoint()
    outcome = SOCKS5DatagramEndpoint(theReactor, proxy).listen(Datagrams())
    proxy.say(CHOSEN)
    assert proxy.heard()[3:] == b"\x05\x03\x00\x01" + bytes(6)
    proxy.say(b"\x05\x07\x00\x01" + bytes(6))
    assert type(errorOf(outcome)) is errors.CommandNotSupported
    assert proxy.transport.disconnected


# -- chains ---------------------------------------------------------------------------


async def chained(
    place: UDPPlace, second: int, policy: Any = None, **options: Any
) -> Any:
    """
    @return: A way through a proxy to another one, and the first proxy.
    """
    first: Any = await place.proxy(policy=policy)
    endpoint = SOCKS5ClientEndpoint(place.to(first.port), "localhost", second)
    return SOCKS5DatagramEndpoint(theReactor, endpoint, ALICE, **options), first


@inReactor
async def test_aChain(place: UDPPlace) -> None:
    """
    Ours is the address that the first one sees, and the last one's that which
    destinations do.
    """
    second: Any = await place.proxy(passwords(alice="wonderland"))
    endpoint, first = await chained(place, second.port)
    protocol = Datagrams()
    port = await endpoint.listen(protocol)
    assert verifyObject(IUDPTransport, port)
    number = place.answering()
    for host in ("127.0.0.1", "localhost"):
        protocol.received.clear()
        port.write(b"hello", (host, number))
        await place.until(lambda: protocol.received)
        assert protocol.received == [(b"hello", ("127.0.0.1", number))]
    with pytest.raises(MessageLengthError):
        port.write(bytes(65488), ("127.0.0.1", number))
    (session,) = second.registry
    assert session.client.port != port.localPort
    assert [each.command for each in first.registry] == [1, 3]
    await port.stopListening()
    assert protocol.events == ["start", "stop"]
    await place.until(lambda: not [*first.registry, *second.registry])


@inReactor
async def test_theFirstOfAChainEndsIt(place: UDPPlace) -> None:
    second: Any = await place.proxy(passwords(alice="wonderland"))
    endpoint, first = await chained(place, second.port)
    protocol = Datagrams()
    await endpoint.listen(protocol)
    (session,) = (each for each in first.registry if each.command == 3)
    session.end("enough")
    await place.until(lambda: protocol.events == ["start", "stop"])
    await place.until(lambda: not [*first.registry, *second.registry])


@inReactor
async def test_aRelayWhereTheLastOfAChainIs(place: UDPPlace) -> None:
    """
    BND.ADDR 0.0.0.0: of the last one no more may be known than the name by which the
    first one knows it.
    """
    relay = Datagrams()
    listening = reactor.listenUDP(0, relay, interface="127.0.0.1")
    place.ports.append(listening)
    number = listening.getHost().port
    bound = b"\x01\x00\x00\x00\x00" + number.to_bytes(2, "big")
    second = await place.serve(type("Saying", (RogueProxy,), {"relay": bound}))
    first: Any = await place.proxy()
    endpoint = SOCKS5ClientEndpoint(place.to(first.port), "localhost", second)
    protocol = Datagrams()
    port = await SOCKS5DatagramEndpoint(theReactor, endpoint).listen(protocol)
    assert (port.getHost().host, port.getHost().port) == ("localhost", number)
    port.write(b"query", ("192.0.2.7", 53))
    await place.until(lambda: relay.received)
    data, source = relay.received[0]
    assert data == HEADER + b"query"
    listening.write(HEADER + b"answer", source)
    await place.until(lambda: protocol.received)
    assert protocol.received == [(b"answer", ("192.0.2.7", 53))]
    await port.stopListening()


@inReactor
async def test_pastAProxyNothingGoes(place: UDPPlace) -> None:
    """
    With TLS to the last one of a chain, it is not known which proxies there are.
    """
    factory = SOCKS5ServerFactory(reactor, [passwords(alice="wonderland")])
    port = await place.listen(factory, isTLS=True)
    first: Any = await place.proxy()
    hop = SOCKS5ClientEndpoint(place.to(first.port), "127.0.0.1", port)
    endpoint = SOCKS5DatagramEndpoint(theReactor, tlsTo(hop), ALICE)
    with pytest.raises(errors.CommandNotSupported, match="past"):
        await endpoint.listen(Datagrams())
    await place.until(lambda: not [*first.registry, *factory.registry])


class SilentAboutDatagrams(Guard):
    """
    Does not say whether datagrams are allowed, until the test does.
    """

    def __init__(self) -> None:
        super().__init__()
        self.answer: Deferred[Any] = Deferred()

    def decide(self, request: Any) -> Any:
        return self.answer if request.command == 3 else super().decide(request)


@inReactor
async def test_theFirstOfAChainIsSilent(place: UDPPlace) -> None:
    second: Any = await place.proxy(passwords(alice="wonderland"))
    endpoint, first = await chained(
        place, second.port, SilentAboutDatagrams(), timeout=0.5
    )
    protocol = Datagrams()
    with pytest.raises(errors.TimedOut, match="datagrams through a chain"):
        await endpoint.listen(protocol)
    assert protocol.events == []
    await place.until(lambda: not [*first.registry, *second.registry])


@inReactor
async def test_theLastOfAChainEndsItMeanwhile(place: UDPPlace) -> None:
    """
    While the first one is still being asked.
    """
    second: Any = await place.proxy(passwords(alice="wonderland"))
    policy = SilentAboutDatagrams()
    endpoint, first = await chained(place, second.port, policy)
    opening = endpoint.listen(Datagrams())
    await place.until(lambda: any(each.command == 3 for each in first.registry))
    (session,) = second.registry
    session.end("enough")
    await place.until(lambda: not list(second.registry))
    await place.until(lambda: len(list(first.registry)) == 1)
    policy.answer.callback(Decision.allow())
    with pytest.raises(errors.StreamEnded, match="ended the association"):
        await opening
    await place.until(lambda: not list(first.registry))
