# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Connecting to one of several addresses (RFC 8305, section 5): each gets a
head start over the next, and the first that accepts wins.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from twisted_socks5.errors import NameNotFound, ReplyError, mostTelling

HEAD_START = 0.25
"""
The "Connection Attempt Delay" that RFC 8305, section 8, recommends, in
seconds.
"""

_Candidate = TypeVar("_Candidate")
_Result = TypeVar("_Result")


def race(
    reactor: IReactorTime,
    candidates: Iterable[_Candidate],
    attempt: Callable[[_Candidate], Deferred[_Result]],
    dispose: Callable[[_Result], object],
    delay: float = HEAD_START,
) -> Deferred[_Result]:
    """
    Try candidates until one succeeds.  The next one starts when the newest
    attempt has failed, or has had C{delay} seconds.  Once one has succeeded,
    the others are cancelled; so are all when the result is cancelled.

    @param candidates: In the order in which to try them.
    @param attempt: Starts trying a candidate.  What it returns can be
        cancelled.
    @param dispose: Is given what an attempt brings that had lost already.
    @param delay: The head start of each candidate, in seconds.
    @return: What the first attempt to succeed brought.  Fails with the
        L{ReplyError} that tells most when all have failed, and at once with
        any other exception that an attempt raises.
    """
    waiting = deque(candidates)
    if len(waiting) == 1:
        return maybeDeferred(attempt, waiting[0])
    return _Race(reactor, waiting, attempt, dispose, delay).run()


class _Race(Generic[_Candidate, _Result]):
    """
    A race of several candidates.

    @ivar _running: The attempts under way, the newest last.
    @ivar _timer: Starts the next candidate; L{None} while there is none.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        waiting: deque[_Candidate],
        attempt: Callable[[_Candidate], Deferred[_Result]],
        dispose: Callable[[_Result], object],
        delay: float,
    ) -> None:
        self._reactor = reactor
        self._waiting = waiting
        self._attempt = attempt
        self._dispose = dispose
        self._delay = delay
        self._running: list[Deferred[_Result]] = []
        self._errors: list[ReplyError] = []
        self._timer: IDelayedCall | None = None
        self._isOver = False
        self._outcome: Deferred[_Result] = Deferred(lambda _: self._end())

    def run(self) -> Deferred[_Result]:
        if self._waiting:
            self._startNext()
        else:
            self._outcome.errback(NameNotFound("no address to try"))
        return self._outcome

    def _startNext(self) -> None:
        self._timer = None
        running = maybeDeferred(self._attempt, self._waiting.popleft())
        self._running.append(running)
        if self._isOver:  # cancelled by what the attempt set off
            running.cancel()
        elif self._waiting:
            self._timer = self._reactor.callLater(self._delay, self._startNext)
        running.addCallbacks(
            self._succeeded,
            self._failed,
            callbackArgs=(running,),
            errbackArgs=(running,),
        )

    def _succeeded(self, result: _Result, attempt: Deferred[_Result]) -> None:
        if self._isOver:
            self._dispose(result)
            return
        self._running.remove(attempt)
        self._end()
        self._outcome.callback(result)

    def _failed(self, failure: Failure, attempt: Deferred[_Result]) -> None:
        if self._isOver:
            return
        wasNewest = attempt is self._running[-1]
        self._running.remove(attempt)
        if not isinstance(failure.value, ReplyError):
            self._end()
            self._outcome.errback(failure)
            return
        self._errors.append(failure.value)
        if self._timer is not None:
            if wasNewest:
                self._timer.cancel()
                self._startNext()
        elif not self._running:
            self._isOver = True
            self._outcome.errback(mostTelling(self._errors))

    def _end(self) -> None:
        self._isOver = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for attempt in self._running:
            attempt.cancel()
