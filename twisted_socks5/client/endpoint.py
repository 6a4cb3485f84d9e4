# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Connecting to a destination through a proxy.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from zope.interface import implementer

from twisted_socks5.client.proxy import TIMEOUT, Proxy, ReachedThrough
from twisted_socks5.client.takeover import Successor
from twisted_socks5.client.target import Target, asTwisted
from twisted_socks5.interfaces import IClientAuthenticator
from twisted_socks5.wire import Command


@implementer(IStreamClientEndpoint)
class SOCKS5ClientEndpoint(ReachedThrough):
    """
    A destination that is connected to through a SOCKS5 proxy (RFC 1928).

    The proxy is behind an endpoint of its own.  So TLS to the proxy, or a proxy
    at a UNIX socket, is a matter of that endpoint; and where that is another
    L{SOCKS5ClientEndpoint}, the proxies are a chain.
    """

    def __init__(
        self,
        proxyEndpoint: IStreamClientEndpoint,
        host: str | bytes,
        port: int,
        *authenticators: IClientAuthenticator,
        oneFlight: bool = False,
        timeout: float | None = TIMEOUT,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param proxyEndpoint: Connects to the proxy.
        @param host: The destination: an IP address, or a name, which the proxy
            looks up.  Non-ASCII names are given in their ASCII form (xn--).
        @param port: Its port.
        @param authenticators: What the proxy is offered, the preferred first.
            Without any, L{Anonymous<twisted_socks5.client.Anonymous>}; with some,
            only those.
        @param oneFlight: Send the request with the greeting, which saves a round
            trip, if L{Anonymous<twisted_socks5.client.Anonymous>} is all that is
            offered.  Not every proxy expects that.
        @param timeout: How many seconds it may take until the destination is
            connected; L{None} for as long as it likes.
        @param reactor: Times that.  Without it, time begins when the proxy has
            accepted, by the reactor of that connection; C{proxyEndpoint} has a
            timeout of its own.
        @raise ValueError: Two authenticators are of the same method.
        """
        self.proxy = Proxy(
            proxyEndpoint,
            authenticators,
            oneFlight=oneFlight,
            timeout=timeout,
            reactor=reactor,
        )
        self.target = Target(host, port)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.target}>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect to the destination.

        The protocol's transport is the connection to the proxy: C{getPeer} tells
        of the proxy.  C{buildProtocol} is told of the destination.

        @return: The protocol, once the destination has accepted.  Fails with a
            L{SOCKSError<twisted_socks5.errors.SOCKSError>}, or with whatever the
            proxy's endpoint fails with; when cancelled, with
            L{ConnectingCancelledError
            <twisted.internet.error.ConnectingCancelledError>}.  By then the
            connection is closed.
        """
        attempt = Deferred.fromCoroutine(self._connect(protocolFactory))
        connected: Deferred[IProtocol] = Deferred(lambda _: attempt.cancel())

        def succeeded(successor: Successor) -> None:
            # Whoever waits for the protocol sees it before its first bytes.
            connected.callback(successor.protocol)
            successor.deliver()

        attempt.addCallbacks(succeeded, connected.errback)
        return connected

    async def _connect(self, protocolFactory: IProtocolFactory) -> Successor:
        conversation, _ = await self.proxy.request(
            Command.CONNECT, self.target, protocolFactory
        )
        request = self.target.request(Command.CONNECT)
        address = asTwisted(request.host, request.port)
        return conversation.handOver(protocolFactory, address)
