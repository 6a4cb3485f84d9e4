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

_YES_OR_NO = {"yes": True, "no": False}


def authenticatorsFromArguments(
    user: str | None, passwordFile: str | None
) -> list[IClientAuthenticator]:
    """
    What to offer a proxy, by the arguments of a string.

    @raise ValueError: One of them is wrong.
    @raise OSError: The file cannot be read.
    """
    if user is None and passwordFile is None:
        return []
    if user is None or passwordFile is None:
        raise ValueError("user and passwordFile go together")
    password, _, rest = Path(passwordFile).read_bytes().partition(b"\n")
    if rest:
        raise ValueError(f"passwordFile={passwordFile}: more than one line")
    return [Login(user, password.removesuffix(b"\r"))]


def endpointFromArguments(
    reactor: Any,
    host: str,
    port: str,
    proxy: str,
    user: str | None = None,
    passwordFile: str | None = None,
    oneFlight: str = "no",
    timeout: str = "30",
) -> SOCKS5ClientEndpoint:
    """
    Make an endpoint of the arguments of a string.

    @param host: The destination.
    @param port: Its port.
    @param proxy: How to reach the proxy: the string of another endpoint, quoted.
    @param user: The username; without it the proxy is told none.
    @param passwordFile: A file with the password in its only line.
    @param oneFlight: C{yes} to send the request with the greeting.
    @param timeout: In seconds.
    @raise ValueError: One of them is wrong.
    @raise OSError: The file cannot be read.
    """
    if oneFlight not in _YES_OR_NO:
        raise ValueError(f"oneFlight={oneFlight}: yes or no")
    return SOCKS5ClientEndpoint(
        clientFromString(reactor, proxy),
        host,
        int(port),
        *authenticatorsFromArguments(user, passwordFile),
        oneFlight=_YES_OR_NO[oneFlight],
        timeout=float(timeout),
        reactor=reactor,
    )
