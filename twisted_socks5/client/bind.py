# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Being connected to through a proxy (BIND).
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from twisted_socks5.client.conversation import Conversation
from twisted_socks5.client.proxy import TIMEOUT, Proxy, tell
from twisted_socks5.client.takeover import Successor
from twisted_socks5.client.target import Target, asTwisted
from twisted_socks5.errors import SOCKSError
from twisted_socks5.interfaces import IClientAuthenticator
from twisted_socks5.wire import Command


@implementer(IListeningPort)
class SOCKS5ListeningPort:
    """
    A port of the proxy's, that waits for one peer.  When that has connected, the
    port is closed.

    @ivar accepted: Fires with the protocol of the peer, or fails if the proxy
        stops waiting.  After L{stopListening} it does neither.
    """

    def __init__(
        self,
        conversation: Conversation,
        address: IAddress,
        factory: IProtocolFactory,
        target: Target,
    ) -> None:
        self._conversation = conversation
        self._address = address
        self._factory = factory
        self._target = target
        self._isOpen = False
        self.accepted: Deferred[IProtocol] = Deferred()

    def startListening(self) -> None:
        """
        Begin to wait; whoever hands the port out has done so.
        """
        if self._isOpen:
            return
        self._isOpen = True
        self._factory.doStart()
        waiting = Deferred.fromCoroutine(self._accept())
        waiting.addCallbacks(self._succeeded, self.accepted.errback)

    async def _accept(self) -> Successor | None:
        conversation = self._conversation
        try:
            reply = await conversation.readReply()
            peer = asTwisted(reply.host, reply.port)
            return conversation.handOver(self._factory, peer)
        except BaseException as error:
            conversation.abort()
            if not self._isOpen:
                return None
            if isinstance(error, SOCKSError):
                tell(error, conversation, self._target)
            raise
        finally:
            self._close()

    def _succeeded(self, successor: Successor | None) -> None:
        if successor is not None:
            self.accepted.callback(successor.protocol)
            successor.deliver()

    def _close(self) -> None:
        if self._isOpen:
            self._isOpen = False
            self._factory.doStop()

    def stopListening(self) -> Deferred[None]:
        """
        Close the port, if it still waits.
        """
        if self._isOpen:
            self._close()
            self._conversation.abort()
        return succeed(None)

    def getHost(self) -> IAddress:
        """
        Where the peer is to connect to: an address of the proxy's.
        """
        return self._address


@implementer(IStreamServerEndpoint)
class SOCKS5ServerEndpoint:
    """
    Waits at a SOCKS5 proxy for a peer to connect (RFC 1928, section 4, BIND).
    """

    def __init__(
        self,
        proxyEndpoint: IStreamClientEndpoint,
        host: str | bytes,
        port: int,
        *authenticators: IClientAuthenticator,
        timeout: float | None = TIMEOUT,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param proxyEndpoint: Connects to the proxy.
        @param host: Who may connect: an IP address or a name; C{"0.0.0.0"} is
            anybody, where the proxy allows it.
        @param port: From which port; many proxies do not care.
        @param authenticators: As for L{SOCKS5ClientEndpoint
            <twisted_socks5.client.SOCKS5ClientEndpoint>}.
        @param timeout: How many seconds it may take until the proxy listens.
            How long it then does is for it to say.
        @param reactor: Times that.
        @raise ValueError: Two authenticators are of the same method.
        """
        self._proxy = Proxy(
            proxyEndpoint, authenticators, timeout=timeout, reactor=reactor
        )
        self._target = Target(host, port)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._target}>"

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        Have the proxy listen.

        @return: The port, of which C{getHost} tells where the peer is to connect
            to.  It takes one peer, of which C{buildProtocol} is told.  Fails as
            L{SOCKS5ClientEndpoint.connect
            <twisted_socks5.client.SOCKS5ClientEndpoint.connect>} does.
        """
        return Deferred.fromCoroutine(self._listen(protocolFactory))

    async def _listen(self, protocolFactory: IProtocolFactory) -> IListeningPort:
        conversation, reply = await self._proxy.request(Command.BIND, self._target)
        address = asTwisted(*self._proxy.reachable(conversation, reply))
        port = SOCKS5ListeningPort(conversation, address, protocolFactory, self._target)
        port.startListening()
        return port
