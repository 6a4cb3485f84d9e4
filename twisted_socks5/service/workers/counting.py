# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What all workers have counted, together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container
from typing import Any

from twisted.internet.defer import DeferredLock

from twisted_socks5.observe.counts import Snapshot, total

COUNTS = "counts"
"""
The subject that workers tell their snapshots of.
"""


class Gathered:
    """
    Sums of snapshots, which only grow though workers end: what one had counted
    when it was asked for the last time stays.
    """

    def __init__(
        self,
        gather: Callable[[str], Awaitable[dict[int, Any]]],
        living: Callable[[], Container[int]],
        own: Callable[[], Snapshot],
    ) -> None:
        """
        @param gather: Asks all workers about a subject.
        @param living: Tells the numbers of those that live.
        @param own: What the supervisor counts itself.
        """
        self._gather = gather
        self._living = living
        self._own = own
        self._last: dict[int, Snapshot] = {}
        self._ended: Snapshot = {}
        self._lock = DeferredLock()

    async def snapshot(self) -> Snapshot:
        """
        All of them at this moment.  Who asks meanwhile waits: nobody that ends is
        counted twice.
        """
        await self._lock.acquire()
        try:
            return await self._total()
        finally:
            self._lock.release()

    async def _total(self) -> Snapshot:
        told = await self._gather(COUNTS)
        answers = {number: told[number] for number in told if told[number] is not None}
        self._last |= answers
        living = self._living()
        for number in [each for each in self._last if each not in living]:
            over = _countersOf(self._last.pop(number))
            self._ended = total([self._ended, over])
        return total(
            [
                self._ended,
                self._own(),
                *(
                    last if number in answers else _countersOf(last)
                    for number, last in self._last.items()
                ),
            ]
        )


def _countersOf(snapshot: Snapshot) -> Snapshot:
    """
    What is still so when a worker has ended.
    """
    none = dict.fromkeys(snapshot["sessions"], 0)
    return {**snapshot, "workers": 0, "sessions": none}
