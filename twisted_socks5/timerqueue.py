# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Timers that all run equally long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_socks5.errors import TimedOut

_Result = TypeVar("_Result")


class Timer:
    """
    One of them.
    """

    __slots__ = ("_queue", "due", "expired")

    def __init__(
        self, queue: TimerQueue, due: float, expired: Callable[[], object]
    ) -> None:
        self._queue = queue
        self.due = due
        self.expired = expired

    def cancel(self) -> None:
        """
        Stop it, if it still runs.
        """
        self._queue.cancelled(self)


class TimerQueue:
    """
    Since the first to be started is the first to expire, one call of the
    reactor's does for all: a deadline that nearly always is kept costs next to
    nothing.
    """

    def __init__(self, reactor: IReactorTime, seconds: float) -> None:
        """
        @param seconds: How long each timer runs.
        """
        self._reactor = reactor
        self._seconds = seconds
        self._running: dict[Timer, None] = {}
        self._call: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._running)

    def start(self, expired: Callable[[], object]) -> Timer:
        """
        Start one.

        @param expired: Is called when it has run out.
        """
        timer = Timer(self, self._reactor.seconds() + self._seconds, expired)
        self._running[timer] = None
        if self._call is None:
            self._call = self._reactor.callLater(self._seconds, self._expire)
        return timer

    async def limit(self, waiting: Deferred[_Result]) -> _Result:
        """
        Wait for a result, and cancel it when there is none in time.

        @raise TimedOut: There was none.
        """
        if waiting.called:
            return await waiting
        isLate = False

        def expired() -> None:
            nonlocal isLate
            isLate = True
            waiting.cancel()

        timer = self.start(expired)
        try:
            return await waiting
        except CancelledError:
            if isLate:
                raise TimedOut(f"nothing within {self._seconds:g} s") from None
            raise
        finally:
            timer.cancel()

    def cancelled(self, timer: Timer) -> None:
        """
        A timer runs no more.
        """
        self._running.pop(timer, None)
        if not self._running and self._call is not None:
            self._call.cancel()
            self._call = None

    def _expire(self) -> None:
        self._call = None
        now = self._reactor.seconds()
        for timer in list(self._running):
            if timer.due > now:
                break
            # One that has expired before it may have cancelled it.
            if timer in self._running:
                del self._running[timer]
                timer.expired()
        if self._running and self._call is None:
            first = next(iter(self._running))
            delay = max(0.0, first.due - now)
            self._call = self._reactor.callLater(delay, self._expire)
