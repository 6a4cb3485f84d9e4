# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What the supervisor does for its workers, without processes.
"""

from __future__ import annotations

import json
import os
import socket
from errno import EAGAIN
from types import SimpleNamespace
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ProcessDone
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher, capturedLogs
from twisted.python.failure import Failure

from twisted_socks5.limits import LocalLedger
from twisted_socks5.limits.claims import Claim
from twisted_socks5.service.starting import CannotStart
from twisted_socks5.service.workers.counting import Gathered
from twisted_socks5.service.workers.forwarding import Forwarder, logForwarded
from twisted_socks5.service.workers.keptalive import FIRST, LONG, MOST, KeptAlive
from twisted_socks5.service.workers.ledger import (
    RemoteLedger,
    WorkersAccount,
    decode,
    encode,
)
from twisted_socks5.service.workers.listening import BindingReactor
from twisted_socks5.service.workers.messages import PART, Admit, Spend, Told
from twisted_socks5.service.workers.supervisor import Supervisor
from twisted_socks5.settings import Timeouts

# -- beginning again -------------------------------------------------------------------


class Begun:
    """
    Something that is kept alive.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.times: list[float] = []
        self.kept = KeptAlive(self.clock, self.begin)
        self.ended: Deferred[None] = Deferred()

    def begin(self) -> Deferred[None]:
        self.times.append(self.clock.seconds())
        self.ended = Deferred()
        return self.ended

    def endAfter(self, seconds: float) -> float:
        """
        @return: How long it took until it was begun again.
        """
        self.clock.advance(seconds)
        count, end = len(self.times), self.clock.seconds()
        self.ended.callback(None)
        assert len(self.times) == count
        (call,) = self.clock.getDelayedCalls()
        self.clock.advance(call.getTime() - end)
        assert len(self.times) == count + 1
        return round(self.times[-1] - end, 3)


def test_laterAndLater() -> None:
    """
    What ends soon is begun again later each time, up to a bound.
    """
    begun = Begun()
    begun.kept.start()
    delays = [begun.endAfter(0) for _ in range(12)]
    assert delays[:5] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert delays[-1] == MOST == max(delays)


def test_whatHasLasted() -> None:
    """
    It is begun again at once, as the first time.
    """
    begun = Begun()
    begun.kept.start()
    assert [begun.endAfter(0) for _ in range(3)] == [0.1, 0.2, 0.4]
    assert begun.endAfter(LONG) == 0.1
    assert begun.endAfter(LONG - 1) == 0.2


def test_stopped() -> None:
    """
    It is not begun any more, neither while it is there nor while it is waited for.
    """
    begun = Begun()
    begun.kept.start()
    begun.kept.stop()
    begun.ended.callback(None)
    assert not begun.clock.getDelayedCalls()
    begun = Begun()
    begun.kept.start()
    begun.ended.callback(None)
    begun.kept.stop()
    assert not begun.clock.getDelayedCalls()


# -- logs ------------------------------------------------------------------------------


class Taken:
    """
    Takes what is passed on, when it is told to.
    """

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.dropped = 0
        self.waiting: Deferred[None] | None = None
        self.publisher = LogPublisher(cast(ILogObserver, self.events.append))

    def __call__(self, lines: bytes, dropped: int) -> Deferred[None]:
        assert self.waiting is None
        assert len(lines) < 65536
        logForwarded(self.publisher, 7, lines)
        self.dropped += dropped
        self.waiting = Deferred()
        return self.waiting

    def go(self) -> None:
        while self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            waiting.callback(None)


def test_passedOn() -> None:
    """
    All events, in order, with the worker's number, as many at once as there is room
    for in a message.
    """
    forwarder, taken = Forwarder(7), Taken()
    log = Logger(namespace="tests", observer=forwarder)
    log.info("first {what}", what="thing")
    forwarder.begin(taken)
    for number in range(5000):
        log.info("{number}", number=number)
    empty = forwarder.whenEmpty()
    assert not empty.called
    taken.go()
    assert empty.called
    first, *others = taken.events
    assert first["log_format"] == "first {what}"
    assert (first["what"], first["worker"]) == ("thing", 7)
    assert first["log_system"] == "tests#info worker 7"
    assert [event["number"] for event in others] == list(range(5000))
    assert taken.dropped == 0


