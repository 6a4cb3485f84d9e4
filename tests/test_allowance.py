# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Who is counted for what, and refused when it is too much.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.conversation import GREET, request
from twisted_socks5 import (
    Decision,
    Limits,
    NoAuthentication,
    SOCKS5ServerFactory,
    UsernamePasswordAuthenticator,
)
from twisted_socks5.addresses import Address
from twisted_socks5.authenticators import Identity
from twisted_socks5.errors import ConnectionNotAllowed
from twisted_socks5.interfaces import (
    ICommand,
    ICommandSession,
    IConnectPolicy,
    ILedger,
    IRequest,
)
from twisted_socks5.limits import Admission, LocalLedger
from twisted_socks5.limits.claims import Claim, clientOf, userOf
from twisted_socks5.limits.tokenbucket import TokenBucket
from twisted_socks5.server.accounting import Accounting
from twisted_socks5.server.session import State
from twisted_socks5.wire import Command

HOST = ip_address("192.0.2.1")


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


@implementer(IConnectPolicy)
class Limiting:
    """
    Limits what it allows, by the port.
    """

    limits: Limits | None = None
    limitsOfAddresses: Limits | None = None

    def decide(self, request: IRequest) -> Decision:
        scope = f"port {request.destination.port}"
        return Decision.allow(limits=self.limits, scope=scope)

    def checkAddress(self, request: IRequest, address: Address) -> Decision:
        scope = f"address {address.ip}"
        return Decision.allow(limits=self.limitsOfAddresses, scope=scope)


class Recording(LocalLedger):
    """
    Remembers what was claimed and not released.
    """

    def __init__(self, clock: Clock) -> None:
        LocalLedger.__init__(self, clock.seconds)
        self.claims: list[Claim] = []

    def admit(self, claims: Sequence[Claim]) -> Claim | None:
        refused = LocalLedger.admit(self, claims)
        if refused is None:
            self.claims += claims
        return refused

    def release(self, claims: Sequence[Claim]) -> None:
        LocalLedger.release(self, claims)
        for claim in claims:
            self.claims.remove(claim)

    @property
    def counted(self) -> list[Claim]:
        """
        All but that there were new ones.
        """
        return [claim for claim in self.claims if not claim.isRate]


@implementer(ILedger)
class Elsewhere:
    """
    Answers later.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[list[Claim], Deferred[Claim | None]]] = []
        self.released: list[Claim] = []

    def admit(self, claims: Sequence[Claim]) -> Deferred[Claim | None]:
        answer: Deferred[Claim | None] = Deferred()
        self.asked.append((list(claims), answer))
        return answer

    def release(self, claims: Sequence[Claim]) -> None:
        self.released += claims

    def spend(self, amounts: Mapping[Claim, int]) -> list[Claim]:
        assert not any(amounts.values())
        return []

    def buy(self, claim: Claim, amount: int) -> int:
        return amount


@implementer(ICommand)
class Waiting:
    """
    Says that all is well, and waits for the client to go.  What the client names has
    the same address, and another one.
    """

    def __init__(self, code: int) -> None:
        self.code = code

    async def run(self, session: ICommandSession, request: IRequest) -> None:
        await session.check(request.destination)
        await session.check(request.destination)
        if request.destination.port == 82:
            await self.checkAgain(session)
        if request.destination.port == 443:
            await session.check(Address(ip_address("198.51.100.2"), 443))
        session.sendReply(0)
        await session.untilClosed()

    async def checkAgain(self, session: ICommandSession) -> None:
        """
        Another address, although it was denied.
        """
        address = Address(ip_address("198.51.100.2"), 82)
        with suppress(ConnectionNotAllowed):
            await session.check(address)
        await session.check(address)


class Server:
    """
    A server, whose clients come from memory.
    """

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.ledger = Recording(self.clock)
        users = InMemoryUsernamePasswordDatabaseDontUse(alice=b"alice", bob=b"bob")
        limits = options.pop("limits", Limits(bindsPerClient=0))
        admission = Admission(self.clock, limits, options.pop("ledger", self.ledger))
        self.admission = options.pop("within", lambda it: it)(admission)
        self.factory: Any = SOCKS5ServerFactory(
            self.clock,
            [NoAuthentication(), UsernamePasswordAuthenticator.withCheckers(users)],
            commands=[Waiting(code) for code in (1, 2, 3)],
            admission=self.admission,
            policy=options.pop("policy", Limiting()),
            **options,
        )

    def come(self, host: str = "192.0.2.1") -> Client:
        return Client(self, host)

    def ask(
        self, user: str = "", host: str = "192.0.2.1", command: int = 1, port: int = 80
    ) -> Client:
        """
        A client that asks for something.
        """
        client = self.come(host)
        login = GREET
        if user:
            login = b"\x05\x01\x02\x01" + 2 * (bytes((len(user),)) + user.encode())
        client.send(login + request(command, "198.51.100.1", port))
        return client


class Client:
    def __init__(self, server: Server, host: str) -> None:
        kind = IPv6Address if ":" in host else IPv4Address
        self.protocol = server.factory.buildProtocol(None)
        self.transport: Any = StringTransport(
            hostAddress=IPv4Address("TCP", "192.0.2.9", 1080),
            peerAddress=kind("TCP", host, 40000),
        )
        self.protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    @property
    def isServed(self) -> bool:
        """
        Whether it has been greeted.
        """
        self.send(b"\x05\x01\x00")
        return self.answer == b"\x05\x00"

    @property
    def answer(self) -> bytes:
        answer: bytes = self.transport.value()
        return answer

    @property
    def reply(self) -> int:
        """
        The REP octet of what was answered last.
        """
        return self.answer[-9]

    @property
    def reason(self) -> str:
        reason: str = self.protocol.session.reason
        return reason

    def goAway(self) -> None:
        self.protocol.connectionLost(connectionDone)


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
        policy.decide = refuse  # type: ignore[method-assign]
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
