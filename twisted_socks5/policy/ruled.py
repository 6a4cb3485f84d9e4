# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Rules as a policy, with the guard in front of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo

import attrs
from zope.interface import implementer

from twisted_socks5.addresses import Address, IPAddress, readings
from twisted_socks5.interfaces import INamePolicy, IRequest, IRoute
from twisted_socks5.policy.conditions import Facts
from twisted_socks5.policy.decision import Decision
from twisted_socks5.policy.egress import Egress
from twisted_socks5.policy.guard import Guard
from twisted_socks5.policy.rules import Rule, Ruleset
from twisted_socks5.wire import Command

_END = Decision.deny(reason="no rule matches")


@attrs.frozen
class RuleDecision(Decision):
    """
    What a rule allows.

    @ivar egress: What the rule says of the address to go out from, of which
        C{bindAddress} is what came for one session.
    @ivar routeName: What the rule calls the way out; empty is the server's own.
    """

    egress: Egress | None = None
    routeName: str = ""

    @property
    def way(self) -> tuple[int, Egress | None]:
        """
        By which way it goes, whatever address was chosen.
        """
        return id(self.route), self.egress


@implementer(INamePolicy)
class RulePolicy:
    """
    Asks the guard, then the rules.  What the guard denies stays denied, unless
    the rule that decides means just that kind of address.

    @ivar ruleset: The rules.
    @ivar timezone: Where their clock is; L{None} is where this host is.
    """

    name = "rules"

    def __init__(
        self,
        ruleset: Ruleset,
        seconds: Callable[[], float],
        guard: Guard | None = None,
        routes: Mapping[str, IRoute | None] | None = None,
        timezone: tzinfo | None = None,
    ) -> None:
        """
        @param seconds: The time, in seconds of the epoch: a reactor's C{seconds}.
        @param guard: What stands in front.
        @param routes: The ways out that rules name; L{None} is the server's own.
        @param timezone: Where the rules' clock is; by default where this host is.
        @raise ValueError: A rule names a route that there is none of.
        """
        self._seconds = seconds
        self._guard = guard or Guard()
        self.replace(ruleset, routes, timezone)

    def replace(
        self,
        ruleset: Ruleset,
        routes: Mapping[str, IRoute | None] | None = None,
        timezone: tzinfo | None = None,
    ) -> None:
        """
        Go by other rules from now on.  L{SOCKS5ServerFactory.reviseSessions
        <twisted_socks5.server.factory.SOCKS5ServerFactory.reviseSessions>} has
        them take hold of sessions that live.

        @raise ValueError: A rule names a route that there is none of; the old
            rules stay.
        """
        decisions = {rule.number: _decisionOf(rule, routes or {}) for rule in ruleset}
        self.ruleset, self.timezone, self._decisions = ruleset, timezone, decisions
        self._ways = {
            decision.way
            for decision in decisions.values()
            if isinstance(decision, RuleDecision)
        }

    def decide(self, request: IRequest) -> Decision:
        """
        Judge a request as it was made.  Where a rule cannot tell before the
        addresses are known, it is allowed for now if there may be an address
        that is; each will be judged.  If its session has a way out already, it is
        allowed to go on by that.
        """
        answer = self._decide(request)
        decided = None if request.session is None else request.session.decision
        if isinstance(answer, RuleDecision) and isinstance(decided, RuleDecision):
            return self._goingOn(request, answer, decided)
        return answer

    def _decide(self, request: IRequest) -> Decision:
        if isOpen(request):
            return self._foresee(request, None, None)
        destination = request.destination
        if destination.ip is None:
            return self._foresee(request, str(destination.host), destination.port)
        return self._judge(request, destination)

    def _goingOn(
        self, request: IRequest, answer: RuleDecision, decided: RuleDecision
    ) -> Decision:
        """
        Whether a session goes on by the way that was decided on, if rules say
        another one now.  The destinations of its datagrams, which are judged one by
        one, must be for the old way; and where that has left a name to others, the
        new rules must not ask for addresses.
        """
        if answer.way == decided.way:
            return attrs.evolve(answer, bindAddress=decided.bindAddress)
        isAssociation = request.command == Command.ASSOCIATE
        if isAssociation and decided.way in self._ways:
            return attrs.evolve(
                answer,
                route=decided.route,
                routeName=decided.routeName,
                bindAddress=decided.bindAddress,
                egress=decided.egress,
            )
        isUnseen = (
            request.destination.ip is None
            and request.session.dialled is None
            and not self.looksUp(decided.route)
            and self.looksUp(answer.route)
        )
        if isAssociation or isUnseen:
            return Decision.deny(reason=f"{answer.reason} goes another way now")
        return answer

    def checkName(self, request: IRequest) -> Decision:
        """
        Judge a name that a datagram is for.  If its addresses will be known, they
        tell more.
        """
        destination = request.destination
        answer = self._foresee(request, str(destination.host), destination.port)
        decided = None if request.session is None else request.session.decision
        if decided is None or self.looksUp(decided.route):
            return answer
        return self._onItsWay(request, answer)

    def looksUp(self, route: IRoute | None) -> bool:
        """
        Whether a way out looks names up here, so that addresses are judged.

        @param route: A decision's.
        """
        if route is None:
            return "" not in self.ruleset.blindRoutes
        return route.resolvesNames

    def _foresee(
        self, request: IRequest, name: str | None, port: int | None
    ) -> Decision:
        facts = self.facts(request, port)
        foresight = self.ruleset.foresee(facts, name)
        if foresight.obstacle is not None:
            return Decision.deny(
                foresight.obstacle.reply,
                f"{foresight.obstacle} asks for an address, "
                f"of which route {foresight.certain and foresight.certain.route} "
                "does not tell",
            )
        decision = self._of(request, foresight.possible or foresight.certain)
        if foresight.isSure or not self.looksUp(decision.route):
            return decision
        # The limits come with the address, of the rule that decides on that.
        return attrs.evolve(decision, limits=None)

    def checkAddress(self, request: IRequest, address: Address) -> Decision:
        """
        Judge one address, by the name that it was found for too.
        """
        return self._onItsWay(request, self._judge(request, address))

    def _onItsWay(self, request: IRequest, answer: Decision) -> Decision:
        """
        The same answer, unless it has another way than the request.
        """
        decided = None if request.session is None else request.session.decision
        if (
            isinstance(answer, RuleDecision)
            and isinstance(decided, RuleDecision)
            and answer.way != decided.way
        ):
            return Decision.deny(
                reason=f"{answer.reason} goes another way than {decided.reason}"
            )
        return answer

    def facts(self, request: IRequest, port: int | None) -> Facts:
        """
        What rules can ask of a request now.
        """
        moment = datetime.fromtimestamp(self._seconds(), self.timezone)
        return Facts.of(request, port, moment)

    def _judge(self, request: IRequest, address: Address) -> Decision:
        """
        Judge one address in every way in which it can be read; it is allowed if
        it is allowed in each.
        """
        literal = address.ip
        assert literal is not None
        facts = self.facts(request, address.port)
        host = request.destination.host
        name = host if isinstance(host, str) else None
        answers = [
            self._judgeReading(request, facts, name, reading, literal)
            for reading in readings(literal)
        ]
        return next((one for one in answers if not one.allowed), answers[0])

    def _judgeReading(
        self,
        request: IRequest,
        facts: Facts,
        name: str | None,
        reading: IPAddress,
        literal: IPAddress,
    ) -> Decision:
        rule = self.ruleset.judge(facts, name, reading, literal)
        guarding = self._guard.checkAddress(request, Address(reading, 0))
        if guarding.allowed or (
            rule is not None and rule.to is not None and rule.to.mean(reading)
        ):
            return self._of(request, rule)
        return guarding

    def _of(self, request: IRequest, rule: Rule | None) -> Decision:
        if rule is None:
            return _END
        decision = self._decisions[rule.number]
        if rule.egress is None:
            return decision
        address = rule.egress.choose(request.listener)
        return attrs.evolve(decision, bindAddress=address)


def isOpen(request: IRequest) -> bool:
    """
    Whether a request tells nothing of its destination: UDP ASSOCIATE's is of no
    meaning, and BIND's 0.0.0.0 is anybody.  Peers and datagrams are judged.
    """
    ip = request.destination.ip
    return request.command == Command.ASSOCIATE or (
        request.command == Command.BIND and ip is not None and ip.is_unspecified
    )


def _decisionOf(rule: Rule, routes: Mapping[str, IRoute | None]) -> Decision:
    if not rule.allows:
        denial = Decision.deny(rule.reply, str(rule), rule.tags)
        return attrs.evolve(denial, rule=rule.number)
    if rule.route and rule.route not in routes:
        raise ValueError(f"rule {rule.number}: there is no route {rule.route}")
    return RuleDecision(
        True,
        routes.get(rule.route),
        limits=rule.limits,
        tags=rule.tags,
        reason=str(rule),
        scope=f"rule {rule.text}",
        rule=rule.number,
        egress=rule.egress,
        routeName=rule.route,
    )
