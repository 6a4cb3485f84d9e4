# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A SOCKS5 server and plugin framework for Twisted.
"""

from twisted_socks5._version import __version__
from twisted_socks5.authenticators import (
    Authenticated,
    Identity,
    NoAuthentication,
    UsernamePasswordAuthenticator,
)
from twisted_socks5.policy import Decision, Guard
from twisted_socks5.server.factory import SOCKS5ServerFactory
from twisted_socks5.settings import Limits, Timeouts

__all__ = [
    "Authenticated",
    "Decision",
    "Guard",
    "Identity",
    "Limits",
    "NoAuthentication",
    "SOCKS5ServerFactory",
    "Timeouts",
    "UsernamePasswordAuthenticator",
    "__version__",
]
