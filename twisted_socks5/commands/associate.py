# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
UDP ASSOCIATE (RFC 1928, sections 4 and 7): datagrams from and to anywhere, as
long as the client stays connected.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from ipaddress import IPv6Address
from typing import Any

from zope.interface import implementer

from twisted_socks5.addresses import Address, IPAddress, fromSocketName, isThisHost
from twisted_socks5.errors import SUCCEEDED, CommandNotSupported
from twisted_socks5.interfaces import ICommand, ICommandSession, IRequest
from twisted_socks5.outcome import outcomeOf
from twisted_socks5.relay.association import Association
from twisted_socks5.relay.datagramport import openDatagramPort
from twisted_socks5.relay.destinations import Lookups
from twisted_socks5.settings import Timeouts, UDPSettings
from twisted_socks5.wire import Command

_ON_THE_WAY = 5.0
"""
How long a datagram may take from one relay to another, in seconds.
"""


@implementer(ICommand)
class Associate:
    """
    Opens a port for the client's datagrams, tells the client where that is, and
    relays until the client closes its connection.
    """

    code = int(Command.ASSOCIATE)

    def __init__(
        self,
        reactor: Any,
        timeouts: Timeouts | None = None,
        settings: UDPSettings | None = None,
    ) -> None:
        """
        @param timeouts: When an association in which nothing moves is to end.
        @param settings: Which ports there are, and what is told of the address.
        """
        self._reactor = reactor
        self._timeout = (timeouts or Timeouts()).udpIdle
        self._settings = settings or UDPSettings()
        self._associations: set[Association] = set()
        self._lookups = Lookups()
        # Ports of associations that have ended, and until when they count.
        self._formerPorts: dict[int, float] = {}

    async def run(self, session: ICommandSession, request: IRequest) -> None:
        """
        Serve one request.  DST.ADDR and DST.PORT are where the client thinks
        that it will send from; NAT may change that, so they are ignored.

        @raise ReplyError: There is no port for it.
        """
        host = self._relayAddress(session)
        association = Association(
            self._reactor,
            await outcomeOf(session.route.datagrams(session.check)),
            partial(self._isClient, session.client),
            session.end,
            self._timeout,
            session.layer,
            self._settings.fragments == "reassemble",
            self._lookups,
            session.checkName,
            session.meters,
        )
        self._associations.add(association)
        try:
            openDatagramPort(self._reactor, association, host, self._settings.ports)
            session.traffic = association
            session.sendReply(SUCCEEDED, self._reachable(association.local))
            await session.untilClosed()
        finally:
            self._associations.remove(association)
            try:
                self._remember(association.ports)
            finally:  # of a route that may be anybody's
                association.close()

    def _relayAddress(self, session: ICommandSession) -> IPAddress:
        """
        The address of this host to receive a client's datagrams at: the one
        that it has connected to.  On a UNIX socket it can know the public one
        only.
        """
        known = session.listener.ip
        if known is not None:
            return IPv6Address(f"{known}%{session.scope}") if session.scope else known
        public = self._settings.publicAddress.any
        if public is None:
            raise CommandNotSupported("no address that datagrams could be sent to")
        return type(public)(0)

    def _reachable(self, local: Address) -> Address:
        """
        Where the client can send its datagrams to.
        """
        assert local.ip is not None
        return Address(
            self._settings.publicAddress.like(local.ip) or local.ip, local.port
        )

    def _isClient(self, client: Address, source: tuple[str, int]) -> bool:
        """
        Whether a datagram's source may be a client: by its IP address, or, if the
        client came by a UNIX socket, because it is on this host.  A datagram that
        a client had a relay send to a relay seems to come from this host, too.
        """
        ip = fromSocketName(source).ip
        assert ip is not None
        isIts = isThisHost(ip) if client.ip is None else ip == client.ip
        return (
            isIts
            and self._formerPorts.get(source[1], 0.0) <= self._reactor.seconds()
            and not any(source[1] in one.ports for one in self._associations)
        )

    def _remember(self, ports: Collection[int]) -> None:
        """
        What an association has sent may still wait to be received by another.
        """
        now = self._reactor.seconds()
        former = self._formerPorts
        for port in [port for port, until in former.items() if until <= now]:
            del former[port]
        former.update((port, now + _ON_THE_WAY) for port in ports)
