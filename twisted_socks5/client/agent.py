# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
HTTP through a proxy, with Twisted's
L{Agent<twisted.web.client.Agent>}.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.web.client import URI, BrowserLikePolicyForHTTPS, HTTPConnectionPool
from twisted.web.error import SchemeNotSupported
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from twisted_socks5.client.endpoint import SOCKS5ClientEndpoint
from twisted_socks5.client.proxy import TIMEOUT
from twisted_socks5.interfaces import IClientAuthenticator


@implementer(IAgentEndpointFactory)
class SOCKS5AgentEndpointFactory:
    """
    Has an agent connect through a proxy, for C{http} and C{https}; the proxy
    looks the names up.  It is for
    L{Agent.usingEndpointFactory<twisted.web.client.Agent.usingEndpointFactory>}.

    An agent that is to use connections again needs a L{SOCKS5ConnectionPool}.
    """

    def __init__(
        self,
        proxyEndpoint: IStreamClientEndpoint,
        *authenticators: IClientAuthenticator,
        policyForHTTPS: IPolicyForHTTPS | None = None,
        oneFlight: bool = False,
        timeout: float | None = TIMEOUT,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        The parameters are those of L{SOCKS5ClientEndpoint}, and:

        @param policyForHTTPS: Whom to believe to be who; without it, those whom
            browsers believe.
        """
        self._proxyEndpoint = proxyEndpoint
        self._authenticators = authenticators
        self._policyForHTTPS = policyForHTTPS or BrowserLikePolicyForHTTPS()
        self._oneFlight = oneFlight
        self._timeout = timeout
        self._reactor = reactor

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """
        The way to the server of a URI.

        @raise SchemeNotSupported: It is neither C{http} nor C{https}.
        """
        if uri.scheme not in (b"http", b"https"):
            raise SchemeNotSupported(f"Unsupported scheme: {uri.scheme!r}")
        endpoint: Any = SOCKS5ClientEndpoint(
            self._proxyEndpoint,
            uri.host,
            uri.port,
            *self._authenticators,
            oneFlight=self._oneFlight,
            timeout=self._timeout,
            reactor=self._reactor,
        )
        if uri.scheme == b"https":
            creator = self._policyForHTTPS.creatorForNetloc(uri.host, uri.port)
            endpoint = wrapClientTLS(creator, endpoint)
        return WayEndpoint(endpoint, self)


@implementer(IStreamClientEndpoint)
@attrs.frozen
class WayEndpoint:
    """
    An endpoint that knows which way it goes.

    @ivar way: What tells it from other ways to the same place.
    """

    _endpoint: IStreamClientEndpoint
    way: Hashable

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect.
        """
        connected: Deferred[IProtocol] = self._endpoint.connect(protocolFactory)
        return connected


class SOCKS5ConnectionPool(HTTPConnectionPool):
    """
    A pool that several agents can share without getting each other's
    connections.

    Twisted's own pool takes all connections to one scheme, host and port for
    the same.  In this one they are the same only if they were made by the same
    L{SOCKS5AgentEndpointFactory}, and so through the same proxy, by the same
    user, with the same policy for HTTPS.
    """

    def getConnection(
        self, key: Hashable, endpoint: IStreamClientEndpoint
    ) -> Deferred[Any]:
        """
        A connection for one request.
        """
        way = getattr(endpoint, "way", None)
        connection: Deferred[Any] = super().getConnection((key, way), endpoint)
        return connection
