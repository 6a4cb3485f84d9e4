# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Workers that have about as many sessions as the others.

All of them wait for clients at the same sockets, and where there is little to do it
is always the same one that is the fastest: left alone, it would end up with all
sessions that live long.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.task import LoopingCall

_EACH = 0.2
"""
How many seconds pass until a worker compares again.
"""

_AT_LEAST = 8
_SHARE = 16
"""
A worker is ahead that has so many more than the mean: one in so many of that, but
not less than the former.
"""


class Shares:
    """
    How many sessions each worker has, for the supervisor.
    """

    def __init__(self) -> None:
        self._sessions: dict[int, int] = {}

    def told(self, number: int, sessions: int) -> int:
        """
        A worker tells how many it has.

        @return: How many they have in the mean.
        """
        self._sessions[number] = sessions
        return sum(self._sessions.values()) // len(self._sessions)

    def forget(self, number: int) -> None:
        """
        A worker has ended.
        """
        self._sessions.pop(number, None)


class Comparing:
    """
    Has a worker know whether it is ahead of the others.
    """

    def __init__(
        self,
        reactor: Any,
        count: Callable[[], int],
        ask: Callable[[int], Awaitable[int]],
    ) -> None:
        """
        @param count: How many sessions it has.
        @param ask: Tells the supervisor, which answers with the mean.
        """
        self._count = count
        self._ask = ask
        self._most = 0
        self._looping = LoopingCall(self._compare)
        self._looping.clock = reactor

    def start(self) -> None:
        """
        Begin to compare, until that cannot be done any more.
        """
        self._looping.start(_EACH).addErrback(lambda _: self._forget())

    def isAhead(self) -> bool:
        """
        Whether it has more sessions than it should.
        """
        return 0 < self._most < self._count()

    async def _compare(self) -> None:
        mean = await self._ask(self._count())
        self._most = mean + max(_AT_LEAST, mean // _SHARE)

    def _forget(self) -> None:
        self._most = 0  # there is nobody to compare with
