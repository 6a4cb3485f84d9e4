# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The messages of SOCKS5's GSSAPI method (RFC 1961), without any I/O, for both
the client's and the server's side.  What their tokens hold is for GSSAPI.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from twisted_socks5.errors import AuthenticationFailed, MalformedMessage

VERSION = 0x01
ABORT = b"\x01\xff"
"""
What a server answers last, and to anything, when it refuses a client (section
3.8).
"""

LONGEST_TOKEN = 0xFFFF
HEADER_LENGTH = 4

Buffer: TypeAlias = bytes | bytearray | memoryview


class TokenType(IntEnum):
    """
    MTYP octets: what a token is for.
    """

    CONTEXT = 0x01
    """
    Establishing the security context (section 3.4).
    """

    LEVEL = 0x02
    """
    Agreeing on a protection level (section 4.3).
    """

    DATA = 0x03
    """
    Everything after, protected (section 5).
    """


class ProtectionLevel(IntEnum):
    """
    What is done to the bytes of a connection (section 4.3).
    """

    CLEAR = 0
    """
    Nothing, and there are no more tokens.  No RFC has this; some programs do.
    """

    INTEGRITY = 1
    CONFIDENTIALITY = 2

    SELECTIVE = 3
    """
    One or the other, as each side pleases.
    """


_ABORT_TYPE = ABORT[1]


@dataclass(frozen=True, slots=True)
class TokenMessage:
    """
    A token of GSSAPI's on its way::

        +------+------+------+.......................+
        + ver  | mtyp | len  |       token           |
        +------+------+------+.......................+
        + 0x01 |  1   |  2   | up to 2^16 - 1 octets |
        +------+------+------+.......................+

    @ivar kind: One of L{TokenType}.
    """

    kind: int
    token: bytes

    @classmethod
    def parse(cls, data: Buffer, kind: int) -> tuple[TokenMessage, int] | None:
        """
        Parse a message.

        @param kind: The type that is due.
        @return: The message and how many bytes it took; L{None} for too few.
        @raise AuthenticationFailed: The other side has aborted.
        @raise MalformedMessage: It is of another version or type.
        """
        size = len(data)
        if size >= 1 and data[0] != VERSION:
            raise MalformedMessage(
                f"version {data[0]:02x} in the place of {VERSION:02x}"
            )
        if size >= 2 and data[1] != kind:
            if data[1] == _ABORT_TYPE:
                raise AuthenticationFailed("the other side has aborted")
            raise MalformedMessage(
                f"message type {data[1]:02x} in the place of {kind:02x}"
            )
        if size < HEADER_LENGTH:
            return None
        end = HEADER_LENGTH + (data[2] << 8 | data[3])
        if size < end:
            return None
        return cls(kind, bytes(data[HEADER_LENGTH:end])), end

    def encode(self) -> bytes:
        """
        The message's bytes.

        @raise ValueError: The type is no octet, or the token is longer than
            65535 bytes.
        """
        size = len(self.token)
        if size > LONGEST_TOKEN:
            raise ValueError(f"token of {size} bytes: {LONGEST_TOKEN} at most")
        return bytes((VERSION, self.kind)) + size.to_bytes(2, "big") + self.token
