# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The direct way out: look the name up, have each address judged, race those
that are allowed.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from functools import partial
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred
from zope.interface import implementer

from twisted_socks5.addresses import (
    Address,
    IPAddress,
    familyOf,
    localTowards,
    unmapped,
)
from twisted_socks5.device import bindToDevice
from twisted_socks5.errors import (
    AddressTypeNotSupported,
    CommandNotSupported,
    ConnectionNotAllowed,
    NameNotFound,
    TimedOut,
    errorForOSError,
)
from twisted_socks5.interfaces import (
    IDatagrams,
    IInterfaceResolver,
    IListening,
    IOutbound,
    IResolver,
    IRoute,
)
from twisted_socks5.routes.connecttcp import connectTCP
from twisted_socks5.routes.datagrams import DirectDatagrams
from twisted_socks5.routes.dial import canDial, dial
from twisted_socks5.routes.listening import listen
from twisted_socks5.routes.race import race
from twisted_socks5.settings import BindSettings, Timeouts, UDPSettings
from twisted_socks5.timerqueue import TimerQueue

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
        bind: BindSettings | None = None,
        udp: UDPSettings | None = None,
        interface: str = "",
    ) -> None:
        """
        @param bindAddress: The address on this host to go out from.
        @param bind: How to listen.
        @param udp: Who may answer a client's datagrams.
        @param interface: The network interface to keep to (Linux); empty is any.
            By which one names are looked up is for C{resolver} to say.
        @raise ValueError: The reactor cannot do with one.
        """
        self._reactor = reactor
        self._resolver = resolver
        self._timeouts = timeouts or Timeouts()
        self._connecting = TimerQueue(reactor, self._timeouts.connect)
        self._bindAddress = bindAddress
        self._bindSettings = bind or BindSettings()
        self._udpSettings = udp or UDPSettings()
        self._interface = interface
        self._dial: Callable[[Address], Any]
        if canDial(reactor):
            self._dial = partial(
                dial, reactor, bindAddress=bindAddress, interface=interface
            )
        elif interface:
            raise ValueError("the reactor cannot watch sockets of an interface")
        else:
            self._dial = partial(connectTCP, reactor, bindAddress=bindAddress)

    def boundTo(self, address: IPAddress) -> IRoute:
        """
        The same, going out from an address of this host.
        """
        return DirectRoute(
            self._reactor,
            self._resolver,
            self._timeouts,
            address,
            self._bindSettings,
            self._udpSettings,
            self._interface,
        )

    def by(self, interface: str) -> DirectRoute:
        """
        The same, by a network interface; names are looked up by it, too, if the
        resolver can do that.

        @raise ValueError: The reactor cannot do with one.
        """
        resolver = self._resolver
        if IInterfaceResolver.providedBy(resolver):
            resolver = resolver.by(interface)
        return DirectRoute(
            self._reactor,
            resolver,
            self._timeouts,
            self._bindAddress,
            self._bindSettings,
            self._udpSettings,
            interface,
        )

    async def connect(self, target: Address, check: Check) -> IOutbound:
        """
        Connect to a destination.  Its name is looked up once, and only
        addresses that C{check} let pass are dialled.

        @raise ReplyError: What to tell the client.
        """
        candidates = await self._allowed(target, check)
        connecting = race(self._reactor, candidates, self._attempt, _dispose)
        return await self._connecting.limit(connecting)

    def _attempt(self, address: Address) -> Deferred[IOutbound]:
        attempt: Deferred[IOutbound] = maybeDeferred(self._dial, address)
        return attempt

    async def _allowed(self, target: Address, check: Check) -> Sequence[Address]:
        """
        The addresses of a destination that are allowed.

        @raise ReplyError: There are none.
        """
        if not isinstance(target.host, str):
            await check(target, target)
            return [target]
        allowed: list[Address] = []
        denial = None
        for ip in await self._resolve(target.host):
            address = Address(unmapped(ip), target.port)
            try:
                await check(address, target)
            except ConnectionNotAllowed as error:
                denial = error
            else:
                allowed.append(address)
        if not allowed:
            raise denial or NameNotFound("the name has no address")
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
        Listen for one connection, on the address of this host that the peer
        sees.  Where anybody is expected, that is every one.

        @raise ReplyError: What to tell the client.
        """
        if not canDial(self._reactor):
            raise CommandNotSupported("the reactor cannot watch a port of ours")
        peers: set[IPAddress] | None = None
        host = expected.ip
        if host is None or not host.is_unspecified:
            allowed = _ipv4First(await self._allowed(expected, check))
            peers = set(allowed)
            host = allowed[0]
        return listen(
            self._reactor,
            self._localFor(host),
            peers,
            check,
            self._bindSettings,
            self._interface,
        )

    def _localFor(self, peer: IPAddress) -> IPAddress:
        """
        The address of this host that a peer is to connect to.
        """
        bindAddress = self._bindAddress
        if bindAddress is None:
            try:
                if peer.is_unspecified:
                    return peer
                return localTowards(peer, self._interface)
            except OSError as problem:
                raise errorForOSError(problem) from None
        if bindAddress.version != peer.version:
            raise AddressTypeNotSupported("the outbound address is of the other family")
        return bindAddress

    async def datagrams(self, check: Check) -> IDatagrams:
        """
        Open a way for the datagrams of a client.

        @raise ReplyError: This host has not the address, or the interface, that they
            are to go out from.
        """
        if self._bindAddress is not None or self._interface:
            try:
                self._openProbe()
            except OSError as problem:
                raise errorForOSError(problem) from None

        async def addressOf(destination: Address) -> Address:
            allowed = await self._allowed(destination, check)
            return Address(_ipv4First(allowed)[0], destination.port)

        return DirectDatagrams(
            self._reactor,
            addressOf,
            check,
            self._bindAddress,
            self._udpSettings.replies,
            self._interface,
        )

    def _openProbe(self) -> None:
        """
        @raise OSError: No datagram could go out.
        """
        host = self._bindAddress or IPv4Address(0)
        with socket.socket(familyOf(host), socket.SOCK_DGRAM) as probe:
            bindToDevice(probe, self._interface)
            probe.bind((str(host), 0))


def _ipv4First(addresses: Sequence[Address]) -> list[IPAddress]:
    """
    The IP addresses, in the order to take one of them where they cannot be
    tried in turn: IPv4 is there more often, and those who use BIND know it only.
    """
    found = [address.ip for address in addresses if address.ip is not None]
    return sorted(found, key=lambda ip: ip.version)


def _dispose(outbound: IOutbound) -> None:
    outbound.abort()
