# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
So much a second, and no more saved than a burst.
"""

from __future__ import annotations


class TokenBucket:
    """
    Fills at a rate up to its burst, and is emptied by whoever takes something.
    """

    __slots__ = ("_burst", "_level", "_rate", "_since")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        """
        @param rate: What comes each second.
        @param burst: What it holds at most, and at first.
        @param now: The time, in seconds.
        """
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._since = now

    def level(self, now: float) -> float:
        """
        How much there is.
        """
        passed = max(0.0, now - self._since)  # clocks are set back
        self._level = min(self._burst, self._level + passed * self._rate)
        self._since = now
        return self._level

    def isFull(self, now: float) -> bool:
        """
        Whether it is as if nothing had ever been taken.
        """
        return self.level(now) >= self._burst

    def take(self, amount: float) -> None:
        """
        Take what L{level} has just told of.
        """
        self._level -= amount

    def takeUpTo(self, amount: int, now: float) -> int:
        """
        Take whole ones, as many as there are.

        @param amount: How many at most.
        @return: How many that were.
        """
        taken = min(amount, int(self.level(now)))
        self._level -= taken
        return taken

    def change(self, rate: float, burst: float, now: float) -> None:
        """
        Fill at another rate from now on.
        """
        self._level = min(self.level(now), burst)
        self._rate, self._burst = rate, burst
