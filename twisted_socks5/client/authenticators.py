# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
How a client says who it is.
"""

from __future__ import annotations

import attrs
from zope.interface import implementer

from twisted_socks5.errors import AuthenticationFailed
from twisted_socks5.interfaces import IClientAuthenticator, IClientExchange
from twisted_socks5.wire import Method, UsernamePassword, UsernamePasswordStatus


@implementer(IClientAuthenticator)
@attrs.frozen
class Anonymous:
    """
    Method 00: nothing is said (RFC 1928, section 3).
    """

    method = int(Method.NONE)

    async def authenticate(self, exchange: IClientExchange) -> None:
        """
        There is nothing to say.
        """


def _asBytes(text: str | bytes) -> bytes:
    return text.encode("utf-8") if isinstance(text, str) else text


@implementer(IClientAuthenticator)
@attrs.frozen
class Login:
    """
    Method 02: a username and a password (RFC 1929), which go over the wire in
    the clear.

    @ivar username: At most 255 bytes; text is sent as UTF-8.
    @ivar password: The same.  It may be empty.
    """

    username: bytes = attrs.field(converter=_asBytes)
    password: bytes = attrs.field(converter=_asBytes, repr=False)

    method = int(Method.USERNAME)

    def __attrs_post_init__(self) -> None:
        """
        Find what cannot be sent now, rather than at each connection.

        @raise ValueError: It is too long.
        """
        UsernamePassword(self.username, self.password).encode()

    async def authenticate(self, exchange: IClientExchange) -> None:
        """
        Send both, and read whether the proxy lets us in.

        @raise AuthenticationFailed: It does not.
        """
        exchange.write(UsernamePassword(self.username, self.password).encode())
        status = await exchange.readMessage(UsernamePasswordStatus.parse)
        if not status.succeeded:
            raise AuthenticationFailed("the proxy does not accept username or password")
