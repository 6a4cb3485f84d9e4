# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Trying the addresses of one destination (RFC 8305, section 5, "happy eyeballs").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from twisted_socks5.addresses import Address
from twisted_socks5.errors import NameNotFound, ReplyError, mostTelling

STAGGER = 0.25
"""
How long one address is waited for before the next is tried beside it, in
seconds (RFC 8305, section 8, Connection Attempt Delay).
"""

_Result = TypeVar("_Result")


def race(
    reactor: IReactorTime,
    candidates: Sequence[Address],
    attempt: Callable[[Address], Deferred[_Result]],
    dispose: Callable[[_Result], None],
) -> Deferred[_Result]:
    """
    Try addresses in their order, the next one as soon as the last has failed,
    or L{STAGGER} after it was begun.

    @param attempt: Tries one.
    @param dispose: Undoes a success that came too late.
    @return: The first success; all other tries are cancelled.  Fails with the
        most telling error when none has succeeded.
    """
    if len(candidates) == 1:
        return attempt(candidates[0])
    return _Race(reactor, candidates, attempt, dispose).outcome


class _Race(Generic[_Result]):
    def __init__(
        self,
        reactor: IReactorTime,
        candidates: Sequence[Address],
        attempt: Callable[[Address], Deferred[_Result]],
        dispose: Callable[[_Result], None],
    ) -> None:
        self._reactor = reactor
        self._waiting = list(reversed(candidates))
        self._attempt = attempt
        self._dispose = dispose
        self._running: list[Deferred[_Result]] = []
        self._errors: list[ReplyError] = []
        self._timer: IDelayedCall | None = None
        self._isOver = False
        self.outcome: Deferred[_Result] = Deferred(lambda _: self._finish())
        self._next()

    def _next(self) -> None:
        """
        Try one more address, if there is one.
        """
        self._stopTimer()
        if self._waiting:
            trying = self._attempt(self._waiting.pop())
            self._running.append(trying)
            trying.addCallbacks(self._succeeded, self._failed, (trying,), {}, (trying,))
            if self._waiting and not self._isOver and trying in self._running:
                self._timer = self._reactor.callLater(STAGGER, self._next)
        elif not self._running and not self._isOver:
            self._isOver = True
            self.outcome.errback(
                mostTelling(self._errors)
                if self._errors
                else NameNotFound("no address to connect to")
            )

    def _succeeded(self, result: _Result, trying: Deferred[_Result]) -> None:
        self._running.remove(trying)
        if self._isOver:
            self._dispose(result)
        else:
            self._finish()
            self.outcome.callback(result)

    def _failed(self, failure: Failure, trying: Deferred[_Result]) -> None:
        self._running.remove(trying)
        if self._isOver:
            return
        if not isinstance(failure.value, ReplyError):
            self._finish()
            self.outcome.errback(failure)
            return
        self._errors.append(failure.value)
        self._next()

    def _finish(self) -> None:
        self._isOver = True
        self._stopTimer()
        for trying in list(self._running):
            trying.cancel()

    def _stopTimer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
