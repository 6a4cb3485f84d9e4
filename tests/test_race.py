# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Racing the addresses of a name.
"""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_socks5.errors import (
    ConnectionRefused,
    HostUnreachable,
    NameNotFound,
    NetworkUnreachable,
)
from twisted_socks5.routes.race import race


class Attempts:
    """
    Attempts that the test decides about.

    @ivar started: The candidates tried so far.
    @ivar cancelled: Those of them whose attempts were cancelled.
    @ivar disposed: The results that were thrown away.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.disposed: list[str] = []
        self.running: dict[str, Deferred[str]] = {}

    def race(self, candidates: str) -> Deferred[str]:
        return race(self.clock, candidates, self.attempt, self.disposed.append)

    def attempt(self, candidate: str) -> Deferred[str]:
        self.started.append(candidate)
        self.running[candidate] = Deferred(lambda _: self.cancelled.append(candidate))
        return self.running[candidate]


@pytest.fixture
def attempts() -> Attempts:
    return Attempts()


def resultOf(deferred: Deferred[str]) -> str:
    results: list[str] = []
    deferred.addCallback(results.append)
    (result,) = results
    return result


def errorOf(deferred: Deferred[str]) -> BaseException:
    failures: list[Failure] = []
    deferred.addErrback(failures.append)
    (failure,) = failures
    assert failure.value is not None
    return failure.value


def test_theFirstSuccessWinsAndTheOthersAreCancelled(attempts: Attempts) -> None:
    outcome = attempts.race("abc")
    attempts.clock.advance(0.25)
    assert attempts.started == ["a", "b"]
    attempts.running["b"].callback("won")
    assert resultOf(outcome) == "won"
    assert attempts.cancelled == ["a"]
    assert attempts.clock.getDelayedCalls() == []
    assert attempts.started == ["a", "b"]


def test_theNextStartsAfterTheHeadStartAndNotBefore(attempts: Attempts) -> None:
    attempts.race("abc")
    attempts.clock.advance(0.24)
    assert attempts.started == ["a"]
    attempts.clock.advance(0.01)
    assert attempts.started == ["a", "b"]
    attempts.clock.advance(0.25)
    assert attempts.started == ["a", "b", "c"]
    assert attempts.clock.getDelayedCalls() == []


def test_theHeadStartCanBeSet() -> None:
    attempts = Attempts()
    race(attempts.clock, "ab", attempts.attempt, attempts.disposed.append, delay=1)
    attempts.clock.advance(0.9)
    assert attempts.started == ["a"]
    attempts.clock.advance(0.1)
    assert attempts.started == ["a", "b"]


def test_theNextStartsAtOnceWhenTheNewestFails(attempts: Attempts) -> None:
    attempts.race("abc")
    attempts.running["a"].errback(ConnectionRefused())
    assert attempts.started == ["a", "b"]
    # It has a full head start of its own.
    attempts.clock.advance(0.24)
    assert attempts.started == ["a", "b"]
    attempts.clock.advance(0.01)
    assert attempts.started == ["a", "b", "c"]


def test_anOlderOnesFailureHurriesNothing(attempts: Attempts) -> None:
    attempts.race("abc")
    attempts.clock.advance(0.25)
    attempts.running["a"].errback(ConnectionRefused())
    assert attempts.started == ["a", "b"]
    attempts.clock.advance(0.25)
    assert attempts.started == ["a", "b", "c"]


def test_allFailed(attempts: Attempts) -> None:
    outcome = attempts.race("abc")
    attempts.running["a"].errback(NetworkUnreachable())
    attempts.running["b"].errback(ConnectionRefused("b"))
    assert not outcome.called
    attempts.running["c"].errback(HostUnreachable())
    error = errorOf(outcome)
    assert isinstance(error, ConnectionRefused)
    assert error.args == ("b",)
    assert attempts.clock.getDelayedCalls() == []


