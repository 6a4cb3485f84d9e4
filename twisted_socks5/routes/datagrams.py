# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The direct way out for datagrams: one socket for each address family, whatever
the number of destinations.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from twisted_socks5.addresses import (
    Address,
    IPAddress,
    familyOf,
    fromSocketName,
)
from twisted_socks5.errors import (
    AddressTypeNotSupported,
    ConnectionNotAllowed,
    GeneralFailure,
)
from twisted_socks5.interfaces import Check, IDatagramReceiver, IDatagrams, IRevisable
from twisted_socks5.relay.datagramport import openDatagramPort
from twisted_socks5.settings import Ports
from twisted_socks5.wire import encodeDatagramHeader

MAX_DESTINATIONS = 4096
"""
How many destinations of one association are remembered.
"""

MAX_REASONS = 64
"""
How many ports and names of one host are remembered, to be judged again.
"""


class _Family(DatagramProtocol):
    """
    The socket for destinations of one address family.
    """

    noisy = False
    transport: Any

    def __init__(self, receiver: IDatagramReceiver, answersFrom: str) -> None:
        self._receiver = receiver
        self._fromAnybody = answersFrom == "any"
        # Those that the client has sent to, the newest last: each with what was
        # allowed, by the port and what the client has named.
        self._hosts: dict[str, dict[tuple[int, Address], None]] = {}
        # What to tell the client of a source, as far as it was found out.
        self._headers: dict[tuple[str, int], bytes] = {}
        self._sendto: Callable[[bytes, tuple[str, int]], int]
        self.port: int

    def startProtocol(self) -> None:
        """
        The socket is open.
        """
        self._sendto = self.transport.getHandle().sendto
        self.port = self.transport.local.port

    def sender(self, host: str, port: int, asked: Address) -> Callable[[bytes], object]:
        """
        What sends to an address, which may answer from now on.

        @param asked: What the client has named.
        """
        hosts, address = self._hosts, (host, port)
        reasons = hosts.pop(host, {})
        reasons.pop((port, asked), None)
        reasons[port, asked] = None
        if len(reasons) > MAX_REASONS:
            del reasons[next(iter(reasons))]
        hosts[host] = reasons
        if len(hosts) > MAX_DESTINATIONS:
            del hosts[next(iter(hosts))]
            self._headers.clear()
        sendto = self._sendto
        return lambda payload: sendto(payload, address)

    async def revise(self, check: Check) -> None:
        """
        Only hosts that may still be sent to may answer.
        """
        self._headers.clear()
        for host, reasons in list(self._hosts.items()):
            ip = fromSocketName((host, 0)).host
            for port, asked in list(reasons):
                try:
                    await check(Address(ip, port), asked)
                except ConnectionNotAllowed:
                    reasons.pop((port, asked), None)
            if not reasons and self._hosts.get(host) is reasons:
                del self._hosts[host]
        self._headers.clear()

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """
        Something came back.
        """
        header = self._headers.get(addr)
        if header is None:
            if not (self._fromAnybody or addr[0] in self._hosts):
                self._receiver.dropped("stranger")
                return
            source = fromSocketName(addr)
            assert source.ip is not None
            header = encodeDatagramHeader(source.ip, source.port)
            if len(self._headers) >= MAX_DESTINATIONS:
                self._headers.clear()
            self._headers[addr] = header
        self._receiver.received(header, datagram)


@implementer(IDatagrams, IRevisable)
class DirectDatagrams:
    """
    From this host straight to destinations.
    """

    def __init__(
        self,
        reactor: Any,
        addressOf: Callable[[Address], Awaitable[Address]],
        check: Check,
        bindAddress: IPAddress | None,
        answersFrom: str,
        interface: str = "",
    ) -> None:
        """
        @param addressOf: Finds the IP address to use for a destination, which
            is allowed.
        @param check: Asks again whether an address is.
        @param bindAddress: The address on this host to send from.
        @param answersFrom: C{"address"}: who was sent to may answer; or
            C{"any"}.
        @param interface: The network interface to keep to; empty is any.
        """
        self._reactor = reactor
        self._addressOf = addressOf
        self._check = check
        self._bindAddress = bindAddress
        self._answersFrom = answersFrom
        self._interface = interface
        self._receiver: IDatagramReceiver | None = None
        self._families: dict[int, _Family] = {}

    def start(self, receiver: IDatagramReceiver) -> None:
        """
        Say who gets what comes back.
        """
        self._receiver = receiver

    async def sender(self, destination: Address) -> Callable[[bytes], object]:
        """
        Find the way to a destination.  A name is looked up once, and what comes
        of it is used.

        @raise ReplyError: Nothing can be sent there.
        """
        address = await self._addressOf(destination)
        ip = address.ip
        assert ip is not None
        if address.port == 0:
            raise GeneralFailure("port 0 cannot be sent to")
        # As the kernel spells the address when it tells of an answer.
        host = socket.inet_ntop(familyOf(ip), ip.packed)
        return self._family(ip).sender(host, address.port, destination)

    def _family(self, ip: IPAddress) -> _Family:
        family = self._families.get(ip.version)
        if family is None:
            host = self._bindAddress or type(ip)(0)
            if host.version != ip.version:
                raise AddressTypeNotSupported(
                    "the outbound address is of the other family"
                )
            if self._receiver is None:  # a look-up that was not to be stopped
                raise GeneralFailure("the association is over")
            family = _Family(self._receiver, self._answersFrom)
            openDatagramPort(self._reactor, family, host, Ports(), self._interface)
            self._families[ip.version] = family
        return family

    async def revise(self) -> None:
        """
        The policy may have changed.
        """
        for family in list(self._families.values()):
            await family.revise(self._check)

    @property
    def ports(self) -> Collection[int]:
        """
        The UDP ports of this host that it sends from.
        """
        return [family.port for family in self._families.values()]

    def close(self) -> None:
        """
        Close the sockets.
        """
        self._receiver = None
        for family in self._families.values():
            family.transport.stopListening()
        self._families.clear()
