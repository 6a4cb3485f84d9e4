# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Asking a proxy for something.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import attrs
from twisted.internet.address import HostnameAddress
from twisted.internet.address import IPv4Address as TCP4Address
from twisted.internet.address import IPv6Address as TCP6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import (
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure

from twisted_socks5 import wire
from twisted_socks5.client.authenticators import Anonymous
from twisted_socks5.client.conversation import Conversation, ConversationFactory
from twisted_socks5.client.takeover import leavesNobodyBetween
from twisted_socks5.client.target import Target, asTwisted
from twisted_socks5.errors import SOCKSError, TimedOut
from twisted_socks5.interfaces import IClientAuthenticator

TIMEOUT = 30.0
"""
How long, in seconds, a proxy may take for all that precedes the payload.
"""


def _checked(
    authenticators: Sequence[IClientAuthenticator],
) -> tuple[IClientAuthenticator, ...]:
    """
    @raise ValueError: Two are of the same method, or of one that is no octet.
    """
    found = tuple(authenticators) or (Anonymous(),)
    methods = [each.method for each in found]
    if len(set(methods)) != len(methods):
        raise ValueError("two authenticators of the same method")
    if not all(0 <= method < wire.NO_ACCEPTABLE_METHODS for method in methods):
        raise ValueError("a method is an octet from 00 to FE")
    return found


@attrs.frozen
class Proxy:
    """
    A proxy, and how to deal with it.

    @ivar endpoint: How to reach it.
    @ivar authenticators: What it is offered, in this order; without any,
        L{Anonymous}.
    @ivar oneFlight: Send the request with the greeting if no answer can change
        it: if L{Anonymous} is all that is offered.
    @ivar timeout: How many seconds it may take for all that precedes the
        payload; L{None} for as long as it likes.
    @ivar reactor: Times that from the beginning.  Without it, the reactor of the
        connection does so once there is one; how long that may take is for
        C{endpoint} to say.
    """

    endpoint: IStreamClientEndpoint
    authenticators: tuple[IClientAuthenticator, ...] = attrs.field(
        default=(), converter=_checked
    )
    oneFlight: bool = attrs.field(default=False, kw_only=True)
    timeout: float | None = attrs.field(default=TIMEOUT, kw_only=True)
    reactor: IReactorTime | None = attrs.field(default=None, kw_only=True)

    def request(
        self, command: int, target: Target, user: IProtocolFactory | None = None
    ) -> Deferred[tuple[Conversation, wire.Reply]]:
        """
        Connect, and ask for something.

        @param user: Whose C{doStart} and C{doStop} are called with the
            connection's.
        @return: The conversation after its first reply.  It fails with a
            L{SOCKSError}, with L{ConnectingCancelledError}, or with whatever the
            endpoint fails with; the connection is then closed.
        """
        factory = ConversationFactory(user, leavesNobodyBetween(self.endpoint))
        attempt = Deferred.fromCoroutine(self._attempt(factory, command, target))
        return self._timed(attempt, self.reactor, factory, target)

    async def _attempt(
        self, factory: ConversationFactory, command: int, target: Target
    ) -> tuple[Conversation, wire.Reply]:
        try:
            request = target.request(command)
            conversation: Any = await self.endpoint.connect(factory)
            answered = Deferred.fromCoroutine(
                conversation.request(
                    request, str(target), self.authenticators, self.oneFlight
                )
            )
            if self.reactor is None:
                clock = getattr(conversation.transport, "reactor", None)
                self._timed(answered, clock, factory, target)
            return conversation, await answered
        except CancelledError:
            factory.abandon()
            raise ConnectingCancelledError(
                asTwisted(request.host, request.port)
            ) from None
        except BaseException as error:
            factory.abandon()
            if isinstance(error, SOCKSError):
                tell(error, factory.conversation, target)
            raise

    def _timed(
        self,
        attempt: Deferred[Any],
        clock: IReactorTime | None,
        factory: ConversationFactory,
        target: Target,
    ) -> Deferred[Any]:
        """
        Have a clock cut an attempt short.
        """
        if clock is None or self.timeout is None:
            return attempt

        def timedOut(result: object, seconds: float) -> Failure:
            error = TimedOut(f"not done in {seconds:g} seconds")
            tell(error, factory.conversation, target)
            return Failure(error)

        return attempt.addTimeout(self.timeout, clock, timedOut)

    @property
    def before(self) -> ReachedThrough | None:
        """
        How the proxy before this one in a chain is asked for it.
        """
        return self.endpoint if isinstance(self.endpoint, ReachedThrough) else None

    def reachable(
        self, conversation: Conversation, reply: wire.Reply
    ) -> tuple[wire.Host, int]:
        """
        BND.ADDR and BND.PORT (RFC 1928, section 6).  Where BND.ADDR is unspecified,
        it means the address that the proxy was reached at.
        """
        host = reply.host
        if isinstance(host, bytes) or not host.is_unspecified:
            return host, reply.port
        if self.before is not None:
            host = self.before.target.request(wire.Command.CONNECT).host
        else:
            peer = conversation.transport.getPeer()
            if isinstance(peer, TCP4Address | TCP6Address):
                host = _addressIn(peer)
        return host, reply.port


class ReachedThrough:
    """
    An endpoint that is reached through a proxy.

    @ivar proxy: It, and how to deal with it.
    @ivar target: What it is asked for.
    """

    proxy: Proxy
    target: Target


def isPassedOn(conversation: Conversation) -> bool:
    """
    Whether somebody passes a conversation on to the proxy: the endpoint has told of
    another place than that which the connection goes to.
    """
    told, peer = conversation.address, conversation.transport.getPeer()
    if isinstance(told, HostnameAddress):
        return True
    if not (
        isinstance(told, TCP4Address | TCP6Address)
        and isinstance(peer, TCP4Address | TCP6Address)
    ):
        return False
    if told.port != peer.port:
        return True
    try:
        return _addressIn(told) != _addressIn(peer)
    except ValueError:  # a name, as some of Twisted's endpoints were given it
        return False


def _addressIn(address: TCP4Address | TCP6Address) -> IPv4Address | IPv6Address:
    return ip_address(address.host.partition("%")[0])


def tell(error: SOCKSError, conversation: Conversation | None, target: Target) -> None:
    """
    Say in an error what it is about; one of a proxy on the way to this one says
    it already.
    """
    if not error.target:
        error.target = str(target)
        if conversation is not None:
            error.proxy = conversation.proxy
