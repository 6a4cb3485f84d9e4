# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What addresses are, and the default policy's table.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_socks5 import Guard, Identity
from twisted_socks5.addresses import UNIX_CLIENT, Address, Kind, kindOf
from twisted_socks5.errors import InvalidName


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.255.0.1", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::127.0.0.1", "loopback"),
        ("64:ff9b::7f00:1", "loopback"),
        ("64:ff9b:1::7f00:1", "loopback"),
        ("2002:7f00:1::", "loopback"),
        ("2001:0:808:808:0:0:80ff:fffe", "loopback"),
        ("10.1.2.3", "private"),
        ("100.64.0.1", "private"),
        ("fd00::1", "private"),
        ("2002:a00:1::", "private"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("169.254.169.254", "metadata"),
        ("fd00:ec2::254", "metadata"),
        ("100.100.100.200", "metadata"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("2001:db8::1", "reserved"),
        ("100::1", "reserved"),
        ("8.8.8.8", "global"),
        ("::ffff:8.8.8.8", "global"),
        ("64:ff9b::808:808", "global"),
        ("2606:4700::1111", "global"),
    ],
)
def test_kind(text: str, kind: str) -> None:
    assert kindOf(ip_address(text)) is Kind(kind)


@given(st.ip_addresses(v=4))
def test_embeddedIsNoLooser(ip: IPv4Address) -> None:
    order = list(Kind)
    number = int(ip)
    for form in (
        0xFFFF << 32 | number,
        0xFFFF0000 << 32 | number,
        0x64FF9B << 96 | number,
        0x64FF9B0001 << 80 | number,
        0x2002 << 112 | number << 80,
        0x20010000 << 96 | 0x08080808 << 64 | number ^ 0xFFFFFFFF,
    ):
        assert order.index(kindOf(IPv6Address(form))) <= order.index(kindOf(ip))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b".",
        b"a..b",
        b".a",
        b"a..",
        b"a" * 64,
        b"a b",
        b"a\0b",
        b"a\r\nb",
        b"\xc3\xa9",
    ]
    + [b"a." * 127 + b"b"],
)
def test_invalidNames(raw: bytes) -> None:
    with pytest.raises(InvalidName):
        Address.fromName(raw, 80)


@pytest.mark.parametrize(
    ("raw", "host"),
    [
        (b"Example.ORG.", "example.org"),
        (b"127.1", "127.1"),
        (b"0x7f.1", "0x7f.1"),
        (b"2130706433", "2130706433"),
        (b"127.0.0.1", IPv4Address("127.0.0.1")),
        (b"::1", IPv6Address("::1")),
    ],
)
def test_names(raw: bytes, host: object) -> None:
    assert Address.fromName(raw, 80).host == host


HERE = Address(IPv4Address("127.0.0.1"), 1)
AWAY = Address(IPv4Address("192.168.1.9"), 1)
SOMEBODY = Identity("alice", b"alice", method=2)


@pytest.mark.parametrize(
    ("client", "identity", "local", "inside", "private"),
    [
        (HERE, Identity(), "here", True, True),
        (UNIX_CLIENT, Identity(), "here", True, True),
        (HERE, Identity(), "elsewhere", False, False),
        (AWAY, SOMEBODY, "here", False, True),
        (AWAY, Identity(), "here", False, False),
    ],
)
def test_guard(
    client: Address, identity: Identity, local: str, inside: bool, private: bool
) -> None:
    request: Any = SimpleNamespace(client=client, identity=identity)
    guard = Guard(local)
    for text, expected in (
        ("127.0.0.1", inside),
        ("::ffff:169.254.169.254", inside),
        ("10.0.0.1", private),
        ("8.8.8.8", True),
    ):
        decision = guard.checkAddress(request, Address(ip_address(text), 80))
        assert decision.allowed is expected
        assert decision.reply == (0 if expected else 2)


def test_guardArgument() -> None:
    with pytest.raises(ValueError, match="elsewhere"):
        Guard("nowhere")
