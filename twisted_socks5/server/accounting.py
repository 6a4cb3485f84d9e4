# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What one session is counted for, where there are limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import attrs
from twisted.internet.defer import Deferred, DeferredLock

from twisted_socks5.errors import ConnectionNotAllowed, GeneralFailure
from twisted_socks5.interfaces import IBoundedTraffic
from twisted_socks5.limits.admission import Admission, Holding
from twisted_socks5.limits.allowance import Allowance
from twisted_socks5.limits.bandwidth import Meters
from twisted_socks5.limits.claims import Claim
from twisted_socks5.policy import Decision

if TYPE_CHECKING:
    from twisted_socks5.server.session import Session

_PORT_OF_BIND = "binds-per-client"
_PORTS_OPEN = (_PORT_OF_BIND, "associations-per-client")
"""
What a client can have too many of without that being a matter of the ruleset.
"""


@attrs.define(eq=False)
class _Rule:
    """
    A rule that has let a session pass.

    @ivar isBounding: Whether its bandwidth bounds all that the session carries.
    @ivar isOld: Whether rules have changed since, and it has not let the session pass
        again: it is counted for it still, but not the bytes that it carries.
    """

    allowance: Allowance
    holding: Holding
    isBounding: bool
    isOld: bool = False


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
        self._rules: dict[str, _Rule] = {}
        self._quotas: dict[Holding, list[Claim]] = {}
        self._meters: Meters | None = None
        self._hasPort = True
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

        @raise ReplyError: One more is too many, or it is over.
        """
        if self._requested is None:
            self._requested = Holding(self._admission)
            await self._claim(self._requested, claims)
        else:  # it was before the policy has changed
            self._goBy(self._requested, claims)
            self._spend()

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
            if rule.scope not in self._rules:
                await self._claimForRule(rule)
            elif self._rules[rule.scope].isOld:
                self._goByRule(rule)
                self._spend()
            elif rule != self._rules[rule.scope].allowance:
                await self._claimMore(rule)
        finally:
            self._ruling.release()

    async def _claimForRule(self, rule: Allowance) -> None:
        known = _Rule(rule, Holding(self._admission), self._session.traffic is None)
        self._rules[rule.scope] = known
        try:
            claims = self._admission.claimsOfRule(self._session, rule)
            await self._claim(known.holding, claims)
        except BaseException:
            if self._rules.pop(rule.scope, None) is known:
                known.holding.release()
            raise

    async def _claimMore(self, rule: Allowance) -> None:
        """
        What there was no limit of in a rule that has let it pass already.
        """
        known = self._rules[rule.scope]
        claims = self._admission.claimsOfRule(self._session, rule)
        before = self._admission.claimsOfRule(self._session, known.allowance)
        held = {claim[:3] for claim in before}
        await self._claim(
            known.holding, [claim for claim in claims if claim[:3] not in held]
        )
        known.allowance = rule
        self._quotas[known.holding] = [claim for claim in claims if claim.isQuota]
        self._spend()

    async def _claim(self, holding: Holding, claims: Sequence[Claim]) -> None:
        refused = None if self._isOver else holding.admit(claims)
        if isinstance(refused, Deferred):
            refused = await refused
        if self._isOver:
            raise ConnectionNotAllowed("the session is over")
        if refused is None:
            quotas = [claim for claim in claims if claim.isQuota]
            if quotas:
                self._quotas[holding] = self._quotas.get(holding, []) + quotas
                self._admission.spending.begin(self._session, quotas)
        elif refused.key in _PORTS_OPEN:
            raise GeneralFailure(refused.reason)
        else:
            raise ConnectionNotAllowed(refused.reason)

    # -- limits that have changed -------------------------------------------------

    def goBy(self, admission: Admission, isKnown: bool, isServed: bool) -> None:
        """
        Count it by other limits of the process and the listener from now on, without
        refusing it.

        @param isKnown: Whether it is known who its client is.
        @param isServed: Whether it is counted for its request already.
        """
        if self._isOver:
            return
        self._admission = admission
        connection = admission.claimsOfAll()
        if isKnown:
            connection += admission.claimsOfClient(self._session.client)
        self._goBy(self._connected, connection)
        if isServed:
            if self._requested is None:
                self._requested = Holding(admission)
            self._goBy(self._requested, admission.claimsOfRequest(self._session))
            self._spend()
            self._bound([rule.allowance for rule in self._bounding()])

    def goByRules(self, rules: Sequence[Allowance], areAll: bool) -> None:
        """
        Count it for the rules that let it pass now, without refusing it.

        @param areAll: Whether no other rule lets it pass; else there may be others of
            which it has to do with still, by an address.
        """
        if self._isOver:
            return
        for rule in rules:
            self._goByRule(rule).isBounding = True
        for scope in set(self._rules) - {rule.scope for rule in rules}:
            known = self._rules[scope]
            known.isBounding, known.isOld = False, True
            self._quotas.pop(known.holding, None)
            if areAll:
                del self._rules[scope]
                known.holding.release()
        self._spend()
        self._bound(rules)

    def _goByRule(self, rule: Allowance) -> _Rule:
        known = self._rules.get(rule.scope)
        if known is None:
            known = _Rule(rule, Holding(self._admission), True)
            self._rules[rule.scope] = known
        known.allowance, known.isOld = rule, False
        self._goBy(known.holding, self._admission.claimsOfRule(self._session, rule))
        return known

    def _goBy(self, holding: Holding, claims: Sequence[Claim]) -> None:
        if not self._hasPort:
            claims = [claim for claim in claims if claim.key != _PORT_OF_BIND]
        holding.goBy(claims)
        self._quotas[holding] = [claim for claim in claims if claim.isQuota]

    def _spend(self) -> None:
        quotas = list(chain(*self._quotas.values()))
        self._admission.spending.goBy(self._session, quotas)

    def _bounding(self) -> list[_Rule]:
        return [rule for rule in self._rules.values() if rule.isBounding]

    def _bound(self, rules: Sequence[Allowance]) -> None:
        """
        Bound what it carries, if it does by now, by the rules that let it pass.
        """
        traffic = self._session.traffic
        if self._meters is not None:
            self._meters.goBy(*self._admission.bandwidths(self._session, rules))
        elif traffic is not None:
            self._meters = self._admission.meters(self._session, rules)
        if self._meters is not None and IBoundedTraffic.providedBy(traffic):
            traffic.bound(self._meters)

    @property
    def meters(self) -> Meters | None:
        """
        What bounds the bytes that it carries, if anything does.
        """
        if self._meters is None:
            rules = [rule.allowance for rule in self._bounding()]
            self._meters = self._admission.meters(self._session, rules)
        return self._meters

    def portIsClosed(self) -> None:
        """
        The port that BIND has opened for it is closed.
        """
        self._hasPort = False
        for holding in self._holdings():
            holding.release(_PORT_OF_BIND)

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
        yield from [rule.holding for rule in self._rules.values()]
