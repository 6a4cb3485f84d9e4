# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What one session is counted for, where there are limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, DeferredLock

from twisted_socks5.errors import ConnectionNotAllowed, GeneralFailure, ReplyError
from twisted_socks5.limits.admission import Admission, Holding
from twisted_socks5.limits.allowance import Allowance
from twisted_socks5.limits.bandwidth import Meters
from twisted_socks5.limits.claims import Claim
from twisted_socks5.policy import Decision

if TYPE_CHECKING:
    from twisted_socks5.server.session import Session

_PORTS_OPEN = ("binds-per-client", "associations-per-client")
"""
What a client can have too many of without that being a matter of the ruleset.
"""


class Accounting:
    """
    What one session is counted for: as a connection, by its request, and by each rule
    that lets it pass.  There is one only where there is something to count.
    """

    def __init__(self, admission: Admission, session: Session) -> None:
        self._admission = admission
        self._session = session
        self._connected = Holding(admission)
        self._requested: Holding | None = None
        self._rules: dict[Allowance, Holding] = {}
        self._meters: Meters | None = None
        self._ruling = DeferredLock()
        self._isOver = False

    def forConnection(
        self, claims: Sequence[Claim]
    ) -> Claim | Deferred[Claim | None] | None:
        """
        Count it for what is limited before it is served.

        @return: The claim that is too many, if one is, now or later.
        """
        return self._connected.admit(claims)

    async def forRequest(self, claims: Sequence[Claim]) -> None:
        """
        Count it, once, for what is limited by user and command.

        @raise ReplyError: One more is too many.
        """
        if self._requested is None:  # else it was before the policy has changed
            self._requested = Holding(self._admission)
            await self._claim(self._requested, claims)

    async def forRule(self, decision: Decision) -> None:
        """
        Count it, once, for the limits of a rule that lets it pass.  Whoever asks
        while the answer is awaited waits for it too.

        @raise ReplyError: One more is too many, or it is over.
        """
        assert decision.limits is not None
        rule = Allowance(decision.scope, decision.limits)
        await self._ruling.acquire()
        try:
            if self._isOver:
                raise ConnectionNotAllowed("the session is over")
            if rule not in self._rules:
                await self._claimForRule(rule)
        finally:
            self._ruling.release()

    async def _claimForRule(self, rule: Allowance) -> None:
        holding = self._rules[rule] = Holding(self._admission)
        try:
            claims = self._admission.claimsOfRule(self._session, rule)
            await self._claim(holding, claims)
        except ReplyError:
            del self._rules[rule]
            raise

    async def _claim(self, holding: Holding, claims: Sequence[Claim]) -> None:
        refused = holding.admit(claims)
        if isinstance(refused, Deferred):
            refused = await refused
        if refused is None:
            quotas = [claim for claim in claims if claim.isQuota]
            if quotas:
                self._admission.spending.begin(self._session, quotas)
        elif refused.key in _PORTS_OPEN:
            raise GeneralFailure(refused.reason)
        else:
            raise ConnectionNotAllowed(refused.reason)

    @property
    def meters(self) -> Meters | None:
        """
        What bounds the bytes that it carries, if anything does.
        """
        if self._meters is None:
            self._meters = self._admission.meters(self._session, self._rules)
        return self._meters

    def portIsClosed(self) -> None:
        """
        The port that BIND has opened for it is closed.
        """
        for holding in self._holdings():
            holding.release("binds-per-client")

    def end(self) -> None:
        """
        It is over, and is counted for nothing any more.
        """
        self._isOver = True
        for holding in self._holdings():
            holding.release()
        if self._meters is not None:
            self._meters.stop()

    def _holdings(self) -> Iterator[Holding]:
        yield self._connected
        if self._requested is not None:
            yield self._requested
        yield from self._rules.values()
