# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
UDP ASSOCIATE (RFC 1928, sections 4 and 7): datagrams from and to anywhere, as
long as the client stays connected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from zope.interface import implementer

from twisted_socks5.addresses import Address, IPAddress, fromSocketName, isThisHost
from twisted_socks5.errors import SUCCEEDED, CommandNotSupported, ConnectionNotAllowed
from twisted_socks5.interfaces import ICommand, ICommandSession, IRequest
from twisted_socks5.outcome import outcomeOf
from twisted_socks5.ownlisteners import OwnListeners
from twisted_socks5.relay.association import Association
from twisted_socks5.relay.datagramport import openDatagramPort
from twisted_socks5.settings import Timeouts, UDPSettings
from twisted_socks5.wire import Command


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
        self._relays = OwnListeners()

    async def run(self, session: ICommandSession, request: IRequest) -> None:
        """
        Serve one request.  DST.ADDR and DST.PORT are where the client thinks
        that it will send from; NAT may change that, so they are ignored.

        @raise ReplyError: There is no port for it.
        """
        host = self._relayAddress(session.listener)

        async def check(address: Address) -> None:
            if self._relays.includes(address):
                raise ConnectionNotAllowed("the proxy's own relay")
            await session.check(address)

        datagrams = await outcomeOf(session.route.datagrams(check))
        association = Association(
            self._reactor,
            datagrams,
            _isClient(session.client),
            partial(session.end, "idle"),
            self._timeout,
            session.layer,
            self._settings.fragments == "reassemble",
        )
        try:
            openDatagramPort(self._reactor, association, host, self._settings.ports)
            with self._ownRelay(association.local) as relay:
                session.traffic = association
                session.sendReply(SUCCEEDED, self._reachable(relay))
                await session.untilClosed()
        finally:
            association.close()

    @contextmanager
    def _ownRelay(self, relay: Address) -> Iterator[Address]:
        """
        Let no datagram get to a relay through a relay: it would seem to come from
        a client on this host.
        """
        self._relays.add(relay)
        try:
            yield relay
        finally:
            self._relays.remove(relay)

    def _relayAddress(self, listener: Address) -> IPAddress:
        """
        The address of this host to receive a client's datagrams at: the one
        that it has connected to.  On a UNIX socket it can know the public one
        only.
        """
        if listener.ip is not None:
            return listener.ip
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


def _isClient(client: Address) -> Callable[[str], bool]:
    """
    Whether a datagram's source may be a client, as far as its IP address tells.
    A client that came by a UNIX socket is on this host.
    """

    def isClient(host: str) -> bool:
        ip = fromSocketName((host, 0)).ip
        assert ip is not None
        return isThisHost(ip) if client.ip is None else ip == client.ip

    return isClient
