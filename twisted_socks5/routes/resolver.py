# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Looking names up without a thread: in the hosts file, then with the name
servers of resolv.conf, for any number of names at once.

The reactor's resolver runs C{getaddrinfo} in ten threads that all share: ten
names whose servers do not answer would hold up everybody's.  Nothing is
remembered here either: whoever judges addresses judges fresh ones.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from copy import copy
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import zip_longest
from typing import Any, TypeAlias

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_socks5.addresses import IPAddress
from twisted_socks5.errors import GeneralFailure, NameNotFound
from twisted_socks5.interfaces import IInterfaceResolver
from twisted_socks5.routes.namefiles import (
    NameServer,
    ResolvConf,
    WatchedFile,
    parseHosts,
    parseResolvConf,
)
from twisted_socks5.routes.nameservers import AAAA, A, askFor

RESOLUTION_DELAY = 0.05
"""
How long the addresses of one family wait for those of the other, in seconds
(RFC 8305, section 3).
"""

MAX_ADDRESSES = 32
"""
How many addresses of a name are of use.
"""

_Addresses: TypeAlias = Sequence[IPAddress]

# RFC 6761, section 6.3
_LOOPBACK: _Addresses = (IPv6Address("::1"), IPv4Address("127.0.0.1"))

# Top-level domains that are not in the DNS, so that asking for a name in them
# would only tell others of it: RFC 6761, section 6.4; RFC 7686, section 2.
_NEVER_ASKED = frozenset(["invalid", "onion"])


@implementer(IInterfaceResolver)
class NameResolver:
    """
    Looks names up as the C library does with C{hosts: files dns}, both
    families at once.  Those who ask for the same name at the same time share
    the answer.
    """

    def __init__(
        self,
        reactor: Any,
        resolvConf: str = "/etc/resolv.conf",
        hosts: str = "/etc/hosts",
        servers: Iterable[tuple[str, int]] | None = None,
        interface: str = "",
    ) -> None:
        """
        @param reactor: Provides C{IReactorFDSet}, C{IReactorTCP} and
            C{IReactorTime}.
        @param resolvConf: The path of a resolv.conf(5) file.
        @param hosts: The path of a hosts(5) file.
        @param servers: The IP address and port of each name server to ask
            instead of those in C{resolvConf}.
        @param interface: The network interface to ask by (Linux); empty is any.
            Name servers of this host are asked as ever: they are not to be reached
            by one, and by which they ask further is for them to say.
        """
        self._reactor = reactor
        self._interface = interface
        self._resolvConf = WatchedFile(resolvConf, parseResolvConf)
        self._hosts = WatchedFile(hosts, parseHosts)
        self._servers = (
            None
            if servers is None
            else [NameServer(ip_address(host), port) for host, port in servers]
        )
        self._running: dict[str, _SharedLookup] = {}

    def by(self, interface: str) -> NameResolver:
        """
        The same, by a network interface.
        """
        same = copy(self)
        same._interface = interface
        same._running = {}
        return same

    def resolve(self, name: str) -> Deferred[_Addresses]:
        """
        All addresses of a name, IPv6 and IPv4 in turn (RFC 8305, section 4).
        Cancelling leaves nothing behind.

        @raise NameNotFound: There are none.
        @raise TimedOut: No name server answered in time.
        @raise GeneralFailure: No name server could tell, or this host could
            not ask.
        """
        return Deferred.fromCoroutine(self._resolve(name))

    async def _resolve(self, name: str) -> _Addresses:
        try:
            known = self._knownHere(name)
            configuration = self._resolvConf.content()
        except OSError as problem:
            raise GeneralFailure(problem.strerror or str(problem)) from None
        if known is not None:
            return known
        if self._servers is not None:
            configuration = attrs.evolve(configuration, servers=self._servers)
        lookup = self._running.get(name)
        if lookup is not None:
            return await lookup.join()
        lookup = _SharedLookup(partial(self._running.pop, name))
        self._running[name] = lookup
        waiting = lookup.join()
        lookup.start(self._search(name, configuration))
        return await waiting

    def _knownHere(self, name: str) -> _Addresses | None:
        """
        What is known of a name without asking.

        @return: L{None}, if nothing is.
        """
        listed = self._hosts.content().get(name)
        if listed:
            return _interleaved(
                [ip for ip in listed if ip.version == 6],
                [ip for ip in listed if ip.version == 4],
            )
        topLevel = name.rpartition(".")[2]
        if topLevel == "localhost":
            return _LOOPBACK
        if topLevel in _NEVER_ASKED:
            raise NameNotFound(f"there are no names in {topLevel}")
        return None

    async def _search(self, name: str, configuration: ResolvConf) -> _Addresses:
        """
        Ask for each name that C{name} may stand for until one has addresses.
        A time-out ends it: the next name would wait just as long.
        """
        errors: list[BaseException] = []
        for candidate in configuration.candidates(name):
            try:
                return await self._bothFamilies(candidate, configuration)
            except (NameNotFound, GeneralFailure) as error:
                errors.append(error)
        raise _mostTelling(errors)

    async def _bothFamilies(self, name: str, configuration: ResolvConf) -> _Addresses:
        asked = [
            Deferred.fromCoroutine(
                askFor(recordType, name, self._reactor, configuration, self._interface)
            )
            for recordType in (AAAA, A)
        ]
        patience: IDelayedCall | None = None

        def answered(addresses: list[IPAddress]) -> list[IPAddress]:
            nonlocal patience
            if addresses and patience is None:
                patience = self._reactor.callLater(RESOLUTION_DELAY, giveUp)
            return addresses

        def giveUp() -> None:
            for family in asked:
                family.cancel()

        # Also fires when it is cancelled itself, and so cancels both.
        outcomes: list[tuple[bool, Any]] = await DeferredList(
            [family.addCallback(answered) for family in asked], consumeErrors=True
        )
        if patience is not None and patience.active():
            patience.cancel()
        ipv6, ipv4 = (result if good else [] for good, result in outcomes)
        if ipv6 or ipv4:
            return _interleaved(ipv6, ipv4)
        errors = [failure.value for good, failure in outcomes if not good]
        raise _mostTelling(errors or [NameNotFound("the name has no address")])


