# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Bytes in a day and in a month.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from twisted_socks5.limits.claims import Claim

_KEPT = 3
"""
Of how many days it is known what was used in them: the last ones that there were.
"""


class QuotaKey(NamedTuple):
    """
    Whose bytes, and when.

    @ivar scope: As in L{Claim}.
    @ivar who: As in L{Claim}.
    @ivar period: A day, C{2026-11-24}, or a month, C{2026-11}, of UTC.
    """

    scope: str
    who: str
    period: str


class Quotas:
    """
    What was used in this day and this month, and in those before: clocks are set back,
    and forward again.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        """
        @param seconds: The time, in seconds of the epoch.
        """
        self._seconds = seconds
        self._used: Counter[QuotaKey] = Counter()
        self._unsaved: Counter[QuotaKey] = Counter()
        self._days = [self._dayIn(-1), self._dayIn(1), self.day]  # the newest last

    @property
    def day(self) -> str:
        """
        Today, as a period.
        """
        return self._dayIn(0)

    def _dayIn(self, days: int) -> str:
        moment = datetime.fromtimestamp(self._seconds(), UTC) + timedelta(days)
        return moment.strftime("%Y-%m-%d")

    @property
    def periods(self) -> list[str]:
        """
        The days and months of which it is known what was used in them.
        """
        return sorted({*self._days, *(day[:7] for day in self._days)})

    def isOver(self, claim: Claim) -> bool:
        """
        Whether all is used that there is.
        """
        return self._used[self._keyOf(claim)] >= claim.limit

    def spend(self, claim: Claim, count: int) -> None:
        """
        Bytes were used.
        """
        if not count:
            return
        key = self._keyOf(claim)
        self._used[key] += count
        self._unsaved[key] += count

    def _keyOf(self, claim: Claim) -> QuotaKey:
        day = self.day
        if day != self._days[-1]:
            self._comeTo(day)
        isDay = claim.key == "bytes-per-day"
        return QuotaKey(claim.scope, claim.who, day if isDay else day[:7])

    def _comeTo(self, day: str) -> None:
        self._days = [*(one for one in self._days if one != day), day][-_KEPT:]
        kept = self.periods
        for key in [key for key in self._used if key.period not in kept]:
            del self._used[key]

    def load(self, amounts: Iterable[tuple[QuotaKey, int]]) -> None:
        """
        So much had been used before.
        """
        for key, count in amounts:
            self._used[key] += count

    def takeUnsaved(self) -> Counter[QuotaKey]:
        """
        What was used since this was last asked for.
        """
        unsaved, self._unsaved = self._unsaved, Counter()
        return unsaved

    def putBack(self, amounts: Counter[QuotaKey]) -> None:
        """
        It could not be saved.
        """
        self._unsaved += amounts
