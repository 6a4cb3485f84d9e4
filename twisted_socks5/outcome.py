# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What a plugin's method comes to.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

_Result = TypeVar("_Result")


async def outcomeOf(returned: Awaitable[_Result]) -> _Result:
    """
    The result of a method that may return a coroutine or a
    L{Deferred<twisted.internet.defer.Deferred>} that brings it, or, whatever the
    interface's annotation says, just the result.
    """
    if isinstance(returned, Awaitable):
        return await returned
    plain: _Result = returned
    return plain


def answerOf(asked: Awaitable[_Result]) -> Deferred[_Result]:
    """
    What whoever was asked for leave says, but nothing that is said when nobody waits
    any more: whatever a plugin makes of being cancelled, it allows nothing by that.

    @return: A Deferred with the answer; when it is cancelled, that holds at once.
    """
    answer: Deferred[_Result] = Deferred.fromCoroutine(outcomeOf(asked))

    def cancel(waiting: Deferred[_Result]) -> None:
        waiting.errback(Failure(CancelledError()))  # before it can answer
        answer.cancel()

    def hear(result: Any) -> None:
        if not waiting.called:
            waiting.callback(result)

    waiting: Deferred[_Result] = Deferred(cancel)
    answer.addBoth(hear)
    return waiting
