# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Configuration keys and their values.
"""

from __future__ import annotations

from ipaddress import ip_address

import attrs
import pytest

from twisted_socks5.service.settings import KEYS, describeKeys, parseSettings
from twisted_socks5.settings import FileName, Ports, PublicAddress, Settings


def test_defaults() -> None:
    assert parseSettings([]) == Settings()


def test_everyKeyIsDescribed() -> None:
    assert [one.partition("=")[0] for one in describeKeys().split(", ")] == list(KEYS)
    for text in ["timeout.bind=60", "bind.ports=any", "udp.public-address=local"]:
        assert text in describeKeys().split(", ")


@pytest.mark.parametrize(
    ("assignment", "section", "field", "value"),
    [
        ("timeout.bind=1.5", "timeout", "bind", 1.5),
        ("timeout.udp-idle=2", "timeout", "udpIdle", 2.0),
        ("limit.binds-per-client=0", "limit", "bindsPerClient", 0),
        ("limit.bandwidth=500000", "limit", "bandwidth", 500_000),
        ("limit.bandwidth=500K", "limit", "bandwidth", 500_000),
        ("limit.bandwidth-per-user=1.5M", "limit", "bandwidthPerUser", 1_500_000),
        ("limit.bytes-per-day=2G", "limit", "bytesPerDay", 2 * 10**9),
        ("limit.bytes-per-month=1T", "limit", "bytesPerMonth", 10**12),
        ("limit.client-prefix-ipv6=48", "limit", "clientPrefixIpv6", 48),
        ("quota.file=a_b", "quota", "file", FileName("a_b")),
        ("bind.ports=40000-40100", "bind", "ports", Ports(40000, 40100)),
        ("udp.ports=40000", "udp", "ports", Ports(40000, 40000)),
        ("udp.replies=any", "udp", "replies", "any"),
        ("udp.fragments=reassemble", "udp", "fragments", "reassemble"),
        (
            "bind.public-address=192.0.2.1",
            "bind",
            "publicAddress",
            PublicAddress(ipv4=ip_address("192.0.2.1")),
        ),
        (
            "udp.public-address=2001:db8::1, 192.0.2.1",
            "udp",
            "publicAddress",
            PublicAddress(ip_address("192.0.2.1"), ip_address("2001:db8::1")),
        ),
    ],
)
def test_values(assignment: str, section: str, field: str, value: object) -> None:
    settings = parseSettings([assignment])
    assert getattr(getattr(settings, section), field) == value
    other = attrs.evolve(settings, **{section: getattr(Settings(), section)})
    assert other == Settings()


def test_theLastOneCounts() -> None:
    assert parseSettings(["timeout.bind=1", "timeout.bind=2"]).timeout.bind == 2


@pytest.mark.parametrize(
    "assignment",
    [
        "timeout.bind=0",
        "timeout.bind=nan",
        "timeout.udp-idle=inf",
        "limit.binds-per-client=-1",
        "limit.sessions=1" + 18 * "0" + "1",
        "limit.bandwidth=1000001T",
        "limit.binds-per-client=1.5",
        "limit.binds-per-client=1_0",
        "limit.binds-per-client=٣",
        "timeout.bind=1_0",
        *(
            f"limit.bandwidth={text}"
            for text in [
                "",
                "-1",
                "1.5",
                "1k",
                "K",
                "1 M",
                "1.M",
                "1e6",
                "0.0001K",
                "٣",
            ]
        ),
        "limit.client-prefix-ipv4=0",
        "limit.client-prefix-ipv4=33",
        "limit.client-prefix-ipv6=129",
        "quota.file=",
        "quota.flush=0",
        *(
            f"bind.ports={text}"
            for text in ["", "0", "-", "5-", "-5", "9-8", "1-65536", "a", "1-2-3", "٣"]
        ),
        *(
            f"udp.public-address={text}"
            for text in [
                "",
                "example.org",
                "0.0.0.0",
                "::",
                "224.0.0.1",
                "255.255.255.255",
                "fe80::1%eth0",
                "192.0.2.1,192.0.2.2",
                "192.0.2.1,",
            ]
        ),
        "udp.replies=all",
        "udp.replies=",
        "udp.fragments=Drop",
        "bind.port=1",
        "bind.ports",
    ],
)
def test_wrong(assignment: str) -> None:
    """
    The text names the key.
    """
    with pytest.raises(ValueError, match=assignment.partition("=")[0]):
        parseSettings([assignment])


def test_portsInTurn() -> None:
    """
    All of them, once each, not always in the same order.
    """
    assert list(Ports().inTurn()) == [0]
    orders = [list(Ports(7, 9).inTurn()) for _ in range(200)]
    assert all(sorted(order) == [7, 8, 9] for order in orders)
    assert len({tuple(order) for order in orders}) == 3