def test_theLastToFailNeedNotBeTheNewest(attempts: Attempts) -> None:
    outcome = attempts.race("ab")
    attempts.clock.advance(0.25)
    attempts.running["b"].errback(NetworkUnreachable())
    assert not outcome.called
    attempts.running["a"].errback(ConnectionRefused())
    assert isinstance(errorOf(outcome), ConnectionRefused)


def test_failuresAndSuccessesAtOnce() -> None:
    answers = {"a": fail(NetworkUnreachable()), "b": succeed("b"), "c": succeed("c")}
    started: list[str] = []

    def attempt(candidate: str) -> Deferred[str]:
        started.append(candidate)
        return answers[candidate]

    clock = Clock()
    outcome = race(clock, "abc", attempt, lambda _: None)
    assert resultOf(outcome) == "b"
    assert started == ["a", "b"]
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("candidates", ["a", "abc"])
def test_cancelling(attempts: Attempts, candidates: str) -> None:
    outcome = attempts.race(candidates)
    attempts.clock.advance(0.25)
    running = list(attempts.started)
    outcome.cancel()
    assert isinstance(errorOf(outcome), CancelledError)
    assert attempts.cancelled == running
    assert attempts.clock.getDelayedCalls() == []


def test_cancelledByWhatAnAttemptSetsOff() -> None:
    clock = Clock()
    cancelled: list[str] = []
    started: list[str] = []

    def attempt(candidate: str) -> Deferred[str]:
        started.append(candidate)
        if candidate == "b":
            outcome.cancel()
        return Deferred(lambda _: cancelled.append(candidate))

    outcome = race(clock, "abc", attempt, lambda _: None)
    clock.advance(0.25)
    assert isinstance(errorOf(outcome), CancelledError)
    assert cancelled == ["a", "b"]
    assert started == ["a", "b"]
    assert clock.getDelayedCalls() == []


def test_aLoserThatSucceedsAllTheSameIsDisposedOf() -> None:
    clock = Clock()
    disposed: list[str] = []
    running: dict[str, Deferred[str]] = {}

    def attempt(candidate: str) -> Deferred[str]:
        # Told to stop, it is just done.
        running[candidate] = Deferred(lambda d: d.callback(candidate))
        return running[candidate]

    outcome = race(clock, "ab", attempt, disposed.append)
    clock.advance(0.25)
    running["b"].callback("b")
    assert resultOf(outcome) == "b"
    assert disposed == ["a"]


def test_aLosersFailureIsNobodysBusiness() -> None:
    clock = Clock()
    running: dict[str, Deferred[str]] = {}

    def attempt(candidate: str) -> Deferred[str]:
        running[candidate] = Deferred(lambda d: d.errback(ValueError("too late")))
        return running[candidate]

    outcome = race(clock, "ab", attempt, lambda _: None)
    clock.advance(0.25)
    running["a"].callback("a")
    assert resultOf(outcome) == "a"
    left: list[object] = []
    running["b"].addBoth(left.append)
    assert left == [None]


def test_aDefectIsToldAtOnce(attempts: Attempts) -> None:
    outcome = attempts.race("abc")
    attempts.clock.advance(0.25)
    attempts.running["a"].errback(ZeroDivisionError())
    assert isinstance(errorOf(outcome), ZeroDivisionError)
    assert attempts.cancelled == ["b"]
    assert attempts.clock.getDelayedCalls() == []


@pytest.mark.parametrize("candidates", ["a", "ab"])
def test_aDefectThatIsRaised(candidates: str) -> None:
    def attempt(candidate: str) -> Deferred[str]:
        raise ZeroDivisionError

    clock = Clock()
    outcome = race(clock, candidates, attempt, lambda _: None)
    assert isinstance(errorOf(outcome), ZeroDivisionError)
    assert clock.getDelayedCalls() == []


def test_oneCandidateNeedsNoTimer(attempts: Attempts) -> None:
    outcome = attempts.race("a")
    assert attempts.clock.getDelayedCalls() == []
    attempts.running["a"].callback("a")
    assert resultOf(outcome) == "a"


def test_noCandidate(attempts: Attempts) -> None:
    assert isinstance(errorOf(attempts.race("")), NameNotFound)
