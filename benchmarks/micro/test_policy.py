# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The policy: the guard, rules, and what an address is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import Any, cast

import pytest

from twisted_socks5 import Guard, Identity
from twisted_socks5.addresses import Address, Kind, kindOf
from twisted_socks5.interfaces import IRequest
from twisted_socks5.policy import Rule, RulePolicy, Ruleset
from twisted_socks5.policy.destinations import Destinations

KINDS = {
    "93.184.215.14": Kind.GLOBAL,
    "10.1.2.3": Kind.PRIVATE,
    "127.0.0.1": Kind.LOOPBACK,
    "2a00:1450:4001:80b::200e": Kind.GLOBAL,
    "64:ff9b::a01:203": Kind.PRIVATE,  # 10.1.2.3 through NAT64
}
each = pytest.mark.parametrize(("address", "kind"), KINDS.items())


@dataclass
class Request:
    """
    What a policy looks at.
    """

    command: int
    destination: Address
    client: Address
    identity: Identity
    listener: Address
    session: object = None


def request(destination: str) -> IRequest:
    """
    A request of an anonymous client that is elsewhere.
    """
    one = Request(
        1,
        Address(ip_address(destination), 443),
        Address(IPv4Address("198.51.100.7"), 50000),
        Identity(),
        Address(IPv4Address("198.51.100.1"), 1080),
    )
    return cast(IRequest, one)


@each
def test_decide(benchmark: Any, address: str, kind: Kind) -> None:
    decision = benchmark(Guard().decide, request(address))
    assert decision.allowed is (kind is Kind.GLOBAL)


@pytest.mark.parametrize("count", [10, 10_000])
def test_rules(benchmark: Any, count: int) -> None:
    """
    Rules for so many networks, of which the last decides.
    """
    networks = [f"20.{n // 256}.{n % 256}.0/24" for n in range(count)]
    rules = [
        Rule(number, True, to=Destinations.of(network))
        for number, network in enumerate(networks, 1)
    ]
    policy = RulePolicy(Ruleset(rules), time.time)
    last = networks[-1].replace("0/24", "7")
    decision = benchmark(policy.decide, request(last))
    assert decision.reason.startswith(f"rule {count} ")


@each
def test_kindOf(benchmark: Any, address: str, kind: Kind) -> None:
    assert benchmark(kindOf, ip_address(address)) is kind


def test_normaliseName(benchmark: Any) -> None:
    address = benchmark(Address.fromWire, b"WWW.Example.ORG.", 443)
    assert address.host == "www.example.org"