def test_noRoom() -> None:
    """
    Where nobody takes them, events are dropped, and counted; one that is too long
    alone, too.
    """
    forwarder, taken = Forwarder(7), Taken()
    log = Logger(namespace="tests", observer=forwarder)
    for number in range(10100):
        log.info("{number}", number=number)
    forwarder.begin(taken)
    taken.go()
    assert len(taken.events) == 10000
    assert taken.dropped == 100
    log.info("{text}", text="x" * PART)
    log.info("short")
    taken.go()
    assert taken.events[-1]["log_format"] == "short"
    assert taken.dropped == 101


# -- limits ----------------------------------------------------------------------------


def claim(who: str = "user a", limit: int = 2, key: str = "sessions-per-user") -> Claim:
    return Claim("", key, who, limit)


def test_accounts() -> None:
    """
    What one worker has, another cannot have; what it had is free when it ends.
    """
    ledger = LocalLedger(Clock().seconds)
    first, second = WorkersAccount(ledger), WorkersAccount(ledger)
    both = [claim("all", 10), claim()]
    assert first.admit(both) == -1
    assert first.admit(both) == -1
    assert second.admit(both) == 1
    first.release(both)
    assert second.admit(both) == -1
    assert second.admit(both) == 1
    first.close()
    assert second.admit(both) == -1
    assert second.admit(both) == 1
    second.close()
    assert first.admit([claim("all", 1)]) == -1


def test_claimsAreSent() -> None:
    claims = [claim("user \N{SNOWMAN}"), claim(key="new-sessions")]
    assert decode(encode(claims)) == claims


def test_asked() -> None:
    """
    The supervisor is asked, and what it answers is what counts.
    """
    remote = RemoteLedger()
    asked: list[tuple[Any, dict[str, Any], Deferred[dict[str, Any]]]] = []

    def ask(command: Any, **arguments: Any) -> Deferred[dict[str, Any]]:
        asked.append((command, arguments, Deferred()))
        return asked[-1][2]

    remote.begin(ask)
    claims = [claim("user a"), claim("user b")]
    answers: list[Claim | None] = []
    for refused in (1, -1):
        remote.admit(claims).addCallback(answers.append)
        assert asked[-1][:2] == (Admit, {"claims": encode(claims)})
        asked[-1][2].callback({"refused": refused})
    assert answers == [claims[1], None]


def test_manyQuotas() -> None:
    """
    Those of many users go in several messages.
    """
    remote = RemoteLedger()
    spent: dict[Claim, int] = {}

    def ask(command: Any, amounts: bytes) -> Deferred[dict[str, Any]]:
        assert command is Spend
        assert len(amounts) <= PART
        some = {Claim(*each): count for each, count in json.loads(amounts)}
        spent.update(some)
        answered: Deferred[dict[str, Any]] = Deferred()
        answered.callback({"over": encode(list(some)[:1])})
        return answered

    remote.begin(ask)
    amounts = {
        claim(f"user {number} " + "x" * 200, key="bytes-a-day"): number
        for number in range(1000)
    }
    over: list[Any] = []
    remote.spend(amounts).addCallback(over.extend)
    assert spent == amounts
    assert over[0] == next(iter(amounts))
    assert 1 < len(over) < 20


# -- what is gathered ------------------------------------------------------------------


def test_toldInParts() -> None:
    value = {"text": "\N{SNOWMAN}" * 50000, "number": 1}
    told = Told(value)
    first = told.part(0)
    assert first["parts"] > 1
    text = b"".join(told.part(part)["text"] for part in range(first["parts"]))
    assert json.loads(text) == value
    assert told.part(first["parts"])["text"] == b""


# -- counting --------------------------------------------------------------------------


def test_askedTwiceAtOnce() -> None:
    """
    What a worker has counted that ends meanwhile is there once.
    """
    answers: list[Deferred[dict[int, Any]]] = []

    def gather(subject: str) -> Deferred[dict[int, Any]]:
        answers.append(Deferred())
        return answers[-1]

    living = {1, 2}
    counted = {"sessions": {}, "workers": 1, "linesDropped": 100}
    gathered = Gathered(gather, lambda: living, dict)
    results: list[Any] = []
    for _ in range(2):
        Deferred.fromCoroutine(gathered.snapshot()).addCallback(results.append)
    askedBefore = len(answers)
    living.remove(1)
    answers[0].callback({1: counted})
    answers[1].callback({1: counted} if askedBefore == 2 else {})
    assert [each["linesDropped"] for each in results] == [100, 100]


