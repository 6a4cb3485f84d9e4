# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Limits that change while sessions live.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface import implementer

from tests.counting import Client, Elsewhere, Limiting, Server
from twisted_socks5 import (
    Decision,
    Limits,
)
from twisted_socks5.addresses import Address
from twisted_socks5.authenticators import Identity
from twisted_socks5.errors import ConnectionNotAllowed
from twisted_socks5.interfaces import (
    ILedger,
    IRequest,
)
from twisted_socks5.limits import Admission
from twisted_socks5.limits.claims import Claim
from twisted_socks5.server.accounting import Accounting
from twisted_socks5.server.session import State
from twisted_socks5.wire import Command


def test_limitsAreChanged() -> None:
    """
    Also for listeners, whose own stay; who is there already stays counted.
    """
    outer = Admission(Clock(), Limits(sessions=2))
    server = Server(within=lambda _: outer.within("x", Limits()))
    assert server.come().isServed
    assert server.come().isServed
    assert not server.come().isServed
    outer.replace(Limits(sessions=3))
    assert server.come().isServed
    assert not server.come().isServed
    outer.replace(Limits())
    assert server.come().isServed


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("caeg"), st.integers(0, 5))))
def test_everythingIsGivenBack(steps: list[tuple[str, int]]) -> None:
    """
    However clients come, ask and go, in the end nothing is counted any more but that
    there were new ones.
    """
    limits = Limits(
        sessions=4,
        sessionsPerClient=2,
        sessionsPerUser=2,
        bindsPerClient=1,
        associationsPerClient=1,
        newSessions=100,
    )
    policy = Limiting()
    policy.limits = Limits(sessions=3, bindsPerClient=0)
    server = Server(limits=limits, policy=policy)
    clients: list[Client] = []
    for step, number in steps:
        host = f"192.0.2.{number % 2}"
        if step == "c":
            clients.append(server.come(host))
        elif step == "a":
            user = ("", "alice", "bob")[number % 3]
            clients.append(server.ask(user, host, 1 + number % 3))
        elif step == "e" and clients:
            clients[number % len(clients)].send(b"nonsense")
        elif clients:
            clients.pop(number % len(clients)).goAway()
    for client in clients:
        client.goAway()
    assert server.ledger.counted == []
    assert len(server.factory.registry) == 0


LIMITS = st.builds(
    Limits,
    *[st.sampled_from([0, 1, 2])] * 7,
    bytesPerDay=st.sampled_from([0, 1000]),
    bandwidthPerUser=st.sampled_from([0, 1000]),
    clientPrefixIpv4=st.sampled_from([24, 32]),
)


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("aaeg"), st.integers(0, 5)),
            st.tuples(st.just("p"), LIMITS),
            st.tuples(st.just("r"), st.one_of(st.none(), LIMITS)),
        )
    )
)
def test_everySessionIsCountedOnce(steps: list[tuple[str, Any]]) -> None:
    """
    However limits of the process and of rules change meanwhile, what lives is counted
    once for all that there is a limit of, and for nothing else; in the end, nothing is.
    """
    policy = Limiting()
    server = Server(policy=policy, limits=Limits(bindsPerClient=0))
    process = Limits(bindsPerClient=0)
    clients: list[Client] = []
    for step, what in steps:
        if step == "a":
            user, host = ("", "alice", "bob")[what % 3], f"192.0.2.{what % 2}"
            clients.append(server.ask(user, host, 1 + what % 3))
            session = clients[-1].protocol.session
            session.traffic = SimpleNamespace(bytesUp=0, bytesDown=0)
        elif step == "e" and clients:
            clients[what % len(clients)].send(b"nonsense")
        elif step == "g" and clients:
            clients.pop(what % len(clients)).goAway()
        elif step in "pr":
            if step == "p":
                process = what
                server.admission.replace(what)
            else:
                policy.limits = what
            assert server.factory.reviseSessions().called
            server.clock.advance(0)
            live = [client.protocol.session for client in clients]
            live = [one for one in live if one.state is State.RUNNING]
            # Those that end have not all been read to their end.
            others = len(server.factory.registry) - len(live)
            counted = Counter(claim[:3] for claim in server.ledger.counted)
            for scope, limits in (("", process), ("port 80", policy.limits)):
                if limits is None:
                    continue  # who was counted for a rule may be still
                found = counted[scope, "sessions", ""]
                expected = len(live) if limits.sessions else 0
                assert expected <= found <= expected + others
                for name in ("alice", "bob"):
                    found = counted[scope, "sessions-per-user", f"user {name}"]
                    users = [one for one in live if one.identity.name == name]
                    expected = len(users) if limits.sessionsPerUser else 0
                    assert expected <= found <= expected + others
            assert all(session.reason == "" for session in live)
    for client in clients:
        client.goAway()
    assert server.ledger.counted == []
    assert server.ledger._held == {}
    assert len(server.factory.registry) == 0
    server.clock.advance(60)
    assert server.clock.getDelayedCalls() == []
    assert server.admission._bandwidths._used == {}


def test_quotaThatIsChanged() -> None:
    """
    What was carried is used once, of the limit that there is.
    """
    server = Server(limits=Limits(bindsPerClient=0))
    session = server.ask("alice").protocol.session
    session.traffic = SimpleNamespace(bytesUp=5000, bytesDown=0)
    for limit in (2000, 3000):
        server.admission.replace(Limits(bytesPerDay=limit))
        server.factory.reviseSessions()
    session.traffic.bytesDown = 1999
    server.clock.advance(1)
    claim = Claim("", "bytes-per-day", "user alice", 1999)
    assert server.ledger.admit([claim]) == claim
    assert server.ledger.admit([claim._replace(limit=2000)]) is None
    assert session.reason == ""
    session.traffic.bytesDown = 3000
    server.clock.advance(1)
    server.clock.advance(0)
    assert session.reason == "over limit.bytes-per-day"