class _SharedLookup:
    """
    A look-up and all who wait for it.  It ends when nobody does any more.
    """

    def __init__(self, forget: Callable[[], object]) -> None:
        """
        @param forget: Is called when nobody can join any more.
        """
        self._forget = forget
        self._waiting: list[Deferred[_Addresses]] = []
        self._work: Deferred[None] | None = None

    def join(self) -> Deferred[_Addresses]:
        """
        Wait for the result, until that is cancelled.
        """
        waiting: Deferred[_Addresses] = Deferred(self._leave)
        self._waiting.append(waiting)
        return waiting

    def start(self, work: Coroutine[Deferred[Any], Any, _Addresses]) -> None:
        """
        Do the work that all wait for; at least one has joined.
        """
        self._work = Deferred.fromCoroutine(work).addBoth(self._finished)

    def _leave(self, leaving: Deferred[_Addresses]) -> None:
        if leaving in self._waiting:
            self._waiting.remove(leaving)
            if not self._waiting and self._work is not None:
                self._forget()
                self._work.cancel()

    def _finished(self, result: _Addresses | Failure) -> None:
        if not self._waiting:  # all have left
            return
        self._forget()
        everybody, self._waiting = self._waiting, []
        for waiting in everybody:
            if not waiting.called:  # what one does may cancel another
                waiting.callback(result)


def _interleaved(ipv6: _Addresses, ipv4: _Addresses) -> _Addresses:
    """
    IPv6 and IPv4 addresses in turn, each once.
    """
    pairs = zip_longest(ipv6, ipv4)
    inTurn = dict.fromkeys(ip for pair in pairs for ip in pair if ip is not None)
    return tuple(inTurn)[:MAX_ADDRESSES]


def _mostTelling(errors: Sequence[BaseException]) -> BaseException:
    """
    The first that is not about a name that was not found: where one question
    had no answer, "not found" is not certain.
    """
    return next((e for e in errors if not isinstance(e, NameNotFound)), errors[0])
