# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Sessions that use quotas up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from twisted_socks5.interfaces import ILedger
from twisted_socks5.limits.claims import Claim
from twisted_socks5.observe.defects import logDefect

if TYPE_CHECKING:
    from twisted_socks5.server.session import Session

INTERVAL = 1.0
"""
How often, in seconds, it is counted what sessions have carried.
"""


class _Spender:
    __slots__ = ("counted", "isOver", "quotas")

    def __init__(self, session: Session) -> None:
        self.quotas: dict[tuple[str, str, str], Claim] = {}
        self.counted = session.bytesUp + session.bytesDown
        self.isOver = False


class Spending:
    """
    Counts what sessions carry, once a second, and ends those whose quota is used up.
    """

    def __init__(self, reactor: Any, ledger: ILedger, limitsHit: Counter[str]) -> None:
        """
        @param limitsHit: Counts those that are ended.
        """
        self._reactor = reactor
        self._ledger = ledger
        self._limitsHit = limitsHit
        self._spenders: dict[Session, _Spender] = {}
        self._unspent: Counter[Claim] = Counter()
        self._timer: IDelayedCall | None = None

    def begin(self, session: Session, quotas: Iterable[Claim]) -> None:
        """
        Count what a session carries from now on for quotas too.
        """
        if session not in self._spenders:
            self._spenders[session] = _Spender(session)
        self._spenders[session].quotas |= {quota[:3]: quota for quota in quotas}
        if self._timer is None:
            self._timer = self._reactor.callLater(INTERVAL, self._count)

    def goBy(self, session: Session, quotas: Collection[Claim]) -> None:
        """
        Count what a session carries from now on for these quotas, and no others.
        """
        if not quotas:
            self.end(session)
            return
        if session in self._spenders:
            self._spend([session])
            self._spenders[session].quotas.clear()
        self.begin(session, quotas)

    def end(self, session: Session) -> None:
        """
        It is over.
        """
        if session not in self._spenders:
            return
        self._spend([session])
        del self._spenders[session]
        if not self._spenders and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _count(self) -> None:
        self._timer = self._reactor.callLater(INTERVAL, self._count)
        self._spend(self._spenders)

    def _spend(self, sessions: Collection[Session]) -> None:
        spent, self._unspent = self._unspent, Counter()
        for session in sessions:
            spender = self._spenders[session]
            carried = session.bytesUp + session.bytesDown
            new, spender.counted = carried - spender.counted, carried
            for claim in spender.quotas.values():
                spent[claim] += new
        try:
            answer = self._ledger.spend(spent)
        except Exception:
            self._failed(Failure(), spent)
            return
        if isinstance(answer, Deferred):
            answer.addCallbacks(self._endThose, self._failed, errbackArgs=(spent,))
        else:
            self._endThose(answer)

    def _failed(self, failure: Failure, spent: Counter[Claim]) -> None:
        logDefect(self._ledger, "spend", failure)
        self._unspent.update(spent)  # the next time

    def _endThose(self, over: Collection[Claim]) -> None:
        """
        End the sessions whose quotas are used up.
        """
        if not over:
            return
        for session, spender in self._spenders.items():
            first = next((one for one in over if one[:3] in spender.quotas), None)
            if first is not None and not spender.isOver:
                spender.isOver = True
                self._limitsHit[first.key] += 1
                session.end(first.reason)