@pytest.mark.parametrize("isOver", [True, False])
def test_changedWhileALedgerIsAsked(isOver: bool) -> None:
    """
    A session that lives is asked for once, and given back when it ends meanwhile;
    nothing counts its bytes then.
    """
    ledger = Elsewhere()
    server = Server(limits=Limits(bindsPerClient=0), ledger=ledger)
    client = server.ask("alice")
    limits = Limits(sessionsPerUser=1, bytesPerDay=1000)
    for _ in range(2):
        server.admission.replace(limits)
        server.factory.reviseSessions()
    [(claims, answer)] = ledger.asked
    assert [claim.key for claim in claims] == ["sessions-per-user"]
    if isOver:
        client.goAway()
        answer.callback(None)
    else:
        answer.callback(None)
        assert client.reason == ""
        client.goAway()
    assert ledger.released == claims
    assert server.clock.getDelayedCalls() == []


def test_ruleThatIsNoMoreBeforeItIsAnswered() -> None:
    """
    A session that is judged again before it is served is counted by what it was allowed
    by in the end, and by nothing else.
    """
    ledger, policy = Elsewhere(), Limiting()
    policy.limits = Limits(sessions=5)
    server = Server(policy=policy, limits=Limits(bindsPerClient=0), ledger=ledger)
    client = server.ask("alice")
    [(claims, answer)] = ledger.asked
    policy.limits = None
    server.factory.reviseSessions()
    answer.callback(None)
    assert client.protocol.session.state is State.RUNNING
    assert ledger.released == claims
    assert len(ledger.asked) == 1


class Late(Limiting):
    """
    Answers when it is told to.
    """

    isLate = False

    def __init__(self) -> None:
        self.answers: list[Deferred[Decision]] = []

    def decide(self, request: IRequest) -> Any:
        if not self.isLate:
            return Limiting.decide(self, request)
        self.answers.append(Deferred())
        return self.answers[-1]


def test_anAnswerThatComesWhenThereIsAConnection() -> None:
    """
    A session that was judged again on its way is judged by where it has come to, too.
    """
    policy, dialled = Late(), Address(ip_address("198.51.100.1"), 80)
    policy.limitsOfAddresses = Limits(bytesPerDay=2000)
    server = Server(policy=policy)
    protocol = server.ask("alice").protocol
    session = protocol.session
    policy.isLate = True
    server.factory.reviseSessions()
    policy.isLate = False
    Deferred.fromCoroutine(protocol.approve(dialled))
    session.state, session.dialled = State.RELAYING, dialled
    session.traffic = SimpleNamespace(bytesUp=0, bytesDown=0)
    policy.answers.pop().callback(Decision.allow())
    session.traffic.bytesDown = 2000
    server.clock.advance(1)
    server.clock.advance(0)
    assert session.reason == "over limit.bytes-per-day of address 198.51.100.1"


@pytest.mark.parametrize("isLate", [True, False])
def test_whoIsCancelledAllowsNothing(isLate: bool) -> None:
    """
    A policy that waits for something that was cancelled has allowed nothing.
    """
    policy = Late()
    server = Server(policy=policy)
    session = server.ask("alice").protocol.session
    assert session.state is State.RUNNING

    def refuse(request: IRequest) -> Decision:
        raise CancelledError

    if isLate:
        policy.isLate = True
    else:
        policy.decide = refuse  # type: ignore[method-assign]  # it breaks
    with capturedLogs() as events:
        server.factory.reviseSessions()
        if isLate:
            policy.answers.pop().errback(CancelledError())
        server.clock.advance(0)
    assert session.reason == "revising failed"
    assert [event["log_level"].name for event in events] == ["error"]


@implementer(ILedger)
class Broken(Elsewhere):
    """
    Cannot count.
    """

    def admit(self, claims: Sequence[Claim]) -> Any:
        raise RuntimeError("it cannot")


def test_aLedgerThatFailsAtReload() -> None:
    """
    Who cannot be counted by the new limits is judged no further, and ends.
    """
    server = Server(ledger=Broken())
    session = server.ask("alice").protocol.session
    server.admission.replace(Limits(sessions=5))
    with capturedLogs() as events:
        server.factory.reviseSessions()
        server.clock.advance(0)
    assert session.reason == "revising failed"
    assert [event["log_level"].name for event in events] == ["error"]


def test_ruleThatIsAskedForWhenItIsOver() -> None:
    """
    Or by someone who waits no more: the next one waits for an answer of its own.
    """
    ledger = Elsewhere()
    session: Any = SimpleNamespace(
        client=Address(ip_address("192.0.2.1"), 1),
        identity=Identity("alice", b"alice", (), 2),
        command=int(Command.ASSOCIATE),
        traffic=None,
    )
    clock = Clock()
    accounting = Accounting(Admission(clock, ledger=ledger), session)
    limits = Limits(sessions=1, bytesPerDay=1000)
    decision = attrs.evolve(Decision.allow(limits=limits), scope="rule")
    outcomes: list[object] = []

    def ask() -> Deferred[None]:
        asked = Deferred.fromCoroutine(accounting.forRule(decision))
        return asked.addErrback(lambda failure: outcomes.append(failure.type))

    ask().cancel()
    ask()
    assert outcomes == [CancelledError]
    assert len(ledger.asked) == 2
    ledger.asked[0][1].callback(None)
    assert ledger.released == list(ledger.asked[0][0])
    accounting.end()
    ledger.asked[1][1].callback(None)
    assert outcomes == [CancelledError, ConnectionNotAllowed]
    assert len(ledger.released) == 4
    assert clock.getDelayedCalls() == []
