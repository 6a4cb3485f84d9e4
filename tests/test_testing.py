# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What users test with.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest
from twisted.internet import reactor as theReactor
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock

from tests.clientmemory import HalfCloseableSeen, Seen, SeenFactory, errorOf, resultOf
from tests.loopback import Echo, Peer, Place, factoryOf, inReactor, passwords
from twisted_socks5 import (
    Decision,
    Login,
    NoAuthentication,
    SOCKS5ClientEndpoint,
    SOCKS5ServerFactory,
    errors,
    wire,
)
from twisted_socks5.testing import FakeClient, FakeProxy, serving

ALICE = Login("alice", "wonderland")


class Attempt:
    def __init__(
        self, proxy: FakeProxy, *logins: Login, protocol: type[Seen] = Seen
    ) -> None:
        self.clock = Clock()
        factory = SeenFactory()
        factory.protocol = protocol
        endpoint = SOCKS5ClientEndpoint(
            proxy, "example.org", 443, *logins, reactor=self.clock
        )
        self.outcome: Any = endpoint.connect(factory)
        self.connection = proxy.connections[-1]


@pytest.mark.parametrize("byOctets", [False, True])
def test_aProxy(byOctets: bool) -> None:
    attempt = Attempt(FakeProxy(banner=b"hi", byOctets=byOctets))
    protocol = resultOf(attempt.outcome)
    assert b"".join(protocol.events[1:]) == b"hi"
    request = attempt.connection.request
    assert request == wire.Request(wire.Command.CONNECT, b"example.org", 443)
    protocol.transport.write(b"pay")
    protocol.transport.writeSequence([b"lo", b"ad"])
    assert attempt.connection.received == b"payload"
    attempt.connection.send(b"answer")
    assert protocol.events[-1] == b"answer"
    protocol.transport.loseConnection()
    assert attempt.connection.isClosed
    assert protocol.events[-1] is ConnectionDone


def test_aProxyThatAsksForAPassword() -> None:
    proxy = FakeProxy(users={"alice": "wonderland"})
    attempt = Attempt(proxy, ALICE)
    assert resultOf(attempt.outcome).events == ["made"]
    assert attempt.connection.login == (b"alice", b"wonderland")
    wrong = Attempt(proxy, Login("alice", "looking-glass"))
    assert type(errorOf(wrong.outcome)) is errors.AuthenticationFailed
    none = Attempt(proxy)
    assert type(errorOf(none.outcome)) is errors.NoAcceptableMethod
    assert none.connection.isClosed


@pytest.mark.parametrize("reply", [*range(1, 10), 0xF0, 0xFF])
def test_replies(reply: int) -> None:
    attempt = Attempt(FakeProxy(reply=reply))
    error = errorOf(attempt.outcome)
    assert type(error) is type(errors.errorForReply(reply))
    assert attempt.connection.isClosed


def test_aMethodThatWasNotOffered() -> None:
    attempt = Attempt(FakeProxy(method=2))
    assert type(errorOf(attempt.outcome)) is errors.UnofferedMethod
    assert attempt.connection.login is None


@pytest.mark.parametrize("byOctets", [False, True])
def test_cutsAndSilence(byOctets: bool) -> None:
    """
    At any byte: 2 of the choice, 2 of the status, 10 of the reply.
    """
    users = {"alice": "wonderland"}
    for length in range(14):
        cut = Attempt(FakeProxy(users, cutAt=length, byOctets=byOctets), ALICE)
        assert type(errorOf(cut.outcome)) is errors.StreamEnded
        silent = Attempt(FakeProxy(users, silentAt=length, byOctets=byOctets), ALICE)
        assert not silent.outcome.called
        silent.clock.advance(30)
        assert type(errorOf(silent.outcome)) is errors.TimedOut
        assert silent.connection.isClosed
    for late in (FakeProxy(users, cutAt=15), FakeProxy(users, silentAt=15)):
        assert resultOf(Attempt(late, ALICE).outcome).events == ["made"]


@pytest.mark.parametrize("kind", [Seen, HalfCloseableSeen])
def test_theDestinationCloses(kind: type[Seen]) -> None:
    attempt = Attempt(FakeProxy(), protocol=kind)
    attempt.connection.endStream()
    end: list[object] = [ConnectionDone] if kind is Seen else ["read closed"]
    assert resultOf(attempt.outcome).events == ["made", *end]


def test_theConnectionIsLost() -> None:
    attempt = Attempt(FakeProxy())
    attempt.connection.close(ConnectionLost())
    attempt.connection.close()
    assert resultOf(attempt.outcome).events == ["made", ConnectionLost]


class DenyAll:
    """
    A policy to be tested.
    """

    def decide(self, request: Any) -> Decision:
        return Decision.deny(reason=f"{request.client.host}")

    def checkAddress(self, request: Any, address: Any) -> Decision:
        return Decision.deny()


def test_aClient() -> None:
    policy: Any = DenyAll()
    factory = SOCKS5ServerFactory(Clock(), [NoAuthentication()], policy)
    client = FakeClient(factory)
    assert client.read(wire.MethodChoice.parse) is None
    client.send(
        wire.Greeting(b"\x00"), wire.Request(1, IPv4Address("127.0.0.1"), 80).encode()
    )
    assert client.read(wire.MethodChoice.parse) == wire.MethodChoice(0)
    reply = client.read(wire.Reply.parse)
    assert reply is not None
    assert reply.reply == 2
    assert client.received == b""
    assert client.isClosed
    assert client.protocol.session.reason == "192.0.2.99"
    client.close()
    assert list(factory.registry) == []


@inReactor
async def test_serving() -> None:
    place = Place(theReactor)
    port = await place.serve(Echo)
    async with serving(theReactor, passwords(alice="wonderland")) as server:
        endpoint = SOCKS5ClientEndpoint(server.endpoint, "127.0.0.1", port, ALICE)
        peer: Any = await endpoint.connect(factoryOf(Peer))
        peer.transport.write(b"hello")
        await place.until(lambda: peer.received == b"hello")
        own = SOCKS5ClientEndpoint(server.endpoint, "127.0.0.1", server.port, ALICE)
        with pytest.raises(errors.ConnectionNotAllowed):
            await own.connect(factoryOf(Peer))
    await place.until(lambda: peer.reason)
    await place.close()
