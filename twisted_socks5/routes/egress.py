# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A way out whose address is chosen for each session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zope.interface import implementer

from twisted_socks5.addresses import UNIX_CLIENT, Address, IPAddress
from twisted_socks5.interfaces import (
    IDatagrams,
    IListenerRoute,
    IListening,
    IOutbound,
    IRoute,
)
from twisted_socks5.outcome import outcomeOf

if TYPE_CHECKING:
    from twisted_socks5.interfaces import Check


@implementer(IListenerRoute)
class EgressRoute:
    """
    Another route, going out from an address of this host that is chosen anew
    whenever it is gone out by.
    """

    def __init__(
        self, route: IRoute, choose: Callable[[Address], IPAddress | None]
    ) -> None:
        """
        @param route: The way out.
        @param choose: Is given the address of ours that a client has connected to,
            and chooses one; L{None} leaves it to the route.
        """
        self._route = route
        self._choose = choose

    @property
    def resolvesNames(self) -> bool:
        """
        Whether names are looked up on this host.
        """
        return self._route.resolvesNames

    def boundTo(self, address: IPAddress) -> IRoute:
        """
        The other route, going out from this address.
        """
        return self._route.boundTo(address)

    def forListener(self, listener: Address) -> IRoute:
        """
        The other route, going out from the address for one session.
        """
        address = self._choose(listener)
        return self._route if address is None else self._route.boundTo(address)

    async def connect(self, target: Address, check: Check) -> IOutbound:
        """
        Connect to a destination.
        """
        route = self.forListener(UNIX_CLIENT)
        return await outcomeOf(route.connect(target, check))

    async def listen(self, expected: Address, check: Check) -> IListening:
        """
        Listen for one connection.
        """
        route = self.forListener(UNIX_CLIENT)
        return await outcomeOf(route.listen(expected, check))

    async def datagrams(self, check: Check) -> IDatagrams:
        """
        Open a way for the datagrams of a client.
        """
        return await outcomeOf(self.forListener(UNIX_CLIENT).datagrams(check))


def forListener(route: IRoute, listener: Address) -> IRoute:
    """
    A route for one session, whether it goes by that or not.
    """
    if IListenerRoute.providedBy(route):
        one: IRoute = route.forListener(listener)
        return one
    return route
