# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Threads for what takes long and would hold up the reactor.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

_NICENESS = 10

_Result = TypeVar("_Result")


class BoundedThreads:
    """
    A few threads of one's own.  What nobody waits for any more is not begun, so
    a crowd that has left again costs nothing.
    """

    def __init__(self, reactor: Any, most: int, name: str) -> None:
        """
        @param most: How many threads there are.
        @param name: What they are called.
        """
        self._reactor = reactor
        self._pool = ThreadPool(0, most, name)
        self._turns = DeferredSemaphore(most)

    async def run(self, work: Callable[..., _Result], *arguments: Any) -> _Result:
        """
        Do something in a thread, once there is one.

        @return: What it returned.
        """
        await self._turns.acquire()
        if not self._pool.started:
            self._pool.start()
            self._reactor.addSystemEventTrigger("during", "shutdown", self._pool.stop)
        # Cancelled while the thread works, it takes no notice of the outcome;
        # the turn is over only when the thread is.
        outcome: Deferred[_Result] = Deferred()

        def done(succeeded: bool, result: Any) -> None:
            self._reactor.callFromThread(self._done, outcome, result)

        self._pool.callInThreadWithCallback(done, _meekly, work, *arguments)
        return await outcome

    def _done(self, outcome: Deferred[Any], result: Any) -> None:
        self._turns.release()
        if isinstance(result, Failure):
            outcome.errback(result)
        else:
            outcome.callback(result)


def _meekly(work: Callable[..., _Result], *arguments: Any) -> _Result:
    """
    Do something in a thread that gives way to the reactor's where both want the
    same processor.
    """
    if sys.platform == "linux":  # where a priority is a thread's own
        thread = threading.get_native_id()
        niceness = max(os.getpriority(os.PRIO_PROCESS, thread), _NICENESS)
        os.setpriority(os.PRIO_PROCESS, thread, niceness)
    return work(*arguments)
