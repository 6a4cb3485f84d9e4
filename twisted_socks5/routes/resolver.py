# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Looking names up with L{twisted.names}, in the reactor's own thread.

The reactor's resolver runs C{getaddrinfo} in ten threads that all share: ten
names whose servers do not answer hold up everybody's, and an IP address in an
odd spelling (C{0x7f.1}) is taken for one.  Here a look-up that hangs holds up
nothing but itself, and is gone when it is cancelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from itertools import chain, zip_longest
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    connectProtocol,
)
from twisted.internet.error import CannotListenError, ConnectError
from twisted.internet.interfaces import IDelayedCall
from twisted.names import dns
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_socks5.addresses import IPAddress
from twisted_socks5.errors import GeneralFailure, NameNotFound, SOCKSError, TimedOut
from twisted_socks5.interfaces import IResolver
from twisted_socks5.routes.hostfiles import (
    WatchedFile,
    parseHosts,
    parseResolverConfiguration,
)

RESOLUTION_DELAY = 0.05
"""
How long the other family's answer is waited for once one has come, in seconds
(RFC 8305, section 8, Resolution Delay).
"""

_PATIENCE = (1, 3, 11, 45)
"""
How long each name server is waited for, round by round, in seconds: as
L{twisted.names.client} does.
"""

_MOST_ADDRESSES = 32

_LOCALHOST: tuple[IPAddress, ...] = (IPv6Address(1), IPv4Address(0x7F000001))


class _Quiet(dns.DNSDatagramProtocol):
    """
    Does not log each socket.
    """

    noisy = False


class _Controller:
    """
    What Twisted's DNS protocols tell of connections and stray messages.
    """

    def connectionMade(self, protocol: object) -> None: ...

    def connectionLost(self, protocol: object) -> None: ...

    def messageReceived(self, *stray: object) -> None: ...


@implementer(IResolver)
class NameResolver:
    """
    Looks names up in hosts(5), then with the servers of resolv.conf(5).  There
    is no cache: each answer is fresh when it is judged.
    """

    def __init__(
        self,
        reactor: Any,
        hosts: str = "/etc/hosts",
        resolvConf: str = "/etc/resolv.conf",
        port: int = dns.PORT,
    ) -> None:
        """
        @param port: The port of the name servers.
        """
        self._reactor = reactor
        self._hosts = WatchedFile(hosts, parseHosts)
        self._configuration = WatchedFile(resolvConf, parseResolverConfiguration)
        self._port = port

    def resolve(self, name: str) -> Deferred[Sequence[IPAddress]]:
        """
        Look a name up.

        @return: Its addresses, IPv6 and IPv4 by turns (RFC 8305, section 4).
            Fails with L{NameNotFound}, L{TimedOut} or L{GeneralFailure}.
        """
        return Deferred.fromCoroutine(self._resolve(name))

    async def _resolve(self, name: str) -> Sequence[IPAddress]:
        known = self._hosts.get().get(name)
        if known:
            return _byTurns(known)
        top = name.rpartition(".")[2]
        if top == "localhost":  # RFC 6761, section 6.3
            return _LOCALHOST
        if top == "invalid":  # RFC 6761, section 6.4
            raise NameNotFound("name not found")
        configuration = self._configuration.get()
        for candidate in configuration.candidates(name):
            if len(candidate) > 253:
                continue
            try:
                return await self._bothFamilies(candidate, configuration.servers)
            except NameNotFound:
                continue
        raise NameNotFound("name not found")

    def _bothFamilies(
        self, name: str, servers: Sequence[str]
    ) -> Deferred[Sequence[IPAddress]]:
        return _BothFamilies(
            self._reactor,
            [
                Deferred.fromCoroutine(self._ask(name, kind, servers))
                for kind in (dns.AAAA, dns.A)
            ],
        ).outcome

    async def _ask(
        self, name: str, kind: int, servers: Sequence[str]
    ) -> list[IPAddress]:
        """
        Ask the servers in turn for one kind of address, again and again with
        more patience.
        """
        query = dns.Query(name.encode("ascii"), kind, dns.IN)
        problem: SOCKSError | None = None
        for patience in _PATIENCE:
            for server in servers:
                try:
                    message = await self._query(server, query, patience)
                except dns.DNSQueryTimeoutError:
                    continue
                except (OSError, CannotListenError, ConnectError) as error:
                    problem = GeneralFailure(f"name server: {type(error).__name__}")
                    continue
                if message.rCode == dns.ENAME:
                    raise NameNotFound("name not found")
                if message.rCode == dns.OK:
                    return _addresses(message, kind)
                problem = GeneralFailure(f"name server: code {message.rCode}")
            if problem is not None:
                raise problem
        raise TimedOut("no name server answered")

    async def _query(self, server: str, query: dns.Query, patience: int) -> Any:
        """
        Ask one server once, by a port of its own that nobody can guess.
        """
        protocol = _Quiet(_Controller(), reactor=self._reactor)
        interface = "::" if ":" in server else ""
        port = self._reactor.listenUDP(0, protocol, interface, 4096)
        try:
            message = await protocol.query((server, self._port), [query], patience)
        finally:
            for _, timer in protocol.liveMessages.values():
                timer.cancel()
            port.stopListening()
        if message.trunc:
            return await self._queryTCP(server, query, patience)
        return message

    async def _queryTCP(self, server: str, query: dns.Query, patience: int) -> Any:
        """
        Ask again for an answer that was too long for a datagram.
        """
        kind = TCP6ClientEndpoint if ":" in server else TCP4ClientEndpoint
        endpoint = kind(self._reactor, server, self._port, timeout=patience)
        protocol = await connectProtocol(
            endpoint, dns.DNSProtocol(_Controller(), reactor=self._reactor)
        )
        try:
            return await protocol.query([query], patience)
        finally:
            for _, timer in protocol.liveMessages.values():
                if timer.active():
                    timer.cancel()
            protocol.transport.abortConnection()


