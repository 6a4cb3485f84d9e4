# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Bytes in a day and in a month.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from twisted_socks5.limits.claims import Claim


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
    What was used in this day and this month.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        """
        @param seconds: The time, in seconds of the epoch.
        """
        self._seconds = seconds
        self._used: Counter[QuotaKey] = Counter()
        self._unsaved: Counter[QuotaKey] = Counter()
        self._day = self.day

    @property
    def day(self) -> str:
        """
        Today, as a period.
        """
        return datetime.fromtimestamp(self._seconds(), UTC).strftime("%Y-%m-%d")

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
        if day != self._day:
            self._day = day
            for key in [key for key in self._used if not day.startswith(key.period)]:
                del self._used[key]
        isDay = claim.key == "bytes-per-day"
        return QuotaKey(claim.scope, claim.who, day if isDay else day[:7])

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
