# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The codec, by its properties.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_socks5 import wire
from twisted_socks5.errors import MalformedMessage, UnknownAddressType

octets = st.integers(0, 255)
texts = st.binary(max_size=255)
hosts = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6), st.binary(max_size=255))
ports = st.integers(0, 65535)
messages = st.one_of(
    st.builds(wire.Greeting, st.binary(min_size=1, max_size=255)),
    st.builds(wire.MethodChoice, octets),
    st.builds(wire.UsernamePassword, texts, texts),
    st.builds(wire.UsernamePasswordStatus, octets),
    st.builds(wire.Request, octets, hosts, ports),
    st.builds(wire.Reply, octets, hosts, ports),
)
PARSERS = [
    wire.Greeting,
    wire.MethodChoice,
    wire.UsernamePassword,
    wire.UsernamePasswordStatus,
    wire.Request,
    wire.Reply,
]


@given(messages, st.binary(max_size=20))
def test_roundTrip(message: Any, rest: bytes) -> None:
    data = message.encode()
    for kind in (bytes, bytearray, memoryview):
        assert type(message).parse(kind(data + rest)) == (message, len(data))


@given(messages)
def test_everyPrefixNeedsMore(message: Any) -> None:
    data = message.encode()
    for length in range(len(data)):
        assert type(message).parse(data[:length]) is None


@pytest.mark.parametrize("kind", PARSERS)
@given(data=st.binary(max_size=600))
def test_anyBytes(kind: Any, data: bytes) -> None:
    try:
        parsed = kind.parse(data)
    except MalformedMessage:
        return
    assert parsed is None or parsed[1] <= min(len(data), 513)


@given(octets, hosts, ports, st.binary())
def test_datagram(fragment: int, host: Any, port: int, payload: bytes) -> None:
    datagram = wire.Datagram(fragment, host, port, payload)
    assert wire.Datagram.parse(datagram.encode()) == datagram


@given(st.binary(max_size=300))
def test_anyDatagram(data: bytes) -> None:
    try:
        wire.Datagram.parse(data)
    except MalformedMessage:
        pass


def test_early() -> None:
    for kind in PARSERS:
        with pytest.raises(MalformedMessage):
            kind.parse(b"\x04")
    with pytest.raises(MalformedMessage):
        wire.Greeting.parse(b"\x05\x00")
    with pytest.raises(UnknownAddressType):
        wire.Request.parse(b"\x05\x01\x00\x02")


def test_passwordIsNotShown() -> None:
    assert "secret" not in repr(wire.UsernamePassword(b"user", b"secret"))
