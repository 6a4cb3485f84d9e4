# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The client endpoint as a string, for
L{clientFromString<twisted.internet.endpoints.clientFromString>}.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.endpoints import clientFromString

from twisted_socks5.client.authenticators import Login
from twisted_socks5.client.endpoint import SOCKS5ClientEndpoint
from twisted_socks5.interfaces import IClientAuthenticator
from twisted_socks5.wire_gssapi import ProtectionLevel

_YES_OR_NO = {"yes": True, "no": False}


def authenticatorsFromArguments(
    reactor: Any,
    *,
    user: str | None = None,
    passwordFile: str | None = None,
    gssapi: str | None = None,
    service: str = "rcmd",
    tickets: str | None = None,
    minimum: str = "2",
) -> list[IClientAuthenticator]:
    """
    What to offer a proxy, by the arguments of a string.

    @param user: The username; without it the proxy is told none.
    @param passwordFile: A file with the password in its only line.
    @param gssapi: What the proxy's host is called in its keys; without it GSSAPI
        is not offered.
    @param service: What its service is called there.
    @param tickets: A file with our tickets.
    @param minimum: The least protection that will do, as a number.
    @raise ValueError: One of them is wrong, or python-gssapi is not installed.
    @raise OSError: The file with the password cannot be read.
    """
    found: list[IClientAuthenticator] = []
    if gssapi is not None:
        found.append(_gssapiLogin(reactor, gssapi, service, tickets, minimum))
    elif (service, tickets, minimum) != ("rcmd", None, "2"):
        raise ValueError("service, tickets and minimum go with gssapi")
    if user is None and passwordFile is None:
        return found
    if user is None or passwordFile is None:
        raise ValueError("user and passwordFile go together")
    password, _, rest = Path(passwordFile).read_bytes().partition(b"\n")
    if rest:
        raise ValueError(f"passwordFile={passwordFile}: more than one line")
    return [*found, Login(user, password.removesuffix(b"\r"))]


def _gssapiLogin(
    reactor: Any, host: str, service: str, tickets: str | None, minimum: str
) -> IClientAuthenticator:
    if minimum not in ("0", "1", "2"):
        raise ValueError(f"minimum={minimum}: expected 0, 1 or 2")
    try:
        from twisted_socks5.client.gssapi import GSSAPILogin
    except ImportError as error:
        raise ValueError(
            f"{error}; it needs python-gssapi: pip install twisted-socks5[gssapi]"
        ) from None
    return GSSAPILogin(
        reactor, host, service, tickets, minimum=ProtectionLevel(int(minimum))
    )


def endpointFromArguments(
    reactor: Any,
    host: str,
    port: str,
    proxy: str,
    *,
    oneFlight: str = "no",
    timeout: str = "30",
    **offered: str,
) -> SOCKS5ClientEndpoint:
    """
    Make an endpoint of the arguments of a string.

    @param host: The destination.
    @param port: Its port.
    @param proxy: How to reach the proxy: the string of another endpoint, quoted.
    @param oneFlight: C{yes} to send the request with the greeting.
    @param timeout: In seconds.
    @param offered: The arguments of L{authenticatorsFromArguments}.
    @raise ValueError: One of them is wrong.
    @raise OSError: The file with the password cannot be read.
    """
    if oneFlight not in _YES_OR_NO:
        raise ValueError(f"oneFlight={oneFlight}: yes or no")
    return SOCKS5ClientEndpoint(
        clientFromString(reactor, proxy),
        host,
        int(port),
        *authenticatorsFromArguments(reactor, **offered),
        oneFlight=_YES_OR_NO[oneFlight],
        timeout=float(timeout),
        reactor=reactor,
    )
