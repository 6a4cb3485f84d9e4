# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Timers that all run equally long.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from twisted_socks5.errors import TimedOut
from twisted_socks5.timerqueue import Timer, TimerQueue


class Timers:
    def __init__(self) -> None:
        self.clock = Clock()
        self.queue = TimerQueue(self.clock, 10)
        self.expired: list[str] = []

    def start(self, name: str) -> Timer:
        return self.queue.start(lambda: self.expired.append(name))

    def advance(self, seconds: float) -> list[str]:
        self.expired.clear()
        self.clock.advance(seconds)
        assert len(self.clock.getDelayedCalls()) <= 1
        return self.expired


def test_inTurn() -> None:
    timers = Timers()
    timers.start("a")
    assert timers.advance(4) == []
    timers.start("b")
    timers.start("c")
    assert timers.advance(5) == []
    assert timers.advance(1) == ["a"]
    assert timers.advance(3.5) == []
    assert timers.advance(0.5) == ["b", "c"]
    assert timers.clock.getDelayedCalls() == []


def test_cancelled() -> None:
    timers = Timers()
    first, second = timers.start("a"), timers.start("b")
    first.cancel()
    first.cancel()
    assert timers.advance(10) == ["b"]
    second.cancel()
    third = timers.start("c")
    third.cancel()
    assert timers.clock.getDelayedCalls() == []


def test_oneCancelsAnother() -> None:
    timers = Timers()
    timers.queue.start(lambda: second.cancel())
    second = timers.start("b")
    assert timers.advance(10) == []


def test_oneStartsAnother() -> None:
    timers = Timers()
    timers.queue.start(lambda: timers.start("b"))
    timers.advance(10)
    assert timers.advance(9) == []
    assert timers.advance(1) == ["b"]


@given(
    st.lists(
        st.one_of(
            st.floats(0, 15).map(lambda seconds: ("advance", seconds)),
            st.just(("start", 0.0)),
            st.integers(0, 20).map(lambda number: ("cancel", number)),
        )
    )
)
def test_asTheReactorsOwn(steps: list[tuple[str, float]]) -> None:
    """
    They expire in the same steps as as many calls of the reactor's.
    """
    clock = Clock()
    queue = TimerQueue(clock, 10)
    ours: list[int] = []
    theirs: list[int] = []
    timers: list[tuple[Timer, Any]] = []
    for step, value in steps:
        if step == "start":
            number = len(timers)
            timers.append(
                (
                    queue.start(partial(ours.append, number)),
                    clock.callLater(10, theirs.append, number),
                )
            )
        elif step == "advance":
            clock.advance(value)
            assert sorted(ours) == sorted(theirs)
        elif int(value) < len(timers):
            timer, call = timers[int(value)]
            timer.cancel()
            if call.active():
                call.cancel()


def test_limit() -> None:
    timers = Timers()
    waiting: Deferred[str] = Deferred()
    result = Deferred.fromCoroutine(timers.queue.limit(waiting))
    waiting.callback("done")
    assert result.result == "done"
    assert timers.clock.getDelayedCalls() == []


def test_limitExpires() -> None:
    """
    What was waited for is cancelled.
    """
    cancelled: list[Any] = []
    timers = Timers()
    waiting: Deferred[str] = Deferred(cancelled.append)
    outcome: list[Any] = []
    limited = Deferred.fromCoroutine(timers.queue.limit(waiting))
    limited.addBoth(outcome.append)
    timers.advance(10)
    assert cancelled == [waiting]
    assert outcome[0].check(TimedOut)


def test_limitIsCancelled() -> None:
    """
    That is no time-out.
    """
    timers = Timers()
    waiting: Deferred[str] = Deferred()
    outcome: list[Any] = []
    limited = Deferred.fromCoroutine(timers.queue.limit(waiting))
    limited.addBoth(outcome.append)
    limited.cancel()
    assert outcome[0].check(CancelledError)
    assert timers.clock.getDelayedCalls() == []


@pytest.mark.parametrize("isGood", [True, False])
def test_limitOfWhatIsThere(isGood: bool) -> None:
    timers = Timers()
    waiting: Deferred[str] = Deferred()
    if isGood:
        waiting.callback("done")
    else:
        waiting.errback(ValueError("no"))
    outcome: list[Any] = []
    limited = Deferred.fromCoroutine(timers.queue.limit(waiting))
    limited.addBoth(outcome.append)
    assert outcome[0] == "done" if isGood else outcome[0].check(ValueError)
