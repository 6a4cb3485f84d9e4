# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The direct way out: look the name up, have each address judged, race those
that are allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred
from zope.interface import implementer

from twisted_socks5.addresses import Address, IPAddress
from twisted_socks5.errors import CommandNotSupported, ConnectionNotAllowed, TimedOut
from twisted_socks5.interfaces import IListening, IOutbound, IResolver, IRoute
from twisted_socks5.routes.connecttcp import connectTCP
from twisted_socks5.routes.dial import canDial, dial
from twisted_socks5.routes.race import race
from twisted_socks5.settings import Timeouts

if TYPE_CHECKING:
    from twisted_socks5.interfaces import Check


@implementer(IRoute)
class DirectRoute:
    """
    From this host straight to the destination.
    """

    resolvesNames = True

    def __init__(
        self,
        reactor: Any,
        resolver: IResolver,
        timeouts: Timeouts | None = None,
        bindAddress: IPAddress | None = None,
    ) -> None:
        """
        @param bindAddress: The address on this host to go out from.
        """
        self._reactor = reactor
        self._resolver = resolver
        self._timeouts = timeouts or Timeouts()
        self._bindAddress = bindAddress
        self._dial: Callable[[Address], Any] = partial(
            dial if canDial(reactor) else connectTCP, reactor, bindAddress=bindAddress
        )

    def boundTo(self, address: IPAddress) -> IRoute:
        """
        The same, going out from an address of this host.
        """
        return DirectRoute(self._reactor, self._resolver, self._timeouts, address)

    async def connect(self, target: Address, check: Check) -> IOutbound:
        """
        Connect to a destination.  Its name is looked up once, and only
        addresses that C{check} let pass are dialled.

        @raise ReplyError: What to tell the client.
        """
        if target.ip is not None:
            await check(target)
            candidates: Sequence[Address] = [target]
        else:
            candidates = await self._allowed(target, check)
        connecting = race(self._reactor, candidates, self._attempt, _dispose)
        if not connecting.called:
            connecting.addTimeout(self._timeouts.connect, self._reactor)
        try:
            return await connecting
        except TimeoutError:
            raise TimedOut("connecting timed out") from None

    def _attempt(self, address: Address) -> Deferred[IOutbound]:
        attempt: Deferred[IOutbound] = maybeDeferred(self._dial, address)
        return attempt

    async def _allowed(self, target: Address, check: Check) -> Sequence[Address]:
        """
        The addresses of a name that may be dialled.
        """
        assert isinstance(target.host, str)
        allowed = []
        denial = None
        for ip in await self._resolve(target.host):
            address = Address(ip, target.port)
            try:
                await check(address)
            except ConnectionNotAllowed as error:
                denial = error
            else:
                allowed.append(address)
        if denial is not None and not allowed:
            raise denial
        return allowed

    async def _resolve(self, name: str) -> Sequence[IPAddress]:
        resolve: Callable[[str], Any] = self._resolver.resolve
        resolving: Deferred[Sequence[IPAddress]] = maybeDeferred(resolve, name)
        try:
            return await resolving.addTimeout(self._timeouts.resolve, self._reactor)
        except TimeoutError:
            raise TimedOut("the look-up timed out") from None

    async def listen(self, expected: Address, check: Check) -> IListening:
        """
        Not yet.
        """
        raise CommandNotSupported("BIND")

    async def datagrams(self, check: Check) -> Any:
        """
        Not yet.
        """
        raise CommandNotSupported("UDP ASSOCIATE")


def _dispose(outbound: IOutbound) -> None:
    outbound.abort()
