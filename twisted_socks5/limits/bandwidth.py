# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Bytes a second, shared by those who have them together.

A direction of a session reads while it has credit.  Where that is used up, it takes
some more of each bandwidth that it is bounded by, or waits in a queue until there is
some: so all who share one get about the same in turn, and what none of them uses is
there for the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from twisted_socks5.interfaces import ILedger
from twisted_socks5.limits.claims import Claim
from twisted_socks5.observe.defects import logDefect

MOST = 64 * 1024
"""
How many bytes a direction gets at once.
"""

_LUMP = 0.1
"""
How many seconds' worth is bought of a ledger at once.
"""

_SOONEST = 0.01
"""
How soon, in seconds, it is tried again to buy.
"""


class Bandwidth:
    """
    What several directions have together, as far as it was bought of the ledger.

    @ivar level: How many bytes there are.
    @ivar lump: How many are bought at once.
    """

    def __init__(self, reactor: Any, claim: Claim, ledger: ILedger) -> None:
        self._reactor = reactor
        self._ledger = ledger
        self._queue: deque[Meter] = deque()
        self._isBuying = False
        self._isPlentiful = False
        self._timer: IDelayedCall | None = None
        self.level = 0
        self.goBy(claim)

    def goBy(self, claim: Claim) -> None:
        """
        Have another rate from now on.
        """
        self._buy = partial(self._ledger.buy, claim)
        self._rate = claim.limit
        self.lump = max(1, int(claim.limit * _LUMP))
        self.level = min(self.level, self.lump)

    def has(self, amount: int) -> bool:
        """
        Whether there is so much, if need be after having bought some.
        """
        if self.level < amount and self._timer is None:
            self._buyMore()
        return self.level >= amount

    @property
    def isAwaited(self) -> bool:
        """
        Whether somebody waits for it.
        """
        return bool(self._queue)

    def wait(self, meter: Meter) -> None:
        """
        Wait for one's turn.
        """
        self._queue.append(meter)
        self._tryLater()

    def _buyMore(self) -> None:
        if self._isBuying:
            return
        self._isBuying = True
        answer = self._buy(self.lump)
        if isinstance(answer, Deferred):
            answer.addCallbacks(self._boughtLater, self._failed)
        else:
            self._bought(answer)

    def _bought(self, amount: int) -> None:
        self._isBuying = False
        self._isPlentiful = amount >= self.lump
        self.level += min(amount, self.lump)  # which may have become less

    def _boughtLater(self, amount: int) -> None:
        self._bought(amount)
        self._serve()

    def _failed(self, failure: Failure) -> None:
        logDefect(self._ledger, "buy", failure)
        self._boughtLater(0)

    def _tryLater(self) -> None:
        if self._timer is None and self._queue and not self._isBuying:
            lacking = self._queue[0].portion - self.level
            delay = max(_SOONEST, lacking / self._rate)
            self._timer = self._reactor.callLater(delay, self._tryNow)

    def _tryNow(self) -> None:
        self._timer = None
        self._buyMore()
        self._serve()

    def _serve(self) -> None:
        """
        Those who wait, in turn.
        """
        while self._queue:
            if self.level >= self._queue[0].portion:
                self._queue.popleft().takeTurn()
            elif self._isPlentiful and not self._isBuying:
                self._buyMore()
            else:
                break
        self._tryLater()

    def forget(self, meter: Meter) -> None:
        """
        One does not wait any more.
        """
        if meter.isWaiting and meter in self._queue:
            self._queue.remove(meter)
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._tryLater()  # the next one may want less


