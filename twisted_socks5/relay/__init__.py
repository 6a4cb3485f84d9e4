# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Carrying bytes both ways between a client and a destination.
"""

from twisted_socks5.relay.automatic import AutomaticRelay
from twisted_socks5.relay.portable import PortableRelay

__all__ = ["AutomaticRelay", "PortableRelay"]
