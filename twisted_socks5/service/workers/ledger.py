# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Limits that all workers keep together: the supervisor counts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from zope.interface import implementer

from twisted_socks5.interfaces import ILedger
from twisted_socks5.limits import LocalLedger
from twisted_socks5.limits.claims import Claim
from twisted_socks5.service.workers.messages import PART, Admit, Buy, Release, Spend

Ask = Callable[..., Deferred[dict[str, Any]]]


@implementer(ILedger)
class RemoteLedger:
    """
    Has the supervisor count what one worker has.
    """

    def __init__(self) -> None:
        self._ask: Ask | None = None

    def begin(self, ask: Ask) -> None:
        """
        There is a supervisor.

        @param ask: Asks it: C{AMP.callRemote}.
        """
        self._ask = ask

    def admit(self, claims: Sequence[Claim]) -> Deferred[Claim | None]:
        """
        Count all of these, or none if one is too many.

        @return: The first that is too many.
        """
        assert self._ask is not None
        asked = self._ask(Admit, claims=encode(claims))
        return asked.addCallback(lambda answer: _nth(claims, answer["refused"]))

    def release(self, claims: Sequence[Claim]) -> None:
        """
        These are over.
        """
        assert self._ask is not None
        # If it has gone, all that we have is released there.
        self._ask(Release, claims=encode(claims)).addErrback(lambda _: None)

    def buy(self, claim: Claim, amount: int) -> Deferred[int]:
        """
        Take bytes of a bandwidth.

        @param amount: How many at most.
        @return: How many there are now.
        """
        assert self._ask is not None
        asked = self._ask(Buy, claim=encode([claim]), amount=amount)
        bought: Deferred[int] = asked.addCallback(lambda answer: answer["amount"])
        return bought

    def spend(self, amounts: Mapping[Claim, int]) -> Deferred[Collection[Claim]]:
        """
        Bytes of quotas were used.

        @return: Those of which nothing is left.
        """
        asked = [self._spendSome(some) for some in _parts(amounts)]
        return gatherResults(asked).addCallback(lambda over: list(chain(*over)))

    def _spendSome(self, amounts: Sequence[tuple[Claim, int]]) -> Deferred[list[Claim]]:
        assert self._ask is not None
        asked = self._ask(Spend, amounts=json.dumps(amounts).encode())
        return asked.addCallback(lambda answer: decode(answer["over"]))


class WorkersAccount:
    """
    What a worker has of the supervisor's ledger.
    """

    def __init__(self, ledger: LocalLedger) -> None:
        self._ledger = ledger
        self._held: Counter[Claim] = Counter()

    def admit(self, claims: Sequence[Claim]) -> int:
        """
        The worker claims all of these.

        @return: The place of the first that is too many; -1 if none is.
        """
        refused = self._ledger.admit(claims)
        if refused is not None:
            return claims.index(refused)
        self._held.update(claims)
        return -1

    def release(self, claims: Sequence[Claim]) -> None:
        """
        These are over.
        """
        self._ledger.release(claims)
        self._held.subtract(claims)
        for claim in claims:
            if self._held[claim] <= 0:
                del self._held[claim]

    def buy(self, claim: Claim, amount: int) -> int:
        """
        Take bytes of a bandwidth.
        """
        return self._ledger.buy(claim, amount)

    def spend(self, amounts: Mapping[Claim, int]) -> Collection[Claim]:
        """
        Bytes of quotas were used.
        """
        return self._ledger.spend(amounts)

    def close(self) -> None:
        """
        The worker has ended, and all its sessions with it.
        """
        self._ledger.release(list(self._held.elements()))
        self._held.clear()


def encode(claims: Sequence[Claim]) -> bytes:
    """
    Claims, as they are sent.
    """
    return json.dumps(claims).encode()


def decode(text: bytes) -> list[Claim]:
    """
    Claims that were sent.
    """
    return [Claim(*claim) for claim in json.loads(text)]


def _nth(claims: Sequence[Claim], place: int) -> Claim | None:
    return None if place < 0 else claims[place]


def _parts(amounts: Mapping[Claim, int]) -> Iterator[list[tuple[Claim, int]]]:
    """
    As many as one message has room for, each time.
    """
    part: list[tuple[Claim, int]] = []
    room = PART
    for each in amounts.items():
        size = len(json.dumps(each)) + 2
        if size > room and part:
            yield part
            part, room = [], PART
        part.append(each)
        room -= size
    if part:
        yield part
