# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The relay of a UDP association, in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from errno import EAGAIN, EMSGSIZE
from ipaddress import ip_address
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twisted_socks5.addresses import Address
from twisted_socks5.errors import ConnectionNotAllowed, MalformedMessage, NameNotFound
from twisted_socks5.interfaces import (
    IDatagramReceiver,
    IDatagrams,
    IDatagramTraffic,
)
from twisted_socks5.relay import destinations
from twisted_socks5.relay.association import Association
from twisted_socks5.relay.destinations import MAX_DESTINATIONS, MAX_WAITING
from twisted_socks5.wire import Datagram

CLIENT = ("192.0.2.7", 4000)
TARGET = ip_address("198.51.100.9")
ANSWER = b"\0\0\0\x01\xc6\x33\x64\x09\x00\x35"


class Socket:
    """
    Takes what is sent.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Any]] = []
        self.error: OSError | None = None

    def sendto(self, data: bytes, address: Any) -> int:
        if self.error is not None:
            raise self.error
        self.sent.append((data, address))
        return len(data)


class Port:
    """
    A UDP port's transport.
    """

    def __init__(self) -> None:
        self.socket = Socket()
        self.isOpen = True

    def getHandle(self) -> Socket:
        return self.socket

    def stopListening(self) -> None:
        self.isOpen = False


@implementer(IDatagrams)
class Way:
    """
    A way out whose answers the test gives.
    """

    def __init__(self) -> None:
        self.asked: list[Address] = []
        self.answer: Callable[[Address], Any] = self.sendTo
        self.socket = Socket()
        self.isOpen = True
        self.ports: list[int] = []
        self.cancelled = 0
        self.receiver: Any = None

    def start(self, receiver: IDatagramReceiver) -> None:
        self.receiver = receiver

    def sendTo(self, destination: Address) -> Callable[[bytes], object]:
        return lambda payload: self.socket.sendto(payload, destination)

    def sender(self, destination: Address) -> Any:
        self.asked.append(destination)
        return self.answer(destination)

    def close(self) -> None:
        self.isOpen = False

    def later(self, destination: Address) -> Deferred[Any]:
        def cancel(waiting: Deferred[Any]) -> None:
            self.cancelled += 1

        return Deferred(cancel)


class Layer:
    """
    Protects datagrams by a first octet.
    """

    def wrapDatagram(self, data: bytes) -> bytes:
        return b"!" + data

    def unwrapDatagram(self, data: bytes) -> bytes:
        if data[:1] != b"!":
            raise MalformedMessage("unprotected")
        return data[1:]


def deny(destination: Address) -> Any:
    raise ConnectionNotAllowed("no")


class Relay:
    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.way = Way()
        self.port = Port()
        self.reasons: list[str] = []
        self.association = Association(
            self.clock,
            self.way,
            lambda source: source[0] == CLIENT[0],
            self.reasons.append,
            300.0,
            **options,
        )
        # The port has what the association uses of a transport, and no more.
        self.association.makeConnection(self.port)  # type: ignore[arg-type]  # it has what an association asks of a port

    def receive(self, datagram: bytes, source: tuple[str, int] = CLIENT) -> None:
        self.association.datagramReceived(datagram, source)

    def send(
        self, payload: bytes, host: Any = TARGET, port: int = 53, fragment: int = 0
    ) -> None:
        self.receive(Datagram(fragment, host, port, payload).encode())

    @property
    def sent(self) -> list[bytes]:
        return [payload for payload, _ in self.way.socket.sent]


@pytest.fixture
def relay() -> Iterator[Relay]:
    relay = Relay()
    yield relay
    relay.association.close()
    assert not relay.port.isOpen
    assert not relay.way.isOpen
    assert relay.clock.getDelayedCalls() == []


def test_interfaces(relay: Relay) -> None:
    assert verifyObject(IDatagramReceiver, relay.association)
    assert verifyObject(IDatagramTraffic, relay.association)


def test_bothWays(relay: Relay) -> None:
    relay.send(b"one")
    assert relay.way.socket.sent == [(b"one", Address(TARGET, 53))]
    relay.way.receiver.received(ANSWER, b"answer")
    assert relay.port.socket.sent == [(ANSWER + b"answer", CLIENT)]
    traffic = relay.association
    assert (traffic.datagramsUp, traffic.bytesUp) == (1, 3)
    assert (traffic.datagramsDown, traffic.bytesDown) == (1, 6)
    assert traffic.drops == {}


def test_askedOnce(relay: Relay) -> None:
    """
    Each destination, for all datagrams that name it the same way.
    """
    for port in [53, 54, 53, 54]:
        relay.send(b"one", port=port)
    assert relay.way.asked == [Address(TARGET, 53), Address(TARGET, 54)]
    assert len(relay.sent) == 4


def test_namesAreNormalised(relay: Relay) -> None:
    relay.send(b"one", b"Example.ORG.")
    relay.send(b"two", b"127.0.0.1")
    assert relay.way.asked == [
        Address("example.org", 53),
        Address(ip_address("127.0.0.1"), 53),
    ]


def test_impossibleName(relay: Relay) -> None:
    relay.send(b"one", b"a" * 64)
    assert relay.way.asked == []
    assert relay.association.drops == {"unreachable": 1}


def test_thePortIsLearnt(relay: Relay) -> None:
    """
    It is that of the first good datagram; none but the client's host is heard.
    """
    good = Datagram(0, TARGET, 53, b"x").encode()
    relay.receive(good, ("192.0.2.8", 4000))
    relay.receive(b"\0\0\0", (CLIENT[0], 1))
    relay.receive(b"\0\0\1" + good[3:], (CLIENT[0], 2))
    relay.receive(good, CLIENT)
    relay.receive(good, (CLIENT[0], 3))
    relay.receive(good, ("192.0.2.8", 4000))
    assert relay.sent == [b"x"]
    assert relay.association.drops == {"source": 3, "malformed": 1, "fragment": 1}


@pytest.mark.parametrize("length", range(10))
def test_cutShort(relay: Relay, length: int) -> None:
    relay.receive(Datagram(0, TARGET, 53, b"").encode()[:length])
    relay.send(b"good")
    assert relay.sent == [b"good"]
    assert relay.association.drops == {"malformed": 1}


def test_denied(relay: Relay) -> None:
    """
    The answer is remembered.
    """

    relay.way.answer = deny
    relay.send(b"one")
    relay.send(b"two")
    assert len(relay.way.asked) == 1
    assert relay.association.drops == {"denied": 2}


def test_unreachable(relay: Relay) -> None:
    """
    It may be reached later, so it is asked for again.
    """

    async def fail(destination: Address) -> Any:
        raise NameNotFound("no")

    relay.way.answer = fail
    relay.send(b"one", b"example.org")
    relay.way.answer = relay.way.sendTo
    relay.send(b"two", b"example.org")
    assert relay.sent == [b"two"]
    assert relay.association.drops == {"unreachable": 1}


def test_slowNameHoldsUpItsOwnOnly(relay: Relay) -> None:
    """
    And in order.
    """
    slow: Deferred[Any] = Deferred()
    relay.way.answer = lambda _: slow
    relay.send(b"1", b"slow.example")
    relay.send(b"2", b"slow.example")
    relay.way.answer = relay.way.sendTo
    relay.send(b"other", b"fast.example")
    assert relay.sent == [b"other"]
    slow.callback(relay.way.sendTo(Address("slow.example", 53)))
    relay.send(b"3", b"slow.example")
    assert relay.sent == [b"other", b"1", b"2", b"3"]
    assert relay.association.datagramsUp == 4


def test_slowDenial(relay: Relay) -> None:
    slow: Deferred[Any] = Deferred()
    relay.way.answer = lambda _: slow
    relay.send(b"1")
    relay.send(b"2")
    slow.errback(ConnectionNotAllowed("no"))
    assert relay.association.drops == {"denied": 2}


def test_whatWaitsIsBounded(relay: Relay) -> None:
    """
    In datagrams and bytes for each destination, and in bytes for all.
    """
    relay.way.answer = relay.way.later
    for _ in range(100):
        relay.send(b"", b"a.example")
    assert relay.association.drops == {"queue": 36}
    for _ in range(10):
        relay.send(bytes(60_000), b"b.example")
    assert relay.association.drops == {"queue": 44}
    for number in range(40):
        relay.send(bytes(60_000), b"c%d.example" % number)
    kept = MAX_WAITING // 60_000
    assert relay.association.drops == {"queue": 44 + 42 - kept}
    # What need not wait does not suffer.
    relay.way.answer = relay.way.sendTo
    relay.send(b"good")
    assert relay.sent == [b"good"]


def test_lookUpsAreBounded(relay: Relay) -> None:
    relay.way.answer = relay.way.later
    for number in range(destinations.MAX_LOOKUPS + 10):
        relay.send(b"", b"n%d.example" % number)
    assert relay.association.drops == {"queue": 10}
    for port in range(1, destinations.MAX_QUESTIONS + 1):
        relay.send(b"", port=port)
    assert relay.association.drops == {"queue": 10 + destinations.MAX_LOOKUPS}
    relay.association.close()
    assert relay.way.cancelled == destinations.MAX_QUESTIONS


def test_lookUpsOfAllAreBounded() -> None:
    """
    Several associations cannot have more than they may together.
    """
    lookups = destinations.Lookups()
    relays = [Relay(lookups=lookups) for _ in range(6)]
    for relay in relays:
        relay.way.answer = relay.way.later
        for number in range(destinations.MAX_LOOKUPS):
            relay.send(b"", b"n%d.example" % number)
    full = destinations.MAX_LOOKUPS_OF_ALL // destinations.MAX_LOOKUPS
    assert [relay.association.drops["queue"] for relay in relays] == [
        0 if place < full else destinations.MAX_LOOKUPS for place in range(6)
    ]
    for relay in relays:
        relay.association.close()
    assert lookups.running == 0


def test_whatIsRememberedIsBounded(relay: Relay) -> None:
    """
    The oldest is forgotten, and asked for again.
    """
    for port in range(1, MAX_DESTINATIONS + 2):
        relay.send(b"", port=port)
    assert len(relay.way.asked) == MAX_DESTINATIONS + 1
    relay.send(b"", port=2)
    assert len(relay.way.asked) == MAX_DESTINATIONS + 1
    relay.send(b"", port=1)
    assert len(relay.way.asked) == MAX_DESTINATIONS + 2


def test_defect(relay: Relay) -> None:
    """
    A way out that breaks is logged, and the association lives.
    """

    def break_(destination: Address) -> Any:
        raise ZeroDivisionError

    relay.way.answer = break_
    with capturedLogs() as events:
        relay.send(b"one")
    assert [e["log_level"] for e in events] == [LogLevel.error]
    relay.way.answer = relay.way.sendTo
    relay.send(b"two")
    assert relay.sent == [b"two"]


@pytest.mark.parametrize(("errno", "reason"), [(EMSGSIZE, "size"), (EAGAIN, "unsent")])
def test_cannotBeSent(relay: Relay, errno: int, reason: str) -> None:
    relay.way.socket.error = OSError(errno, "no")
    relay.send(b"one")
    relay.send(b"two")
    relay.port.socket.error = OSError(errno, "no")
    relay.way.receiver.received(ANSWER, b"answer")
    assert relay.association.drops == {reason: 3}
    assert relay.association.bytesUp == relay.association.bytesDown == 0


def test_nothingBeforeTheClientIsKnown(relay: Relay) -> None:
    relay.way.receiver.received(ANSWER, b"answer")
    assert relay.port.socket.sent == []


def test_nothingAfterTheEnd(relay: Relay) -> None:
    relay.send(b"one")
    slow: Deferred[Any] = Deferred()
    relay.way.answer = lambda _: slow
    relay.send(b"two", port=54)
    relay.association.close()
    relay.way.receiver.received(ANSWER, b"answer")
    assert relay.port.socket.sent == []
    assert relay.sent == [b"one"]


def test_idle(relay: Relay) -> None:
    """
    Both directions count; what is dropped does not.
    """
    relay.send(b"one")
    relay.clock.advance(299)
    relay.send(b"two")
    relay.clock.advance(299)
    relay.way.receiver.received(ANSWER, b"answer")
    relay.clock.advance(299)
    relay.receive(b"nonsense")
    relay.way.answer = deny
    relay.send(b"denied", port=1)
    relay.send(b"denied", port=1)
    relay.way.socket.error = OSError(EAGAIN, "no")
    relay.send(b"unsent")
    assert not relay.reasons
    relay.clock.advance(1)
    assert relay.reasons == ["idle"]


def test_theWayEnds(relay: Relay) -> None:
    """
    Then so does the association; one that has ended ends no more.
    """
    relay.way.receiver.ended("it is gone")
    assert relay.reasons == ["it is gone"]
    relay.association.close()
    relay.way.receiver.ended("again")
    assert relay.reasons == ["it is gone"]


def test_layer() -> None:
    relay = Relay(layer=Layer())
    good = Datagram(0, TARGET, 53, b"one").encode()
    relay.receive(good)
    relay.receive(b"!" + good)
    assert relay.sent == [b"one"]
    relay.way.receiver.received(ANSWER, b"two")
    assert relay.port.socket.sent == [(b"!" + ANSWER + b"two", CLIENT)]
    assert relay.association.drops == {"malformed": 1}


@pytest.mark.parametrize("method", ["wrapDatagram", "unwrapDatagram"])
def test_brokenLayer(method: str) -> None:
    """
    It is logged, without what it tells, which may be secret; and the session ends.
    """

    def break_(data: bytes) -> bytes:
        raise ZeroDivisionError("hush")

    layer = Layer()
    relay = Relay(layer=layer)
    good = b"!" + Datagram(0, TARGET, 53, b"one").encode()
    relay.receive(good)
    setattr(layer, method, break_)
    with capturedLogs() as events:
        relay.receive(good)
        relay.way.receiver.received(ANSWER, b"two")
    (event,) = events
    assert event["log_level"] == LogLevel.error
    assert "hush" not in formatEvent(event)
    assert relay.reasons == ["protection failed"]


def test_reassembles() -> None:
    relay = Relay(reassembles=True)
    for fragment, payload in [(0x01, b"a"), (0x00, b"alone"), (0x82, b"b")]:
        relay.send(payload, fragment=fragment)
    assert relay.sent == [b"alone", b"ab"]
    relay.send(b"c", fragment=0x01)
    relay.association.close()
    assert relay.association.drops == {"fragment": 1}
    assert relay.clock.getDelayedCalls() == []


def test_fragmentsAreDropped(relay: Relay) -> None:
    for fragment in [0x01, 0x81, 0x7F]:
        relay.send(b"a", fragment=fragment)
    relay.send(b"alone")
    assert relay.sent == [b"alone"]
    assert relay.association.drops == {"fragment": 3}


def test_whatIsAskedAboutIsAskedAgain(relay: Relay) -> None:
    """
    When the policy may have changed, old answers count for nothing, and what waits
    goes on waiting for new ones.
    """
    relay.way.answer = relay.way.later
    relay.send(b"one")
    relay.send(b"two")
    relay.send(b"three", b"example.org")
    revised = Deferred.fromCoroutine(relay.association.revise())
    assert revised.called
    assert relay.way.cancelled == 2
    assert relay.way.asked == [Address(TARGET, 53), Address("example.org", 53)] * 2
    relay.way.answer = deny
    assert Deferred.fromCoroutine(relay.association.revise()).called
    assert relay.association.drops == {"denied": 3}
    relay.way.answer = relay.way.later
    assert Deferred.fromCoroutine(relay.association.revise()).called
    relay.send(b"four")
    relay.way.answer = relay.way.sendTo
    assert Deferred.fromCoroutine(relay.association.revise()).called
    assert relay.sent == [b"four"]
    assert relay.association.drops == {"denied": 3}


def test_askedAgainWhileAnswering(relay: Relay) -> None:
    """
    The policy changes when it has just been asked.
    """

    def changing(destination: Address) -> Any:
        relay.way.answer = deny
        assert Deferred.fromCoroutine(relay.association.revise()).called
        return relay.way.sendTo(destination)

    relay.way.answer = changing
    relay.send(b"one")
    assert relay.sent == []
    assert relay.association.drops == {"denied": 1}
