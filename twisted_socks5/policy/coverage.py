# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Rules that can never match, since an earlier one matches whatever they would.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv6Network

from twisted_socks5.addresses import CARRIERS, IPNetwork
from twisted_socks5.policy.ruleindex import RuleIndex
from twisted_socks5.policy.rules import Rule

_NOT_CARRIED = IPv6Network("::/127")  # the unspecified address and ::1


def isCarried(network: IPNetwork) -> bool:
    """
    Whether all addresses of a network are nothing but the way to IPv4 addresses,
    and are judged as those.
    """
    return isinstance(network, IPv6Network) and (
        any(network.subnet_of(carrier) for carrier in CARRIERS)
        and not network.overlaps(_NOT_CARRIED)
    )


def covered(rules: Iterable[Rule]) -> Iterator[tuple[Rule, Rule]]:
    """
    Find rules that can never match.

    @return: Each, with the earlier one that covers it.
    """
    index = RuleIndex()
    earlier: list[Rule] = []
    for rule in rules:
        for place in index.covering(rule.conditions, rule.to):
            if _covers(earlier[place], rule):
                yield rule, earlier[place]
                break
        index.add(rule.conditions, rule.to)
        earlier.append(rule)


def _covers(earlier: Rule, later: Rule) -> bool:
    if not earlier.conditions.cover(later.conditions):
        return False
    if earlier.to is None:
        return True
    if later.to is None or not earlier.to.cover(later.to):
        return False
    # What denies such addresses is asked before what they carry is known.
    return not (
        earlier.allows
        and not later.allows
        and any(map(isCarried, later.to.networks.all))
    )
