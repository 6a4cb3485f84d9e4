# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The messages of RFC 1961.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_socks5 import wire_gssapi
from twisted_socks5.errors import AuthenticationFailed, MalformedMessage
from twisted_socks5.wire_gssapi import ProtectionLevel, TokenMessage, TokenType

kinds = st.sampled_from(TokenType)


def test_asInTheRFC() -> None:
    assert [int(each) for each in TokenType] == [1, 2, 3]
    assert [int(each) for each in ProtectionLevel] == [0, 1, 2, 3]
    assert wire_gssapi.ABORT == b"\x01\xff"
    message = TokenMessage(TokenType.LEVEL, b"\xab\xcd\xef")
    assert message.encode() == b"\x01\x02\x00\x03\xab\xcd\xef"


@given(kinds, st.binary(max_size=600), st.binary(max_size=9))
def test_thereAndBack(kind: TokenType, token: bytes, after: bytes) -> None:
    message = TokenMessage(kind, token)
    wire = message.encode()
    for size in range(len(wire)):
        assert TokenMessage.parse(wire[:size], kind) is None
    assert TokenMessage.parse(bytearray(wire + after), kind) == (message, len(wire))


def test_lengths() -> None:
    longest = TokenMessage(TokenType.DATA, bytes(65535)).encode()
    assert longest[:4] == b"\x01\x03\xff\xff"
    parsed = TokenMessage.parse(longest, TokenType.DATA)
    assert parsed == (TokenMessage(3, bytes(65535)), 65539)
    with pytest.raises(ValueError, match="65536"):
        TokenMessage(TokenType.DATA, bytes(65536)).encode()


@given(kinds, st.binary(min_size=1, max_size=4))
def test_noMessage(kind: TokenType, data: bytes) -> None:
    """
    As soon as it shows.
    """
    try:
        parsed = TokenMessage.parse(data, kind)
    except AuthenticationFailed:
        assert data[:2] == b"\x01\xff"
    except MalformedMessage:
        assert data[0] != 1 or data[1] != kind
    else:
        assert data[:2] == bytes((1, kind))[: len(data)]
        assert parsed is None or data[2:] == bytes(2)
