# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Being connected to through a proxy, in memory and on loopback.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pytest_twisted import blockon
from twisted.internet import reactor as theReactor
from twisted.internet.address import HostnameAddress, IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from tests.clientmemory import (
    CHOSEN,
    PROXY,
    REPLY,
    MemoryEndpoint,
    SeenFactory,
    errorOf,
    resultOf,
)
from tests.conversation import pattern
from tests.loopback import HalfClosingPeer, Peer, Place, inReactor, passwords
from twisted_socks5 import (
    Login,
    SOCKS5ClientEndpoint,
    SOCKS5ServerEndpoint,
    errors,
)

ALICE = Login("alice", "wonderland")
BIND = b"\x05\x02\x00\x01\xc0\x00\x02\x07\x00\x00"
PEER = bytes.fromhex("05000001 c0000207 2328")


class Listening:
    """
    A proxy in memory that waits for 192.0.2.7.
    """

    def __init__(self, first: bytes = REPLY) -> None:
        self.proxy = MemoryEndpoint()
        self.clock = Clock()
        self.factory = SeenFactory()
        self.endpoint = SOCKS5ServerEndpoint(
            self.proxy, "192.0.2.7", 0, reactor=self.clock
        )
        self.outcome: Any = self.endpoint.listen(self.factory)
        self.proxy.say(CHOSEN)
        assert self.proxy.heard() == b"\x05\x01\x00" + BIND
        self.proxy.say(first)

    def port(self) -> Any:
        return resultOf(self.outcome)


def test_theProxysAddress() -> None:
    listening = Listening()
    port = listening.port()
    assert verifyObject(IStreamServerEndpoint, listening.endpoint)
    assert verifyObject(IListeningPort, port)
    assert port.getHost() == IPv4Address("TCP", "198.51.100.1", 8080)
    assert listening.factory.events == ["start"]
    assert listening.clock.getDelayedCalls() == []


def test_anUnspecifiedAddressIsTheProxys() -> None:
    port = Listening(bytes.fromhex("05000001 00000000 1f90")).port()
    assert port.getHost() == IPv4Address("TCP", PROXY.host, 8080)


@pytest.mark.parametrize("host", ["198.51.100.2", "proxy.example"])
def test_anUnspecifiedAddressIsTheLastProxysOfAChain(host: str) -> None:
    """
    Not that of the first, which is all that this host is connected to.
    """
    first = MemoryEndpoint()
    last = SOCKS5ClientEndpoint(first, host, 1080, reactor=Clock())
    endpoint = SOCKS5ServerEndpoint(last, "192.0.2.7", 0, reactor=Clock())
    outcome: Any = endpoint.listen(SeenFactory())
    first.say(CHOSEN + REPLY)
    first.say(CHOSEN)
    assert first.heard().endswith(b"\x05\x01\x00" + BIND)
    first.say(bytes.fromhex("05000001 00000000 1f90"))
    address: Any = resultOf(outcome).getHost()
    if host == "proxy.example":
        assert address == HostnameAddress(b"proxy.example", 8080)
    else:
        assert address == IPv4Address("TCP", host, 8080)


@pytest.mark.parametrize("byOctets", [False, True])
def test_aPeer(byOctets: bool) -> None:
    listening = Listening()
    port = listening.port()
    listening.proxy.say(PEER + b"hello", byOctets=byOctets)
    protocol: Any = resultOf(port.accepted)
    assert protocol.events[0] == "made"
    assert b"".join(protocol.events[1:]) == b"hello"
    assert listening.factory.events == [
        "start",
        IPv4Address("TCP", "192.0.2.7", 9000),
        "stop",
    ]
    resultOf(port.stopListening())  # it is closed already
    assert not listening.proxy.transport.disconnecting


def test_bothRepliesAtOnce() -> None:
    listening = Listening(REPLY + PEER + b"hello")
    assert resultOf(listening.port().accepted).events == ["made", b"hello"]


@pytest.mark.parametrize("reply", [1, 2, 6, 7, 0xF0])
def test_theProxyDoesNotListen(reply: int) -> None:
    listening = Listening(bytes((5, reply)) + REPLY[2:])
    error = errorOf(listening.outcome)
    assert type(error) is type(errors.errorForReply(reply))
    assert listening.proxy.transport.disconnected
    assert listening.factory.events == []


@pytest.mark.parametrize("reply", [1, 2, 6, 0xF0])
def test_theProxyStopsWaiting(reply: int) -> None:
    listening = Listening()
    port = listening.port()
    listening.proxy.say(bytes((5, reply)) + PEER[2:])
    error: Any = errorOf(port.accepted)
    assert type(error) is type(errors.errorForReply(reply))
    assert (error.proxy, error.target) == ("192.0.2.1:1080", "192.0.2.7:0")
    assert listening.proxy.transport.disconnected
    assert listening.factory.events == ["start", "stop"]


def test_theSecondReplyCutAtEachByte() -> None:
    for length in range(len(PEER)):
        listening = Listening()
        port = listening.port()
        listening.proxy.say(PEER[:length])
        listening.proxy.lose()
        assert type(errorOf(port.accepted)) is errors.StreamEnded
        assert listening.factory.events == ["start", "stop"]


def test_stopListening() -> None:
    listening = Listening()
    port = listening.port()
    resultOf(port.stopListening())
    assert listening.proxy.transport.disconnected
    listening.proxy.lose()
    assert not port.accepted.called
    assert listening.factory.events == ["start", "stop"]
    port.startListening()


def test_timeout() -> None:
    proxy, clock = MemoryEndpoint(), Clock()
    outcome = SOCKS5ServerEndpoint(proxy, "192.0.2.7", 0, reactor=clock).listen(
        SeenFactory()
    )
    proxy.say(CHOSEN + REPLY[:-1])
    clock.advance(30)
    assert type(errorOf(outcome)) is errors.TimedOut
    assert proxy.transport.disconnected


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place(theReactor)
    yield place
    blockon(Deferred.fromCoroutine(place.close()))


@inReactor
async def test_throughAProxyOfOurs(place: Place) -> None:
    proxy: Any = await place.proxy(passwords(alice="wonderland"))
    factory: Any = SeenFactory()
    factory.protocol = HalfClosingPeer
    endpoint = SOCKS5ServerEndpoint(place.to(proxy.port), "127.0.0.1", 0, ALICE)
    port: Any = await endpoint.listen(factory)
    host = port.getHost()
    peer: Any = await connectProtocol(place.to(host.port), Peer())
    accepted: Any = await port.accepted
    assert factory.events[1] == IPv4Address(
        "TCP", "127.0.0.1", peer.transport.getHost().port
    )
    data = pattern(5, 1 << 20)
    peer.transport.write(data)
    accepted.transport.write(data)
    await place.until(lambda: len(peer.received) + len(accepted.received) == 2 << 20)
    assert peer.received == accepted.received == data
    accepted.transport.loseConnection()
    await place.until(lambda: peer.reason and accepted.reason)


@inReactor
async def test_stopListeningClosesTheProxysPort(place: Place) -> None:
    proxy: Any = await place.proxy()
    endpoint = SOCKS5ServerEndpoint(place.to(proxy.port), "127.0.0.1", 0)
    port: Any = await endpoint.listen(SeenFactory())
    await port.stopListening()
    await place.until(lambda: not list(proxy.registry))
