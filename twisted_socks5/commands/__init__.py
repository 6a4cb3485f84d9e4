# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What the CMD octets do (RFC 1928, section 4).
"""

from twisted_socks5.commands.connect import Connect

__all__ = ["Connect"]
