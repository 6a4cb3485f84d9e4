# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
GSSAPI's protection of everything after the authentication (RFC 1961, section
5), for both the client's and the server's side.
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import EMSGSIZE

from gssapi import SecurityContext
from gssapi.raw.misc import GSSError
from zope.interface import implementer

from twisted_socks5.errors import MalformedMessage, StreamEnded
from twisted_socks5.interfaces import IStreamLayer
from twisted_socks5.wire_gssapi import (
    LONGEST_TOKEN,
    ProtectionLevel,
    TokenMessage,
    TokenType,
)


@implementer(IStreamLayer)
class GSSAPIProtection:
    """
    Wraps and unwraps with an established security context.

    What GSSAPI finds wrong with a token raises its own error, whose type tells
    what it is: a bad signature, a token that came before, one that is missing.
    (The last two are noticed only where the client asked for it when it
    established the context, as RFC 1961, section 3.2, requires.)
    """

    def __init__(self, context: SecurityContext, level: ProtectionLevel) -> None:
        """
        @param level: L{ProtectionLevel.INTEGRITY}, or
            L{ProtectionLevel.CONFIDENTIALITY}, and then what is not
            confidential is not good.
        """
        self._context = context
        self._isConfidential = level == ProtectionLevel.CONFIDENTIALITY
        self._most = context.get_wrap_size_limit(LONGEST_TOKEN, self._isConfidential)
        self._buffer = bytearray()
        self._hasFailed = False

    def wrap(self, data: bytes) -> bytes:
        """
        What goes on the wire for these bytes: as many tokens as they need.
        """
        most = self._most
        return b"".join(
            self._protect(data[start : start + most])
            for start in range(0, len(data), most)
        )

    def _protect(self, data: bytes) -> bytes:
        token = self._context.wrap(data, self._isConfidential).message
        return TokenMessage(TokenType.DATA, token).encode()

    def unwrap(self, data: bytes) -> Iterator[bytes]:
        """
        What came of these bytes.  After a token that was not good there is
        nothing more.

        @raise GSSError: GSSAPI did not find a token good.
        @raise MalformedMessage: It is no token, or has too little protection.
        """
        if self._hasFailed:
            raise MalformedMessage("after a token that was not good")
        buffer = self._buffer
        buffer += data
        try:
            while (parsed := TokenMessage.parse(buffer, TokenType.DATA)) is not None:
                message, length = parsed
                del buffer[:length]
                if piece := self._open(message.token):
                    yield piece
        except Exception:
            self._hasFailed = True
            raise

    def _open(self, token: bytes) -> bytes:
        opened = self._context.unwrap(token)
        if self._isConfidential and not opened.encrypted:
            raise MalformedMessage("a token that is not confidential")
        return opened.message

    def eof(self) -> None:
        """
        No more bytes will come.

        @raise StreamEnded: They ended amid a token.
        """
        if self._buffer:
            raise StreamEnded("amid a token")

    def wrapDatagram(self, data: bytes) -> bytes:
        """
        What goes on the wire for one whole datagram: one token.

        @raise OSError: C{EMSGSIZE}: it is too long for that.
        """
        if len(data) > self._most:
            raise OSError(EMSGSIZE, f"more than {self._most} bytes to protect")
        return self._protect(data)

    def unwrapDatagram(self, data: bytes) -> bytes:
        """
        The datagram that came of one from the wire.

        @raise MalformedMessage: It is not one good token and nothing else.
        """
        parsed = TokenMessage.parse(data, TokenType.DATA)
        if parsed is None or parsed[1] != len(data):
            raise MalformedMessage("a datagram that is not one token")
        try:
            return self._open(parsed[0].token)
        except GSSError as error:
            raise MalformedMessage(type(error).__name__) from None
