# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Where everything is counted, for one process.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from zope.interface import implementer

from twisted_socks5.interfaces import ILedger
from twisted_socks5.limits.claims import Claim
from twisted_socks5.limits.quotas import Quotas
from twisted_socks5.limits.tokenbucket import TokenBucket

BURST = 0.25
"""
How many seconds' worth of bandwidth there is after a while in which none was used.
"""

_FEWEST = 1024
"""
How many buckets there are at least before those are looked for that are full again.
"""

_Who = tuple[str, str, str]


@implementer(ILedger)
class LocalLedger:
    """
    Counts in memory, and answers at once.  What is counted for nobody any more is
    forgotten.
    """

    def __init__(
        self, seconds: Callable[[], float], quotas: Quotas | None = None
    ) -> None:
        """
        @param seconds: The time, in seconds of the epoch: a reactor's C{seconds}.
        @param quotas: What was used of quotas.
        """
        self._quotas = quotas or Quotas(seconds)
        self._seconds = seconds
        self._held: dict[_Who, int] = {}
        self._buckets: dict[_Who, TokenBucket] = {}
        self._many = _FEWEST

    def admit(self, claims: Sequence[Claim]) -> Claim | None:
        """
        Count all of these, or none if one is too many.

        @return: The first that is too many.
        """
        now = self._seconds()
        for claim in claims:
            if claim.isRate:
                if self._bucket(claim, 1.0, now).level(now) < 1:
                    return claim
            elif claim.isQuota:
                if self._quotas.isOver(claim):
                    return claim
            elif self._held.get(claim[:3], 0) >= claim.limit:
                return claim
        for claim in claims:
            if claim.isRate:
                self._bucket(claim, 1.0, now).take(1)
            elif not claim.isQuota:
                self._held[claim[:3]] = self._held.get(claim[:3], 0) + 1
        return None

    def release(self, claims: Sequence[Claim]) -> None:
        """
        These are over.
        """
        for claim in claims:
            if claim.isRate or claim.isQuota:
                continue
            who = claim[:3]
            left = self._held[who] - 1
            if left:
                self._held[who] = left
            else:
                del self._held[who]

    def buy(self, claim: Claim, amount: int) -> int:
        """
        Take bytes of a bandwidth.

        @param amount: How many at most.
        @return: How many there are now.
        """
        now = self._seconds()
        return self._bucket(claim, BURST, now).takeUpTo(amount, now)

    def spend(self, amounts: Mapping[Claim, int]) -> Collection[Claim]:
        """
        Bytes of quotas were used.

        @return: Those of which nothing is left.
        """
        for claim, count in amounts.items():
            self._quotas.spend(claim, count)
        return [claim for claim in amounts if self._quotas.isOver(claim)]

    def _bucket(self, claim: Claim, seconds: float, now: float) -> TokenBucket:
        """
        The bucket of a claim, which has so many seconds' worth when it is full.
        """
        who = claim[:3]
        rate, burst = claim.limit, max(1.0, claim.limit * seconds)
        bucket = self._buckets.get(who)
        if bucket is None:
            if len(self._buckets) >= self._many:
                self._forgetFull(now)
            bucket = self._buckets[who] = TokenBucket(rate, burst, now)
        else:
            bucket.change(rate, burst, now)
        return bucket

    def _forgetFull(self, now: float) -> None:
        full = [who for who, bucket in self._buckets.items() if bucket.isFull(now)]
        for who in full:
            del self._buckets[who]
        self._many = max(_FEWEST, 2 * len(self._buckets))
