# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The codec: messages as bytes.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from twisted_socks5 import wire

HOSTS = {
    "IPv4": IPv4Address("192.0.2.1"),
    "IPv6": IPv6Address("2001:db8::1"),
    "name": b"www.example.org",
}
each = pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)


def test_parseGreeting(benchmark: Any) -> None:
    message, _ = benchmark(wire.Greeting.parse, bytearray(b"\x05\x02\x00\x02"))
    assert list(message.methods) == [0, 2]


def test_parseUsernamePassword(benchmark: Any) -> None:
    data = bytearray(b"\x01\x05alice\x0awonderland")
    message, length = benchmark(wire.UsernamePassword.parse, data)
    assert message.username == b"alice"
    assert length == len(data)


@each
def test_parseRequest(benchmark: Any, host: wire.Host) -> None:
    data = bytearray(wire.Request(wire.Command.CONNECT, host, 443).encode())
    message, length = benchmark(wire.Request.parse, data)
    assert message.host == host
    assert length == len(data)


@each
def test_encodeReply(benchmark: Any, host: wire.Host) -> None:
    data = benchmark(lambda: wire.Reply(0, host, 443).encode())
    assert data[:3] == b"\x05\x00\x00"


@each
def test_parseDatagramHeader(benchmark: Any, host: wire.Host) -> None:
    data = wire.Datagram(0, host, 53, bytes(512)).encode()
    _, found, port, end = benchmark(wire.parseDatagramHeader, data)
    assert (found, port) == (host, 53)
    assert len(data) - end == 512


@each
def test_encodeDatagramHeader(benchmark: Any, host: wire.Host) -> None:
    data = benchmark(wire.encodeDatagramHeader, host, 53)
    assert data[:3] == bytes(3)
