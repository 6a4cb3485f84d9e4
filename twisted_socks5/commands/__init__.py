# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What CMD octets do (RFC 1928, section 4).
"""

from twisted_socks5.commands.associate import Associate
from twisted_socks5.commands.bind import Bind
from twisted_socks5.commands.connect import Connect

__all__ = ["Associate", "Bind", "Connect"]
