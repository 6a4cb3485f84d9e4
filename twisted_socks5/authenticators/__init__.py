# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Authentication methods (RFC 1928, section 3).
"""

from twisted_socks5.authenticators.identity import Authenticated, Identity
from twisted_socks5.authenticators.none import NoAuthentication
from twisted_socks5.authenticators.username import UsernamePasswordAuthenticator

__all__ = [
    "Authenticated",
    "Identity",
    "NoAuthentication",
    "UsernamePasswordAuthenticator",
]
