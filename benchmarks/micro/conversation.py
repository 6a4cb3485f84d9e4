# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A conversation in memory, for the micro-benchmarks.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from twisted_socks5 import SOCKS5ServerFactory, wire
from twisted_socks5.addresses import Address, IPAddress
from twisted_socks5.errors import CommandNotSupported
from twisted_socks5.interfaces import (
    IAuthenticator,
    IDatagrams,
    IListening,
    IOutbound,
    IRoute,
)
from twisted_socks5.server.protocol import SOCKS5ServerProtocol

if TYPE_CHECKING:
    from twisted_socks5.interfaces import Check

GREETING = b"\x05\x01\x00"
# Nothing is connected to, but the guard must let it pass.
DESTINATION = IPv4Address("93.184.215.14")
REQUEST = wire.Request(wire.Command.CONNECT, DESTINATION, 443).encode()


@implementer(IOutbound)
class Outbound:
    """
    A destination that takes what it is sent.
    """

    local = Address(IPv4Address("127.0.0.1"), 40000)

    def __init__(self, peer: Address) -> None:
        self.peer: Address | None = peer
        self.transport: Any = StringTransport()

    def attach(self, protocol: IProtocol) -> Any:
        protocol.makeConnection(self.transport)
        return self.transport

    def detachSocket(self) -> None:
        return None

    def abort(self) -> None:
        self.transport.abortConnection()


@implementer(IRoute)
class Route:
    """
    A route to everywhere, at once.
    """

    resolvesNames = False

    def boundTo(self, address: IPAddress) -> IRoute:
        return self

    async def connect(self, target: Address, check: Check) -> IOutbound:
        await check(target)
        return Outbound(target)

    async def listen(self, expected: Address, check: Check) -> IListening:
        raise CommandNotSupported("not here")

    async def datagrams(self, check: Check) -> IDatagrams:
        raise CommandNotSupported("not here")


def factoryOf(authenticator: IAuthenticator) -> SOCKS5ServerFactory:
    """
    A server in memory, whose destinations all accept at once.
    """
    return SOCKS5ServerFactory(Clock(), [authenticator], route=Route())


class Client:
    """
    One that has connected.
    """

    def __init__(self, factory: SOCKS5ServerFactory) -> None:
        self.transport: Any = StringTransport()
        self.protocol: SOCKS5ServerProtocol = factory.buildProtocol(None)  # type: ignore[assignment]
        self.protocol.makeConnection(self.transport)

    def say(self, *messages: bytes) -> bytes:
        """
        Send messages one by one.

        @return: All that the server has answered so far.
        """
        for message in messages:
            self.protocol.dataReceived(message)
        value: bytes = self.transport.value()
        return value