class _BothFamilies:
    """
    Waits for both families' answers, but not long for the second.
    """

    def __init__(self, reactor: Any, asking: list[Deferred[list[IPAddress]]]) -> None:
        self._reactor = reactor
        self._timer: IDelayedCall | None = None
        self._asking = asking
        self._answers: list[list[IPAddress]] = [[] for _ in asking]
        self._problems: list[BaseException] = []
        self._pending = len(asking)
        self._isOver = False
        self.outcome: Deferred[Sequence[IPAddress]] = Deferred(lambda _: self._stop())
        for index, family in enumerate(asking):
            family.addCallbacks(self._answered, self._failed, (index,))

    def _answered(self, addresses: list[IPAddress], index: int) -> None:
        self._answers[index] = addresses
        self._pending -= 1
        if self._isOver:
            return
        if not self._pending:
            self._finish()
        elif addresses:
            self._timer = self._reactor.callLater(RESOLUTION_DELAY, self._finish)

    def _failed(self, failure: Failure) -> None:
        self._pending -= 1
        if self._isOver:
            return
        assert failure.value is not None
        self._problems.append(failure.value)
        if not self._pending:
            self._finish()

    def _finish(self) -> None:
        self._stop()
        addresses = _interleave(*self._answers)
        if addresses:
            self.outcome.callback(addresses)
            return
        for problem in self._problems:
            if not isinstance(problem, NameNotFound):
                self.outcome.errback(problem)
                return
        self.outcome.errback(NameNotFound("name has no address"))

    def _stop(self) -> None:
        self._isOver = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for family in self._asking:
            family.cancel()


def _addresses(message: Any, kind: int) -> list[IPAddress]:
    packed = [each.payload.address for each in message.answers if each.type == kind]
    make = IPv6Address if kind == dns.AAAA else IPv4Address
    return [make(each) for each in dict.fromkeys(packed)]


def _byTurns(addresses: Sequence[IPAddress]) -> Sequence[IPAddress]:
    return _interleave(
        [ip for ip in addresses if ip.version == 6],
        [ip for ip in addresses if ip.version == 4],
    )


def _interleave(*families: Sequence[IPAddress]) -> Sequence[IPAddress]:
    """
    One of each by turns (RFC 8305, section 4).
    """
    mixed = chain.from_iterable(zip_longest(*families))
    return [ip for ip in mixed if ip is not None][:_MOST_ADDRESSES]
