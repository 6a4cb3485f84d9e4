# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Rules, in their order: the first that matches decides, and where none does the
end denies.  Nothing is looked up or done here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from enum import Enum

import attrs

from twisted_socks5.addresses import IPAddress
from twisted_socks5.policy.conditions import Conditions, Facts
from twisted_socks5.policy.destinations import Destinations
from twisted_socks5.policy.egress import Egress
from twisted_socks5.policy.ruleindex import RuleIndex
from twisted_socks5.settings import Limits


@attrs.frozen
class Rule:
    """
    One rule.

    @ivar number: Counts from 1 in a file.
    @ivar allows: What it says: to allow, or to deny.
    @ivar conditions: What else must hold.
    @ivar to: The destinations that it is for; L{None} is all.
    @ivar reply: The REP octet, if it denies.
    @ivar route: The name of the way out, if it allows; empty for the server's
        own.
    @ivar egress: Which address of this host to go out from, if it allows; L{None}
        leaves that to the route.
    @ivar tags: Words for the log.
    @ivar comment: What its author says of it.
    @ivar line: Where it is in its file.
    @ivar limits: What those are limited to together whom it lets pass, if anything.
    """

    number: int
    allows: bool
    conditions: Conditions = attrs.field(factory=Conditions)
    to: Destinations | None = None
    reply: int = 0x02
    route: str = ""
    egress: Egress | None = None
    tags: tuple[str, ...] = ()
    comment: str = ""
    line: int = 0
    limits: Limits | None = None

    def matches(
        self, facts: Facts, name: str | None, reading: IPAddress, literal: IPAddress
    ) -> bool:
        """
        Whether it is the one to decide on an address.

        @param name: The name that was asked for, if it was one.
        @param reading: What the address is judged as.
        @param literal: The address.
        """
        return not self.conditions.failing(facts) and self.hasAddress(
            name, reading, literal
        )

    def hasAddress(
        self, name: str | None, reading: IPAddress, literal: IPAddress
    ) -> bool:
        """
        Whether it is for an address.  An IPv4 address inside an IPv6 one is that
        IPv4 address; but whoever wants to deny the IPv6 addresses of 6to4 can say
        so.
        """
        to = self.to
        return (
            to is None
            or (name is not None and to.hasName(name))
            or to.hasAddress(reading)
            or (not self.allows and literal in to.networks)
        )

    def hasNameForSure(self, name: str | None) -> bool:
        """
        Whether it is for a name, whatever its addresses are.

        @param name: L{None} is a destination of which nothing is known.
        """
        return self.to is None or (name is not None and self.to.hasName(name))

    @property
    def text(self) -> str:
        """
        What it says, in a line.
        """
        words = ["allow" if self.allows else "deny", str(self.conditions)]
        if self.to is not None:
            words.append(f"to={self.to}")
        if self.route:
            words.append(f"route={self.route}")
        if self.egress is not None:
            words.append(f"bind={self.egress}")
        return " ".join(filter(None, words))

    def __str__(self) -> str:
        comment = f": {self.comment}" if self.comment else ""
        return f"rule {self.number} ({self.text}){comment}"


class Certainty(Enum):
    """
    What can be said of a rule before the destination's address is known.
    """

    MATCHES = "matches"
    DEPENDS = "depends"
    FAILS = "fails"


@attrs.frozen
class Foresight:
    """
    What can be told of a request before its addresses are known.

    @ivar certain: The first rule that matches whatever the addresses are; L{None}
        is the end, which denies.
    @ivar possible: The first rule before that one which allows some address, if
        the certain one allows none.
    @ivar obstacle: The first rule before the certain one that may deny.  Asked for
        only where addresses will not be known.
    @ivar isSure: Whether no rule before the certain one allows some address.
    """

    certain: Rule | None
    possible: Rule | None = None
    obstacle: Rule | None = None
    isSure: bool = True


class Ruleset:
    """
    All rules.

    @ivar rules: In their order.
    """

    def __init__(
        self, rules: Iterable[Rule] = (), blindRoutes: Collection[str] = ()
    ) -> None:
        """
        @param blindRoutes: The names of routes that do not look names up here,
            so that addresses are not known.  The server's own has an empty name.
        """
        self.rules: tuple[Rule, ...] = tuple(rules)
        self.blindRoutes = frozenset(blindRoutes)
        self._index = RuleIndex((rule.conditions, rule.to) for rule in self.rules)
        # Of those that are alike but for their destinations, the first is enough
        # to say that there may be an address for which they match.
        self._undecided: dict[object, Rule] = {}
        for rule in self.rules:
            if rule.to is not None or rule.conditions.port is not None:
                needsAddress = rule.to is not None and rule.to.needAddress
                isBlind = rule.route in self.blindRoutes
                key = (rule.allows, rule.conditions, needsAddress, isBlind)
                self._undecided.setdefault(key, rule)

    def judge(
        self, facts: Facts, name: str | None, reading: IPAddress, literal: IPAddress
    ) -> Rule | None:
        """
        The rule that decides on an address.

        @param name: The name that was asked for, if it was one.
        @param reading: What the address is judged as.
        @param literal: The address.
        @return: L{None}, if none does: the end denies.
        """
        for place in self._index.candidates(facts, name, (reading, literal)):
            rule = self.rules[place]
            if rule.matches(facts, name, reading, literal):
                return rule
        return None

    def foresee(self, facts: Facts, name: str | None) -> Foresight:
        """
        What can be said before addresses are known.

        @param name: The name that was asked for; L{None} if it is not known what
            will be, as with datagrams.
        """
        certain = None
        for place in self._index.candidates(facts, name, ()):
            rule = self.rules[place]
            if self.tell(rule, facts, name) is Certainty.MATCHES:
                certain = rule
                break
        before = certain.number if certain is not None else len(self.rules) + 1
        undecided = [
            rule
            for rule in self._undecided.values()
            if rule.number < before
            and self.tell(rule, facts, name) is Certainty.DEPENDS
        ]
        if certain is None or not certain.allows:
            allowing = [rule for rule in undecided if rule.allows]
            seeing = [rule for rule in allowing if rule.route not in self.blindRoutes]
            if name is None:  # what will be named may be an address
                seeing = seeing or allowing
            return Foresight(certain, _first(seeing), isSure=not allowing)
        if certain.route in self.blindRoutes and name is not None:
            denying = [rule for rule in undecided if not rule.allows]
            return Foresight(certain, obstacle=_first(denying))
        return Foresight(certain, isSure=not any(rule.allows for rule in undecided))

    def tell(self, rule: Rule, facts: Facts, name: str | None) -> Certainty:
        """
        What can be said of one rule before addresses are known.
        """
        isOpen = facts.port is None
        conditions = rule.conditions
        if (
            conditions.failingBesidesPort(facts)
            if isOpen
            else conditions.failing(facts)
        ):
            return Certainty.FAILS
        if rule.hasNameForSure(name):
            isSure = not isOpen or conditions.port is None
            return Certainty.MATCHES if isSure else Certainty.DEPENDS
        assert rule.to is not None
        mayHave = name is None or rule.to.needAddress
        return Certainty.DEPENDS if mayHave else Certainty.FAILS

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)


def _first(rules: Iterable[Rule]) -> Rule | None:
    return min(rules, key=lambda rule: rule.number, default=None)
