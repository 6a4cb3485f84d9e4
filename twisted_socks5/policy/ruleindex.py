# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Which rules are worth a look for a request, so that thousands of rules for
single networks, names, users or clients cost no more than a few.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted_socks5.addresses import IPAddress, Kind, kindOf, kindOfNetwork
from twisted_socks5.policy.conditions import Conditions, Facts
from twisted_socks5.policy.destinations import (
    Destinations,
    Name,
    Suffix,
    parentsOf,
)
from twisted_socks5.policy.networks import NetworkTable


class RuleIndex:
    """
    The places of rules, counted from 0.  Each is kept by one thing that it asks
    for: its destinations, or its users, or where its clients are.
    """

    def __init__(
        self, rules: Iterable[tuple[Conditions, Destinations | None]] = ()
    ) -> None:
        self._names: dict[str, list[int]] = {}
        self._suffixes: dict[str, list[int]] = {}
        self._networks: NetworkTable[int] = NetworkTable()
        self._kinds: dict[Kind, list[int]] = {}
        self._users: dict[str, list[int]] = {}
        self._clients: NetworkTable[int] = NetworkTable()
        self._others: list[int] = []
        self._count = 0
        for conditions, to in rules:
            self.add(conditions, to)

    def add(self, conditions: Conditions, to: Destinations | None) -> None:
        """
        Take the next rule.
        """
        place, self._count = self._count, self._count + 1
        if to is not None:
            self._addDestinations(to, place)
        elif conditions.user is not None:
            for user in conditions.user:
                self._users.setdefault(user, []).append(place)
        elif conditions.client is not None and not conditions.client.onUnix:
            for network in conditions.client.networks.all:
                self._clients.add(network, place)
        else:
            self._others.append(place)

    def _addDestinations(self, to: Destinations, place: int) -> None:
        for pattern in to.patterns:
            if isinstance(pattern, Name):
                self._names.setdefault(pattern.name, []).append(place)
            elif isinstance(pattern, Suffix):
                self._suffixes.setdefault(pattern.name, []).append(place)
            elif isinstance(pattern, Kind):
                self._kinds.setdefault(pattern, []).append(place)
            else:
                self._networks.add(pattern, place)

    def candidates(
        self, facts: Facts, name: str | None, addresses: Iterable[IPAddress]
    ) -> list[int]:
        """
        The places of all rules that may match, in their order.
        """
        found = {*self._others, *self._users.get(facts.user, ())}
        if facts.client.ip is not None:
            found.update(self._clients.containing(facts.client.ip))
        if name is not None:
            found.update(self._names.get(name, ()))
            for parent in parentsOf(name):
                found.update(self._suffixes.get(parent, ()))
        for ip in set(addresses):
            found.update(self._networks.containing(ip))
            if self._kinds:
                found.update(self._kinds.get(kindOf(ip), ()))
        return sorted(found)

    def covering(self, conditions: Conditions, to: Destinations | None) -> list[int]:
        """
        The places of all rules that may match whatever another one does, in
        their order.
        """
        found = set(self._others)
        for user in list(conditions.user or ())[:1]:
            found.update(self._users.get(user, ()))
        if conditions.client is not None:
            for network in conditions.client.networks.all[:1]:
                found.update(self._clients.covering(network))
        if to is not None:
            found.update(self._coveringOne(to))
        return sorted(found)

    def _coveringOne(self, to: Destinations) -> Iterable[int]:
        pattern = to.patterns[0]
        if isinstance(pattern, Kind):
            return self._kinds.get(pattern, ())
        if isinstance(pattern, Name | Suffix):
            parents = list(parentsOf(pattern.name))
            if isinstance(pattern, Suffix):
                parents.append(pattern.name)
            found = [place for one in parents for place in self._suffixes.get(one, ())]
            return [*found, *self._names.get(pattern.name, ())]
        kind = kindOfNetwork(pattern)
        byKind = [] if kind is None else self._kinds.get(kind, [])
        return [*self._networks.covering(pattern), *byKind]
