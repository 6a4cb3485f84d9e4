# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The way out through another SOCKS5 proxy.  Names stay names: that proxy looks
them up.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection
from errno import EMSGSIZE
from ipaddress import IPv4Address, ip_address
from os import strerror
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import CancelledError
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectingCancelledError, MessageLengthError
from twisted.internet.interfaces import (
    IProtocol,
    IReactorTime,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import DatagramProtocol, Factory
from zope.interface import implementer

from twisted_socks5 import wire
from twisted_socks5.addresses import Address, IPAddress, unmapped
from twisted_socks5.client.conversation import Conversation
from twisted_socks5.client.datagrams import SOCKS5DatagramEndpoint, SOCKS5DatagramPort
from twisted_socks5.client.proxy import TIMEOUT, Proxy
from twisted_socks5.client.strings import authenticatorsFromArguments
from twisted_socks5.client.takeover import abort
from twisted_socks5.client.target import Target
from twisted_socks5.errors import (
    CommandNotSupported,
    ConnectionNotAllowed,
    GeneralFailure,
    NameNotFound,
    ReplyError,
    SOCKSError,
)
from twisted_socks5.interfaces import (
    IClientAuthenticator,
    IDatagramReceiver,
    IDatagrams,
    IListening,
    IOutbound,
    IRevisable,
    IRoute,
)

if TYPE_CHECKING:
    import socket

    from twisted_socks5.interfaces import Check

_Result = TypeVar("_Result")

# Letters, digits, hyphens and underscores, and a last label that is no number.
_HOST_NAME = re.compile(r"([a-z0-9_-]+\.)*(?!\d+$|0x[0-9a-f]*$)[a-z0-9_-]+")

MAX_DESTINATIONS = 4096
"""
How many destinations of one association are remembered.
"""

MAX_REASONS = 64
"""
How many ports of one host are remembered, to be judged again.
"""

_UNKNOWN = Address(IPv4Address(0), 0)


async def _asked(asking: Awaitable[_Result]) -> _Result:
    """
    What the proxy has answered.  What is a matter between us and it is none of
    the client's, who is told of a general failure.

    @raise ReplyError: What to tell the client.
    @raise CancelledError: Nobody wants to know any more.
    """
    try:
        return await asking
    except (ReplyError, CancelledError):
        raise
    except ConnectingCancelledError:  # as endpoints call it; nothing has failed
        raise CancelledError from None
    except SOCKSError as error:
        raise GeneralFailure(str(error)) from error
    except Exception as error:  # as various as endpoints are
        raise GeneralFailure(f"no way to the proxy: {error}") from error


def _known(host: wire.Host, port: int) -> Address | None:
    """
    An address as the proxy has told it; of a name we can tell nobody.
    """
    return None if isinstance(host, bytes) else Address(unmapped(host), port)


@implementer(IOutbound)
class ProxiedOutbound:
    """
    A connection that the proxy has made for us.
    """

    def __init__(
        self, conversation: Conversation, local: Address, peer: Address | None
    ) -> None:
        self._conversation = conversation
        self.local = local
        self.peer = peer

    def attach(self, protocol: IProtocol) -> ITransport:
        """
        Have a protocol take the connection over.
        """
        factory: Any = Factory()
        factory.noisy = False
        factory.buildProtocol = lambda address: protocol
        transport: Any = self._conversation.transport
        self._conversation.handOver(factory, transport.getPeer()).deliver()
        attached: ITransport = transport
        return attached

    def detachSocket(self) -> socket.socket | None:
        """
        There is no bare socket: some bytes may have been read from it.
        """
        return None

    def abort(self) -> None:
        """
        Close the connection.
        """
        self._conversation.abort()


@implementer(IListening)
class ProxiedListening:
    """
    A port of the proxy's.
    """

    def __init__(
        self, conversation: Conversation, local: Address, check: Check
    ) -> None:
        self._conversation = conversation
        self._check = check
        self._isTaken = False
        self.local = local

    async def accept(self) -> IOutbound:
        """
        Wait for the peer.  The proxy takes one only, so with one that is denied
        it is over.
        """
        reply = await _asked(self._conversation.readReply())
        peer = _known(reply.host, reply.port)
        if peer is None:
            raise GeneralFailure("the proxy tells no address of the peer")
        await self._check(peer)
        self._isTaken = True
        return ProxiedOutbound(self._conversation, self.local, peer)

    def close(self) -> None:
        """
        Close the port, if it is still open.
        """
        if not self._isTaken:
            self._conversation.abort()


class _Answers:
    """
    Who may answer.  The proxy sees to that, until the policy has changed: from then
    on, those whom the client has sent to and may still send to, and, once it has
    sent to a name again, all but those that are denied.
    """

    def __init__(self) -> None:
        self._hosts: dict[IPAddress, dict[Address, None]] = {}
        self._denied: dict[IPAddress, None] = {}
        self._mayBeOthers = True

    def sentTo(self, destination: Address) -> None:
        """
        The client may send there.
        """
        ip = destination.ip
        if ip is None:
            self._mayBeOthers = True
            return
        self._denied.pop(ip, None)
        reasons = self._hosts.pop(ip, {})
        _remember(reasons, destination, MAX_REASONS)
        _remember(self._hosts, ip, MAX_DESTINATIONS, reasons)

    def allow(self, source: IPAddress) -> bool:
        """
        Whether something may come from there.
        """
        return source in self._hosts or (
            self._mayBeOthers and source not in self._denied
        )

    async def revise(self, check: Check) -> None:
        """
        The policy may have changed.
        """
        self._mayBeOthers = False
        for ip, reasons in list(self._hosts.items()):
            for destination in list(reasons):
                try:
                    await check(destination, destination)
                except ConnectionNotAllowed:
                    reasons.pop(destination, None)
            if not reasons and self._hosts.get(ip) is reasons:
                del self._hosts[ip]
                _remember(self._denied, ip, MAX_DESTINATIONS)


def _remember(known: dict[Any, Any], key: object, most: int, what: Any = None) -> None:
    """
    Remember something, and forget the oldest where there is too much.
    """
    known.pop(key, None)
    known[key] = what
    if len(known) > most:
        del known[next(iter(known))]


class _Datagrams(DatagramProtocol):
    """
    What comes back from the proxy.
    """

    noisy = False
    receiver: IDatagramReceiver | None = None

    def __init__(self) -> None:
        self.answers = _Answers()

    def stopProtocol(self) -> None:
        if self.receiver is not None:
            self.receiver.ended("the proxy ended the association")

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if self.receiver is None:
            return
        try:
            source = unmapped(ip_address(addr[0]))
        except ValueError:  # a name, which clients do not expect
            self.receiver.dropped("source")
            return
        if self.answers.allow(source):
            header = wire.encodeDatagramHeader(source, addr[1])
            self.receiver.received(header, datagram)
        else:
            self.receiver.dropped("stranger")


@implementer(IDatagrams, IRevisable)
class ProxiedDatagrams:
    """
    A UDP association at the proxy.
    """

    def __init__(
        self, protocol: _Datagrams, port: SOCKS5DatagramPort, check: Check
    ) -> None:
        self._protocol = protocol
        self._port = port
        self._check = check

    def start(self, receiver: IDatagramReceiver) -> None:
        """
        Say who gets what comes back.
        """
        self._protocol.receiver = receiver
        if self._protocol.transport is None:
            self._protocol.stopProtocol()

    async def sender(self, destination: Address) -> Callable[[bytes], object]:
        """
        The way to a destination.
        """
        if destination.ip is not None:
            await self._check(destination)
        target = _target(destination)
        self._protocol.answers.sentTo(destination)
        to = (str(target.host), target.port)

        def send(payload: bytes) -> None:
            try:
                self._port.write(payload, to)
            except MessageLengthError:
                raise OSError(EMSGSIZE, strerror(EMSGSIZE)) from None

        return send

    async def revise(self) -> None:
        """
        The policy may have changed.
        """
        await self._protocol.answers.revise(self._check)

    @property
    def ports(self) -> Collection[int]:
        """
        Our port towards the proxy.
        """
        return [self._port.localPort]

    def close(self) -> None:
        """
        End the association.
        """
        self._protocol.receiver = None
        self._port.stopListening()


@implementer(IRoute)
class ThroughProxy:
    """
    Through another SOCKS5 proxy, or a chain of them: its endpoint may be a
    L{SOCKS5ClientEndpoint<twisted_socks5.client.SOCKS5ClientEndpoint>}.

    IP addresses are judged here.  A name is not looked up here, so only its
    C{decide} has been asked about it; what it comes to is for the proxy to judge.
    """

    resolvesNames = False

    def __init__(
        self,
        reactor: Any,
        proxyEndpoint: IStreamClientEndpoint,
        *authenticators: IClientAuthenticator,
        timeout: float = TIMEOUT,
    ) -> None:
        """
        @param proxyEndpoint: Connects to the proxy.
        @param authenticators: What it is offered; without any,
            L{Anonymous<twisted_socks5.client.Anonymous>}.
        @param timeout: How many seconds it may take until a destination is
            connected.
        """
        clock: IReactorTime = reactor
        self._proxy = Proxy(
            proxyEndpoint, authenticators, timeout=timeout, reactor=clock
        )
        self._datagrams = SOCKS5DatagramEndpoint(
            reactor, proxyEndpoint, *authenticators, timeout=timeout
        )

    def boundTo(self, address: IPAddress) -> IRoute:
        """
        From which address to go out is for the proxy to say.

        @raise CommandNotSupported: Always.
        """
        raise CommandNotSupported("a proxy goes out from the address that it likes")

    async def connect(self, target: Address, check: Check) -> IOutbound:
        """
        Have the proxy connect.

        @raise ReplyError: What to tell the client.
        """
        if target.ip is not None:
            await check(target)
        conversation, reply = await _asked(
            self._proxy.request(wire.Command.CONNECT, _target(target))
        )
        local = _known(reply.host, reply.port) or _UNKNOWN
        return ProxiedOutbound(conversation, local, None)

    async def listen(self, expected: Address, check: Check) -> IListening:
        """
        Have the proxy listen.

        @raise ReplyError: What to tell the client.
        """
        if expected.ip is not None and not expected.ip.is_unspecified:
            await check(expected)
        conversation, reply = await _asked(
            self._proxy.request(wire.Command.BIND, _target(expected))
        )
        local = _known(*self._proxy.reachable(conversation, reply))
        if local is None:
            abort(conversation.transport)
            raise GeneralFailure("the proxy tells no address of its port")
        return ProxiedListening(conversation, local, check)

    async def datagrams(self, check: Check) -> IDatagrams:
        """
        Have the proxy pass datagrams on, and in a chain each.

        @raise ReplyError: What to tell the client.
        """
        protocol = _Datagrams()
        port = await _asked(self._datagrams.listen(protocol))
        return ProxiedDatagrams(protocol, port, check)


def _target(address: Address) -> Target:
    """
    What to ask the proxy for.  A name is left to it only if nobody could take it
    for something else: C{127.1} is an address to many a resolver, and a backslash
    begins the number of another letter.

    @raise NameNotFound: It is no name that a host could have.
    """
    host = str(address.host)
    if address.ip is None and not _HOST_NAME.fullmatch(host):
        raise NameNotFound(f"{host}: no name that could be left to a proxy")
    return Target(host, address.port)


def routeFromArguments(
    reactor: Any, proxy: str, timeout: str = "30", **offered: Any
) -> ThroughProxy:
    """
    Make a route of the arguments of a string.

    @param proxy: How to reach the proxy: the string of an endpoint.
    @param timeout: In seconds.
    @param offered: The arguments of L{authenticatorsFromArguments
        <twisted_socks5.client.strings.authenticatorsFromArguments>}.
    @raise ValueError: One of them is wrong.
    """
    try:
        methods = authenticatorsFromArguments(reactor, **offered)
    except OSError as error:
        raise ValueError(str(error)) from None
    seconds = float(timeout)
    if not 0 < seconds < float("inf"):
        raise ValueError(
            f"timeout {timeout}: expected a number of seconds, more than 0"
        )
    return ThroughProxy(
        reactor, clientFromString(reactor, proxy), *methods, timeout=seconds
    )
