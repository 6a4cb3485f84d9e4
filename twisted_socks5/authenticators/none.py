# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Method 00: no authentication required (RFC 1928, section 3).
"""

from __future__ import annotations

from zope.interface import implementer

from twisted_socks5.authenticators.identity import Authenticated, Identity
from twisted_socks5.interfaces import (
    IAccountAuthenticator,
    IAuthenticator,
    IExchange,
)
from twisted_socks5.wire import Method

_ANYBODY = Authenticated(Identity())


@implementer(IAuthenticator, IAccountAuthenticator)
class NoAuthentication:
    """
    Lets anybody in.
    """

    name = "none"
    method = int(Method.NONE)
    strength = 0
    failureReply = b""

    def isAvailable(self, exchange: IExchange) -> bool:
        """
        Always.
        """
        return True

    def authenticate(self, exchange: IExchange) -> Authenticated:
        """
        Let it in.
        """
        return _ANYBODY

    def hasAccount(self, identity: Identity) -> bool:
        """
        Anybody who has no name.
        """
        return identity.isAnonymous
