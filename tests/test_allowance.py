# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Who is counted for what, and refused when it is too much.
"""

from __future__ import annotations

from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tests.conversation import GREET, request
from tests.counting import HOST, Client, Elsewhere, Limiting, Server
from twisted_socks5 import (
    Decision,
    Limits,
)
from twisted_socks5.addresses import Address
from twisted_socks5.authenticators import Identity
from twisted_socks5.errors import ConnectionNotAllowed
from twisted_socks5.interfaces import (
    ILedger,
)
from twisted_socks5.limits import Admission, LocalLedger
from twisted_socks5.limits.claims import Claim, clientOf, userOf
from twisted_socks5.limits.tokenbucket import TokenBucket
from twisted_socks5.server.accounting import Accounting
from twisted_socks5.wire import Command

# -- the bucket ------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 100))),
)
def test_bucketIsAsItsDefinition(
    rate: int, burst: int, steps: list[tuple[int, int]]
) -> None:
    """
    In no span of time is more taken than the burst and what the span has brought,
    and whenever less is taken than was asked for, that was all of it.  (Times are in
    eighths of a second, so that nothing is rounded.)
    """
    bucket = TokenBucket(rate, burst, 0.0)
    now, taken = 0.0, []
    for wait, amount in steps:
        now += wait / 8
        got = bucket.takeUpTo(amount, now)
        taken.append((now, got))
        spans = []
        for place, (start, _) in enumerate(taken):
            spent = sum(count for _, count in taken[place:])
            spans.append(burst + (now - start) * rate - spent)
        assert min(spans) >= 0
        if got < amount:
            assert min(spans) < 1


def test_bucketAndAClockThatIsSetBack() -> None:
    bucket = TokenBucket(10, 10, 100.0)
    assert bucket.takeUpTo(99, 100.0) == 10
    assert bucket.takeUpTo(99, 50.0) == 0
    assert bucket.takeUpTo(99, 50.5) == 5


def test_bucketThatIsChanged() -> None:
    bucket = TokenBucket(10, 10, 0.0)
    bucket.change(4, 2, 0.0)
    assert bucket.takeUpTo(99, 0.0) == 2
    assert bucket.takeUpTo(99, 0.25) == 1
    bucket.change(10, 10, 0.25)
    assert bucket.takeUpTo(99, 0.25) == 0
    assert not bucket.isFull(1.0)
    assert bucket.isFull(1.25)


# -- the ledger ------------------------------------------------------------------------


def test_ledgerCountsAllOrNothing() -> None:
    ledger = LocalLedger(Clock().seconds)
    verifyObject(ILedger, ledger)
    wide = Claim("", "sessions", "", 2)
    narrow = Claim("", "sessions-per-client", "192.0.2.1", 1)
    assert ledger.admit([wide, narrow]) is None
    assert ledger.admit([wide, narrow]) == narrow
    assert ledger.admit([wide]) is None  # of which there was one left
    assert ledger.admit([wide]) == wide
    ledger.release([wide, narrow])
    assert ledger.admit([wide, narrow]) is None


def test_ledgerOfNewOnes() -> None:
    """
    As many as in a second at once, and then one after the other; they are not given
    back.
    """
    clock = Clock()
    ledger = LocalLedger(clock.seconds)
    claim = Claim("", "new-sessions", "", 4)
    assert [ledger.admit([claim]) for _ in range(5)] == [None] * 4 + [claim]
    ledger.release([claim])
    assert ledger.admit([claim]) == claim
    clock.advance(0.25)
    assert ledger.admit([claim]) is None
    assert ledger.admit([claim]) == claim


def test_ledgerWhoseLimitIsChanged() -> None:
    """
    What is counted stays counted.
    """
    ledger = LocalLedger(Clock().seconds)
    ledger.admit([Claim("", "sessions", "", 5)])
    ledger.admit([Claim("", "sessions", "", 5)])
    claim = Claim("", "sessions", "", 2)
    assert ledger.admit([claim]) == claim


def test_ledgerForgets() -> None:
    """
    Whoever has come once, and not again, costs nothing in the end.
    """
    clock = Clock()
    ledger = LocalLedger(clock.seconds)
    for number in range(5000):
        claim = Claim("", "new-sessions-per-client", str(number), 1)
        assert ledger.admit([claim]) is None
        assert ledger.admit([claim]) == claim
        clock.advance(0.01)
    assert len(ledger._buckets) < 1200


# -- who is who ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "limits", "network"),
    [
        ("192.0.2.77", Limits(), "192.0.2.77"),
        ("::ffff:192.0.2.77", Limits(), "192.0.2.77"),
        ("192.0.2.77", Limits(clientPrefixIpv4=24), "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", Limits(), "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3::4", Limits(clientPrefixIpv6=48), "2001:db8:1::/48"),
        ("2001:db8::4", Limits(clientPrefixIpv6=128), "2001:db8::4/128"),
    ],
)
def test_clientsAsNetworks(host: str, limits: Limits, network: str) -> None:
    assert clientOf(Address(ip_address(host), 1), limits) == network


def test_usersWithoutAName() -> None:
    """
    They are their networks, and nobody who is called so is one of them.
    """
    client = Address(HOST, 1)
    assert userOf(Identity(), client, Limits()) == "client 192.0.2.1"
    named = Identity("client 192.0.2.1")
    assert userOf(named, client, Limits()) == "user client 192.0.2.1"


# -- a server --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limits", [Limits(sessions=1), Limits(sessionsPerClient=1), Limits(newSessions=1)]
)
def test_beforeTheGreeting(limits: Limits) -> None:
    """
    One too many is closed at once, whatever it says, and counted.
    """
    server = Server(limits=limits)
    assert server.come().isServed
    over = server.come()
    assert over.transport.disconnected
    assert not over.isServed
    (key,) = server.admission.limitsHit
    assert over.reason == f"over limit.{key}"
    assert server.admission.limitsHit[key] == 1


@pytest.mark.parametrize(
    ("limits", "another"),
    [
        (Limits(sessionsPerClient=1), "192.0.2.2"),
        (Limits(newSessionsPerClient=1), "192.0.2.2"),
        (Limits(sessionsPerClient=1, clientPrefixIpv4=24), "192.0.3.1"),
    ],
)
def test_clientsAreCountedByThemselves(limits: Limits, another: str) -> None:
    server = Server(limits=limits)
    assert server.come().isServed
    assert not server.come().isServed
    assert server.come(another).isServed


def test_clientsOfOneNetwork() -> None:
    server = Server(limits=Limits(sessionsPerClient=1))
    assert server.come("2001:db8:1:2::1").isServed
    assert not server.come("2001:db8:1:2::2").isServed
    assert server.come("2001:db8:1:3::1").isServed


@pytest.mark.parametrize(
    ("limits", "key"),
    [
        (Limits(sessionsPerUser=1), "sessions-per-user"),
        (Limits(newSessionsPerUser=1), "new-sessions-per-user"),
    ],
)
def test_users(limits: Limits, key: str) -> None:
    """
    They are told that it is not allowed, whatever address they come from.
    """
    server = Server(limits=limits)
    assert server.ask("alice").reply == 0
    over = server.ask("alice", "192.0.2.2")
    assert over.reply == 2
    assert over.reason == f"over limit.{key}"
    assert server.ask("bob").reply == 0
    assert server.ask(host="192.0.2.3").reply == 0
    assert server.ask(host="192.0.2.3").reply == 2  # who has no name
    assert server.ask(host="192.0.2.4").reply == 0


@pytest.mark.parametrize(
    ("command", "limits", "key"),
    [
        (2, Limits(bindsPerClient=1), "binds-per-client"),
        (3, Limits(associationsPerClient=1), "associations-per-client"),
    ],
)
def test_ports(command: int, limits: Limits, key: str) -> None:
    server = Server(limits=limits)
    first = server.ask(command=command)
    assert first.reply == 0
    over = server.ask(command=command)
    assert (over.reply, over.reason) == (1, f"over limit.{key}")
    assert server.ask(command=command, host="192.0.2.2").reply == 0
    assert server.ask(command=1).reply == 0
    first.goAway()
    assert server.ask(command=command).reply == 0


def test_limitsOfADecision() -> None:
    """
    They are for all together whom decisions of that scope let pass, and nobody else.
    """
    policy = Limiting()
    policy.limits = Limits(sessions=2, sessionsPerUser=1)
    server = Server(policy=policy)
    assert server.ask("alice", port=80).reply == 0
    over = server.ask("alice", port=80)
    assert over.reply == 2
    assert over.reason == "over limit.sessions-per-user of port 80"
    assert server.ask("alice", port=443).reply == 0
    assert server.ask("bob", port=80).reply == 0
    over = server.ask(port=80)
    assert (over.reply, over.reason) == (2, "over limit.sessions of port 80")


def test_limitsOfAnAddress() -> None:
    """
    A session is counted once for the rule that an address of its is allowed by.
    """
    policy = Limiting()
    policy.limitsOfAddresses = Limits(sessions=2)
    server = Server(policy=policy)
    first = server.ask(port=443)
    assert first.reply == 0
    assert server.ask(port=80).reply == 0
    over = server.ask(port=80)
    assert (over.reply, over.reason) == (
        2,
        "over limit.sessions of address 198.51.100.1",
    )
    first.goAway()
    assert server.ask(port=443).reply == 0
    assert server.ask(port=443).reason == "over limit.sessions of address 198.51.100.1"


def test_refusedOnce() -> None:
    """
    An address that was over its rule's limit is not allowed by asking again.
    """
    policy = Limiting()
    policy.limitsOfAddresses = Limits(sessions=1)
    server = Server(policy=policy)
    assert server.ask(port=443).reply == 0
    other = Client(server, "192.0.2.1")
    other.send(GREET + request(1, "198.51.100.3", 82))
    assert other.reply == 2
    assert other.reason == "over limit.sessions of address 198.51.100.2"


def test_listenersLimits() -> None:
    """
    The process's are kept too, over all of its listeners.
    """
    server = Server(limits=Limits(sessions=3))
    factories = [
        Server(
            ledger=server.ledger,
            within=lambda _, scope=scope: server.admission.within(
                scope, Limits(sessions=2)
            ),
        )
        for scope in ("listener a", "listener b")
    ]
    one, other = factories
    assert one.come().isServed
    assert one.come().isServed
    over = one.come()
    assert over.reason == "over limit.sessions of listener a"
    assert other.come().isServed
    assert other.come().reason == "over limit.sessions"
    assert server.admission.limitsHit == {"sessions": 2}


def test_withoutLimitsNothingIsCounted() -> None:
    server = Server(limits=Limits())
    assert server.ask().reply == 0
    assert server.ledger.claims == []


# -- a ledger that answers later ---------------------------------------------------------


def test_answerThatComesLater() -> None:
    """
    Meanwhile what the client says is kept.
    """
    ledger = Elsewhere()
    server = Server(limits=Limits(sessions=1, sessionsPerUser=1), ledger=ledger)
    client = server.ask("alice")
    assert client.answer == b""
    [(claims, answer)] = ledger.asked
    assert claims == [Claim("", "sessions", "", 1)]
    answer.callback(None)
    assert client.answer == b"\x05\x02\x01\x00"
    claims, answer = ledger.asked[1]
    assert claims == [Claim("", "sessions-per-user", "user alice", 1)]
    answer.callback(None)
    assert client.reply == 0
    client.goAway()
    assert [claim.key for claim in ledger.released] == ["sessions", "sessions-per-user"]


def test_clientThatHasSaidEverything() -> None:
    """
    It may close its direction before it is known whether it may stay.
    """
    ledger = Elsewhere()
    client = Server(limits=Limits(sessions=1), ledger=ledger).ask("alice")
    client.protocol.readConnectionLost()
    assert not client.transport.disconnected
    ledger.asked[0][1].callback(None)
    assert client.answer[:4] == b"\x05\x02\x01\x00"


def test_answerBeforeTheClientSpeaks() -> None:
    ledger = Elsewhere()
    client = Server(limits=Limits(sessions=1), ledger=ledger).come()
    ledger.asked[0][1].callback(None)
    assert client.isServed


def test_refusalThatComesLater() -> None:
    ledger = Elsewhere()
    client = Server(limits=Limits(sessions=1), ledger=ledger).come()
    claims, answer = ledger.asked[0]
    answer.callback(claims[0])
    assert client.transport.disconnected
    assert client.reason == "over limit.sessions"
    assert ledger.released == []


@pytest.mark.parametrize("place", [0, 1])
def test_clientThatGoesMeanwhile(place: int) -> None:
    """
    What it is counted for after all is given back.
    """
    ledger = Elsewhere()
    server = Server(limits=Limits(sessions=1, sessionsPerUser=1), ledger=ledger)
    client = server.ask("alice")
    if place:
        ledger.asked[0][1].callback(None)
    client.goAway()
    claims, answer = ledger.asked[place]
    assert claims[0] not in ledger.released
    answer.callback(None)
    assert claims[0] in ledger.released


def test_ledgerThatFails() -> None:
    """
    Nobody is let in by that.
    """
    ledger = Elsewhere()
    client = Server(limits=Limits(sessions=1), ledger=ledger).come()
    with capturedLogs() as events:
        ledger.asked[0][1].errback(Failure(ConnectionLost()))
    assert client.transport.disconnected
    assert [event["log_level"].name for event in events] == ["error"]


def test_twoAskForOneRule() -> None:
    """
    Nobody passes by a rule while it is not known yet whether there is room.
    """
    ledger = Elsewhere()
    session: Any = SimpleNamespace(
        client=Address(ip_address("192.0.2.1"), 1),
        identity=Identity("alice", b"alice", (), 2),
        command=int(Command.ASSOCIATE),
        traffic=None,
    )
    accounting = Accounting(Admission(Clock(), ledger=ledger), session)
    decision = attrs.evolve(Decision.allow(limits=Limits(sessions=1)), scope="rule")
    outcomes: list[object] = []
    for _ in range(3):
        asked = Deferred.fromCoroutine(accounting.forRule(decision))
        asked.addBoth(outcomes.append)
    assert outcomes == []
    for _ in range(2):
        claims, answer = ledger.asked[-1]
        answer.callback(claims[0])
    refused, alsoRefused = outcomes
    for each in (refused, alsoRefused):
        assert isinstance(each, Failure)
        assert each.check(ConnectionNotAllowed)
    accounting.end()
    ledger.asked[-1][1].callback(None)
    assert len(ledger.asked) == 3
    assert ledger.released == list(ledger.asked[-1][0])
    late = Deferred.fromCoroutine(accounting.forRule(decision))
    late.addErrback(lambda failure: outcomes.append(failure.type))
    assert outcomes[-1] is ConnectionNotAllowed
    assert len(ledger.asked) == 3