class Meter:
    """
    One direction of a session, and what it may carry.

    @ivar credit: How many bytes it may carry now.  Where they cannot be bounded
        beforehand it may become less than nothing, which has to be made good.
    @ivar isWaiting: Whether it waits for more.
    @ivar portion: How many it gets at once.
    @ivar resume: Called when there is credit again.
    """

    __slots__ = ("_bandwidths", "credit", "isWaiting", "portion", "resume")

    def __init__(self) -> None:
        self._bandwidths: list[Bandwidth] = []
        self.portion = MOST
        self.credit = 0
        self.isWaiting = False
        self.resume: Callable[[], object] | None = None

    def goBy(self, bandwidths: list[Bandwidth]) -> None:
        """
        Be bounded by these from now on.
        """
        for each in self._bandwidths:
            each.forget(self)
        self._bandwidths = bandwidths
        self.portion = min([MOST, *(each.lump for each in bandwidths)])
        if self.isWaiting:
            self.isWaiting = False
            if self.refill() and self.resume is not None:
                self.resume()

    def refill(self) -> bool:
        """
        Have credit, or wait for it.

        @return: Whether there is some now.  If not, L{resume} is called as soon as
            there is.
        """
        while self.credit <= 0:
            if self.isWaiting:
                return False
            for each in self._bandwidths:
                if each.isAwaited or not each.has(self.portion):
                    self._waitFor(each)
                    return False
            self._take()
        return True

    def spend(self, count: int) -> bool:
        """
        Bytes have been carried.

        @return: Whether there is credit for more.
        """
        self.credit -= count
        return self.credit > 0 or self.refill()

    def carry(self, count: int) -> bool:
        """
        Carry bytes that cannot wait.

        @return: Whether that may be; else they are lost.
        """
        if self.credit <= 0 and not self.refill():
            return False
        self.credit -= count
        return True

    def _take(self) -> None:
        for each in self._bandwidths:
            each.level -= self.portion
        self.credit += self.portion

    def _waitFor(self, bandwidth: Bandwidth) -> None:
        self.isWaiting = True
        bandwidth.wait(self)

    def takeTurn(self) -> None:
        """
        There is enough of a bandwidth that was waited for.
        """
        self.isWaiting = False
        for each in self._bandwidths:
            if not each.has(self.portion):
                self._waitFor(each)
                return
        self._take()
        if self.refill() and self.resume is not None:
            self.resume()

    def stop(self) -> None:
        """
        It will not carry anything any more.
        """
        self.resume = None
        for each in self._bandwidths:
            each.forget(self)
        self.isWaiting = True  # for ever


class Meters:
    """
    Both directions of a session.

    @ivar up: From the client.
    @ivar down: To the client.
    """

    def __init__(self, bandwidths: Bandwidths, who: str) -> None:
        """
        @param who: Whose they are, as no others are called.
        """
        self.up = Meter()
        self.down = Meter()
        self._bandwidths = bandwidths
        self._who = who
        self._joined: list[Claim] = []
        self._isOver = False

    def goBy(self, shared: list[Claim], own: list[Claim]) -> None:
        """
        Be bounded by these from now on, those that are known already with the rates
        that they have here.

        @param shared: What it is bounded by together with others.
        @param own: What it is bounded by on its own.
        """
        if self._isOver:
            return
        left, self._joined = self._joined, []
        own = [claim._replace(who=self._who) for claim in own]
        for meter, way in ((self.up, "up"), (self.down, "down")):
            claims = [
                claim._replace(key=f"{claim.key}:{way}") for claim in (*own, *shared)
            ]
            isOwn = [True] * len(own) + [False] * len(shared)
            self._joined += claims
            meter.goBy([*map(self._bandwidths.join, claims, isOwn)])
        self._bandwidths.leave(left)

    def stop(self) -> None:
        """
        The session is over.
        """
        self._isOver = True
        self.up.stop()
        self.down.stop()
        self._bandwidths.leave(self._joined)


class Bandwidths:
    """
    All that are used by somebody now.
    """

    def __init__(self, reactor: Any, ledger: ILedger, ownLedger: ILedger) -> None:
        """
        @param ledger: Where it is known what there is for all.
        @param ownLedger: Where it is known what there is for one session.
        """
        self._reactor = reactor
        self._ledger = ledger
        self._ownLedger = ownLedger
        self._serials = count()
        self._used: dict[tuple[str, str, str], tuple[Bandwidth, int]] = {}

    def meters(self, shared: list[Claim], own: list[Claim]) -> Meters:
        """
        For a session.

        @param shared: What it is bounded by together with others.
        @param own: What it is bounded by on its own.
        """
        meters = Meters(self, str(next(self._serials)))
        meters.goBy(shared, own)
        return meters

    def join(self, claim: Claim, isOwn: bool) -> Bandwidth:
        """
        One direction more is bounded by this, and all that are by this rate.
        """
        bandwidth, users = self._used.get(claim[:3], (None, 0))
        if bandwidth is None:
            ledger = self._ownLedger if isOwn else self._ledger
            bandwidth = Bandwidth(self._reactor, claim, ledger)
        else:
            bandwidth.goBy(claim)
        self._used[claim[:3]] = (bandwidth, users + 1)
        return bandwidth

    def leave(self, claims: list[Claim]) -> None:
        """
        For each of these, one direction is not bounded by it any more.
        """
        for claim in claims:
            bandwidth, users = self._used[claim[:3]]
            if users > 1:
                self._used[claim[:3]] = (bandwidth, users - 1)
            else:
                del self._used[claim[:3]]
