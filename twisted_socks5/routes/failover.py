# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Several ways out, of which the first that works is taken.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from zope.interface import implementer

from twisted_socks5.addresses import Address, IPAddress
from twisted_socks5.errors import (
    AddressTypeNotSupported,
    CommandNotSupported,
    GeneralFailure,
    HostUnreachable,
    NameNotFound,
    NetworkUnreachable,
    ReplyError,
    TTLExpired,
)
from twisted_socks5.interfaces import (
    IDatagrams,
    IListenerRoute,
    IListening,
    IOutbound,
    IRoute,
)
from twisted_socks5.outcome import outcomeOf
from twisted_socks5.routes.egress import forListener

if TYPE_CHECKING:
    from twisted_socks5.interfaces import Check

_Opened = TypeVar("_Opened")

_BROKEN = (
    AddressTypeNotSupported,
    CommandNotSupported,
    GeneralFailure,
    HostUnreachable,
    NetworkUnreachable,
    TTLExpired,
)
"""
What may be the fault of the way.  A destination that refuses was reached, and what
is denied stays denied.
"""


@implementer(IListenerRoute)
class FailoverRoute:
    """
    Tries one way after the other.
    """

    def __init__(self, routes: Sequence[IRoute]) -> None:
        """
        @param routes: The ways, in the order in which to try them; at least one.
        """
        self._routes = routes

    @property
    def resolvesNames(self) -> bool:
        """
        Whether all of them look names up here.
        """
        return all(route.resolvesNames for route in self._routes)

    def boundTo(self, address: IPAddress) -> IRoute:
        """
        The same, each going out from an address of this host.
        """
        return FailoverRoute([route.boundTo(address) for route in self._routes])

    def forListener(self, listener: Address) -> IRoute:
        """
        The same for one session, which some of them may go by.
        """
        return FailoverRoute([forListener(route, listener) for route in self._routes])

    async def connect(self, target: Address, check: Check) -> IOutbound:
        """
        Connect to a destination.

        @raise ReplyError: What the first way has failed with.
        """
        return await self._first(lambda route: route.connect(target, check))

    async def listen(self, expected: Address, check: Check) -> IListening:
        """
        Listen for one connection.

        @raise ReplyError: What the first way has failed with.
        """
        return await self._first(lambda route: route.listen(expected, check))

    async def datagrams(self, check: Check) -> IDatagrams:
        """
        Open a way for the datagrams of a client.

        @raise ReplyError: What the first way has failed with.
        """
        return await self._first(lambda route: route.datagrams(check))

    async def _first(self, attempt: Callable[[IRoute], Awaitable[_Opened]]) -> _Opened:
        problem: ReplyError | None = None
        for route in self._routes:
            try:
                return await outcomeOf(attempt(route))
            except NameNotFound:
                raise
            except _BROKEN as error:
                problem = problem or error
        assert problem is not None
        raise problem
