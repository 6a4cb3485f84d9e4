# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A SOCKS5 server, client and plugin framework for Twisted.

The public names are imported when they are first used: every C{twistd} that
starts reads the plugins, and with them this package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from twisted_socks5._version import __version__

if TYPE_CHECKING:
    from twisted_socks5.authenticators import (
        Authenticated,
        Identity,
        NoAuthentication,
        UsernamePasswordAuthenticator,
    )
    from twisted_socks5.client import (
        Anonymous,
        Login,
        SOCKS5ClientEndpoint,
        SOCKS5DatagramEndpoint,
        SOCKS5ServerEndpoint,
    )
    from twisted_socks5.client.agent import (
        SOCKS5AgentEndpointFactory,
        SOCKS5ConnectionPool,
    )
    from twisted_socks5.policy import Decision, Guard
    from twisted_socks5.routes import ThroughProxy
    from twisted_socks5.server.factory import SOCKS5ServerFactory
    from twisted_socks5.settings import Limits, Throttling, Timeouts

_HOMES = {
    "Anonymous": "client",
    "Authenticated": "authenticators",
    "Decision": "policy",
    "Guard": "policy",
    "Identity": "authenticators",
    "Limits": "settings",
    "Login": "client",
    "NoAuthentication": "authenticators",
    "SOCKS5AgentEndpointFactory": "client.agent",
    "SOCKS5ClientEndpoint": "client",
    "SOCKS5ConnectionPool": "client.agent",
    "SOCKS5DatagramEndpoint": "client",
    "SOCKS5ServerEndpoint": "client",
    "SOCKS5ServerFactory": "server.factory",
    "ThroughProxy": "routes",
    "Throttling": "settings",
    "Timeouts": "settings",
    "UsernamePasswordAuthenticator": "authenticators",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = [
    "Anonymous",
    "Authenticated",
    "Decision",
    "Guard",
    "Identity",
    "Limits",
    "Login",
    "NoAuthentication",
    "SOCKS5AgentEndpointFactory",
    "SOCKS5ClientEndpoint",
    "SOCKS5ConnectionPool",
    "SOCKS5DatagramEndpoint",
    "SOCKS5ServerEndpoint",
    "SOCKS5ServerFactory",
    "Throttling",
    "ThroughProxy",
    "Timeouts",
    "UsernamePasswordAuthenticator",
    "__version__",
]
