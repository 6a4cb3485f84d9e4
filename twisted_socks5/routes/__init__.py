# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Ways out to destinations.
"""

from twisted_socks5.routes.direct import DirectRoute
from twisted_socks5.routes.resolver import NameResolver
from twisted_socks5.routes.throughproxy import ThroughProxy

__all__ = ["DirectRoute", "NameResolver", "ThroughProxy"]
