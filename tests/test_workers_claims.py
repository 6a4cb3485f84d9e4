# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What sessions claim, as workers ask their supervisor for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

import attrs
from twisted.protocols.amp import Box

from twisted_socks5.addresses import Address
from twisted_socks5.authenticators import Identity
from twisted_socks5.limits.allowance import Allowance
from twisted_socks5.limits.claims import Claim
from twisted_socks5.service.workers.ledger import decode, encode
from twisted_socks5.service.workers.messages import PART, Admit
from twisted_socks5.settings import Limits

LONG = "\N{GRINNING FACE}" * 6000
CLIENT = Address(ip_address("2001:db8::1"), 1)
USER = Identity(LONG, b"")

fields = [field.name for field in attrs.fields(Limits) if "Prefix" not in field.name]
LIMITS = Limits(**dict.fromkeys(fields, 1))


def ofRequest(*allowances: Allowance) -> list[Claim]:
    """
    What is claimed for a user and a command.
    """
    claims: list[Claim] = []
    for each in allowances:
        claims += [*each.ofUser(USER, CLIENT), *each.ofCommand(2, CLIENT)]
    return claims


def ofRule(rule: Allowance) -> list[Claim]:
    """
    What is claimed for a rule.
    """
    return [*rule.ofAll(), *rule.ofClient(CLIENT), *ofRequest(rule)]


def assertFits(claims: Iterable[Claim]) -> None:
    encoded = encode(list(claims))
    assert len(Box(Admit.makeArguments({"claims": encoded}, None)).serialize()) < PART
    assert decode(encoded) == claims


def test_fit() -> None:
    """
    There is room for them in a message, with all limits, however long the text of a
    rule is, of a listener, or the name of a user.
    """
    assertFits(ofRule(Allowance(f"rule {LONG}", LIMITS)))
    listener = Allowance(f"listener {LONG}", LIMITS)
    assertFits(ofRequest(Allowance("", LIMITS), listener))


def test_different() -> None:
    """
    Those of two rules, or of two users, with long texts are not taken for each other,
    and who is refused is told in a short line.
    """
    one, another = (Allowance(f"rule {LONG}{end}", LIMITS) for end in "ab")
    assert not {*ofRule(one)} & {*ofRule(another)}
    other = Identity(LONG + "b", b"")
    assert not {*one.ofUser(other, CLIENT)} & {*ofRule(one)}
    assert len(one.ofAll()[0].reason) < 300
    short = Allowance("rule allow to=example.org", LIMITS).ofAll()[0]
    assert short.scope == "rule allow to=example.org"
