# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Authentication methods (RFC 1928, section 3).
"""

from twisted_socks5.authenticators.identity import Authenticated, Identity

__all__ = ["Authenticated", "Identity"]