# -- starting workers ------------------------------------------------------------------


class Full(MemoryReactorClock):
    """
    There can be no more processes, after a while.
    """

    def __init__(self, most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's has no types
        self.most = most
        self.attempts = 0
        self.started: list[Any] = []
        self.channels: list[Any] = []

    def spawnProcess(
        self, protocol: Any, *args: object, childFDs: dict[int, Any], **kwargs: object
    ) -> None:
        self.attempts += 1
        if self.attempts > self.most:
            raise BlockingIOError(EAGAIN, "Resource temporarily unavailable")
        os.write(childFDs[3], b"serves")
        errors, end = socket.socketpair()
        end.close()
        self.started.append(protocol)
        protocol.makeConnection(SimpleNamespace(pipes={2: errors}, pid=1))

    def adoptStreamConnection(self, number: int, family: int, factory: Any) -> None:
        """
        Nothing is said.
        """
        self.channels.append(factory.buildProtocol(None))


def supervisorOf(reactor: Any, ledger: LocalLedger | None = None) -> Supervisor:
    ledger = ledger or LocalLedger(reactor.seconds)
    factory = SimpleNamespace(timeouts=Timeouts(), throttle=None)
    server: Any = SimpleNamespace(listeners=[], factory=factory)
    return Supervisor(reactor, 1, [], server, BindingReactor(reactor), ledger)


def test_noMoreProcesses() -> None:
    """
    It is tried again, and the log tells.
    """
    reactor = Full(1)
    supervisor = supervisorOf(reactor)
    with capturedLogs() as events:
        supervisor.startService()
        (first,) = supervisor.workers
        first.processEnded(Failure(ProcessDone(0)))
        reactor.advance(FIRST)
        assert supervisor.workers == []
        reactor.advance(2 * FIRST)
        assert reactor.attempts == 3
        stopped: list[object] = []
        supervisor.stopService().addBoth(stopped.append)
        reactor.advance(MOST)
    assert stopped == [None]
    assert reactor.attempts == 3
    told = [event for event in events if event["log_level"] is LogLevel.error]
    assert [event["number"] for event in told] == [2, 3]


@pytest.mark.parametrize("isLostFirst", [False, True])
def test_toldBeforeTheEnd(isLostFirst: bool) -> None:
    """
    What a worker had told before it ended is counted even if that is read later; then
    nothing of it is, and nothing of another one is given back.
    """
    reactor = Full(1)
    ledger = LocalLedger(reactor.seconds)
    supervisor = supervisorOf(reactor, ledger)
    supervisor.startService()
    (first,), (channel,) = supervisor.workers, reactor.channels
    channel.makeConnection(StringTransport())
    other, claims = WorkersAccount(ledger), [claim(limit=3)]
    assert other.admit(claims) == -1
    for _ in range(2):
        assert channel.admit(encode(claims)) == {"refused": -1}
    if not isLostFirst:
        first.processEnded(Failure(ProcessDone(0)))
    channel.release(encode(claims))
    assert channel.compare(7) == {"mean": 7}
    assert channel.admit(encode(claims)) == {"refused": -1}
    assert other.admit(claims) == 0
    channel.connectionLost(Failure(ConnectionDone()))
    if isLostFirst:  # its sessions may live still
        assert other.admit(claims) == 0
        first.processEnded(Failure(ProcessDone(0)))
    assert [other.admit(claims) for _ in range(3)] == [-1, -1, 0]
    assert first.shares.told(2, 3) == 3
    supervisor.stopService()
    reactor.advance(MOST)


def test_noProcessAtAll() -> None:
    """
    Then the server does not start.
    """
    supervisor = supervisorOf(Full(0))
    with pytest.raises(CannotStart) as raised:
        supervisor.startService()
    assert raised.value.code == 1
    assert str(raised.value) == (
        "socks5: a worker cannot be started: Resource temporarily unavailable"
    )
