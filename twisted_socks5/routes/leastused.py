# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Several ways out, of which the one that the fewest sessions use is tried first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING

from zope.interface import implementer

from twisted_socks5.addresses import Address, IPAddress
from twisted_socks5.interfaces import (
    IDatagramReceiver,
    IDatagrams,
    IListenerRoute,
    IListening,
    IOutbound,
    IRevisable,
    IRoute,
    IWatchedOutbound,
)
from twisted_socks5.outcome import outcomeOf
from twisted_socks5.routes.egress import forListener
from twisted_socks5.routes.failover import FailoverRoute

if TYPE_CHECKING:
    import socket

    from twisted.internet.interfaces import IProtocol, ITransport

    from twisted_socks5.interfaces import Check


class _Load:
    """
    How much a way is used.

    @ivar uses: Attempts, tunnels, ports and associations that live now.
    """

    __slots__ = ("uses",)

    def __init__(self) -> None:
        self.uses = 0


class _Use:
    """
    One use of a way, from the first attempt to the end of what came of it.
    """

    __slots__ = ("_load",)

    def __init__(self, load: _Load) -> None:
        self._load: _Load | None = load
        load.uses += 1

    def end(self) -> None:
        """
        It is over; that may be said several times.
        """
        load, self._load = self._load, None
        if load is not None:
            load.uses -= 1


@implementer(IWatchedOutbound)
class _CountedOutbound:
    """
    A connection by a way whose uses are counted.
    """

    def __init__(self, outbound: IOutbound, use: _Use) -> None:
        self._outbound = outbound
        self._use = use
        self.local = outbound.local
        self.peer = outbound.peer

    def attach(self, protocol: IProtocol) -> ITransport:
        """
        Give the connection to a protocol.
        """
        try:
            return self._outbound.attach(protocol)
        except BaseException:
            self._use.end()
            raise

    def detachSocket(self) -> socket.socket | None:
        """
        Give the bare socket away, where there is one.
        """
        return self._outbound.detachSocket()

    def ended(self) -> None:
        """
        What took the connection over has ended.
        """
        if IWatchedOutbound.providedBy(self._outbound):
            self._outbound.ended()
        self._use.end()

    def abort(self) -> None:
        """
        Close a connection that nobody took over.
        """
        self._use.end()
        self._outbound.abort()


@implementer(IListening)
class _CountedListening:
    """
    A port of a way whose uses are counted.
    """

    def __init__(self, listening: IListening, use: _Use) -> None:
        self._listening = listening
        self._use: _Use | None = use
        self.local = listening.local

    async def accept(self) -> IOutbound:
        """
        Wait for the peer.
        """
        outbound = await outcomeOf(self._listening.accept())
        use, self._use = self._use, None
        assert use is not None
        return _CountedOutbound(outbound, use)

    def close(self) -> None:
        """
        Close the port, if it is still open.
        """
        if self._use is not None:
            self._use.end()
        self._listening.close()


@implementer(IDatagrams, IRevisable)
class _CountedDatagrams:
    """
    A way for datagrams whose uses are counted.
    """

    def __init__(self, datagrams: IDatagrams, use: _Use) -> None:
        self._datagrams = datagrams
        self._use = use

    @property
    def ports(self) -> Collection[int]:
        """
        The UDP ports of this host that it sends from.
        """
        return self._datagrams.ports

    def start(self, receiver: IDatagramReceiver) -> None:
        """
        Say who gets what comes back.
        """
        self._datagrams.start(receiver)

    def sender(self, destination: Address) -> Awaitable[Callable[[bytes], object]]:
        """
        Find the way to a destination.
        """
        return outcomeOf(self._datagrams.sender(destination))

    async def revise(self) -> None:
        """
        The policy may have changed.
        """
        if IRevisable.providedBy(self._datagrams):
            await self._datagrams.revise()

    def close(self) -> None:
        """
        Close what was opened.
        """
        self._use.end()
        self._datagrams.close()


@implementer(IRoute)
class _Way:
    """
    One of several, and how many use it.

    @ivar load: That, also of the same way for one session.
    """

    def __init__(self, route: IRoute, load: _Load) -> None:
        self._route = route
        self.load = load

    @property
    def resolvesNames(self) -> bool:
        """
        Whether names are looked up on this host.
        """
        return self._route.resolvesNames

    def boundTo(self, address: IPAddress) -> _Way:
        """
        The same, going out from an address of this host.
        """
        return _Way(self._route.boundTo(address), _Load())

    def forListener(self, listener: Address) -> _Way:
        """
        The same for one session.
        """
        return _Way(forListener(self._route, listener), self.load)

    async def connect(self, target: Address, check: Check) -> IOutbound:
        """
        Connect to a destination.
        """
        use = _Use(self.load)
        try:
            outbound = await outcomeOf(self._route.connect(target, check))
        except BaseException:
            use.end()
            raise
        return _CountedOutbound(outbound, use)

    async def listen(self, expected: Address, check: Check) -> IListening:
        """
        Listen for one connection.
        """
        use = _Use(self.load)
        try:
            listening = await outcomeOf(self._route.listen(expected, check))
        except BaseException:
            use.end()
            raise
        return _CountedListening(listening, use)

    async def datagrams(self, check: Check) -> IDatagrams:
        """
        Open a way for the datagrams of a client.
        """
        use = _Use(self.load)
        try:
            datagrams = await outcomeOf(self._route.datagrams(check))
        except BaseException:
            use.end()
            raise
        return _CountedDatagrams(datagrams, use)


@implementer(IListenerRoute)
class LeastUsedRoute:
    """
    Tries the way first that the fewest use at the moment, of equals the first, and
    where that fails the next.
    """

    def __init__(self, routes: Sequence[IRoute]) -> None:
        """
        @param routes: The ways; at least one.
        """
        self._ways = [_Way(route, _Load()) for route in routes]

    @property
    def uses(self) -> list[int]:
        """
        How many use each.
        """
        return [way.load.uses for way in self._ways]

    @property
    def resolvesNames(self) -> bool:
        """
        Whether all of them look names up here.
        """
        return self._inTurn().resolvesNames

    def boundTo(self, address: IPAddress) -> IRoute:
        """
        The same, each going out from an address of this host; they are counted
        for themselves.
        """
        return LeastUsedRoute([way.boundTo(address) for way in self._ways])

    def forListener(self, listener: Address) -> IRoute:
        """
        The same for one session, which is counted with all others.
        """
        same = LeastUsedRoute(())
        same._ways = [way.forListener(listener) for way in self._ways]
        return same

    async def connect(self, target: Address, check: Check) -> IOutbound:
        """
        Connect to a destination.

        @raise ReplyError: What the first way has failed with.
        """
        return await self._inTurn().connect(target, check)

    async def listen(self, expected: Address, check: Check) -> IListening:
        """
        Listen for one connection.

        @raise ReplyError: What the first way has failed with.
        """
        return await self._inTurn().listen(expected, check)

    async def datagrams(self, check: Check) -> IDatagrams:
        """
        Open a way for the datagrams of a client.

        @raise ReplyError: What the first way has failed with.
        """
        return await self._inTurn().datagrams(check)

    def _inTurn(self) -> FailoverRoute:
        inTurn: list[_Way] = sorted(self._ways, key=lambda way: way.load.uses)
        return FailoverRoute(inTurn)
