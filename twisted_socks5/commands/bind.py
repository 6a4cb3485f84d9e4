# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
BIND (RFC 1928, section 4): a connection from a peer, such as the data
connection of an active FTP transfer.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from twisted_socks5.addresses import Address, IPAddress, localTowards
from twisted_socks5.errors import (
    SUCCEEDED,
    CommandNotSupported,
    TimedOut,
    errorForOSError,
)
from twisted_socks5.interfaces import (
    ICommand,
    ICommandSession,
    IListening,
    IOutbound,
    IRequest,
)
from twisted_socks5.outcome import outcomeOf
from twisted_socks5.settings import BindSettings, Timeouts
from twisted_socks5.wire import Command

_EXAMPLES: dict[int, tuple[IPAddress, IPAddress]] = {
    4: (IPv4Address("127.0.0.1"), IPv4Address("192.0.2.1")),
    6: (IPv6Address("::1"), IPv6Address("2001:db8::1")),
}
"""
For each family, an address on this host, and one that is far away.
"""


@implementer(ICommand)
class Bind:
    """
    Listens, tells the client where, waits for the peer that it expects, tells
    it that this has come, and joins the two.
    """

    code = int(Command.BIND)

    def __init__(
        self,
        reactor: IReactorTime,
        timeouts: Timeouts | None = None,
        settings: BindSettings | None = None,
    ) -> None:
        """
        @param timeouts: How long to wait for the peer.
        @param settings: Whether there is a public address.
        """
        self._reactor = reactor
        self._timeout = (timeouts or Timeouts()).bind
        self._publicAddress = (settings or BindSettings()).publicAddress

    async def run(self, session: ICommandSession, request: IRequest) -> None:
        """
        Serve one request.  There are two replies: with the address where the
        peer is to connect, then with the address that it came from.

        @raise ReplyError: There is no port for it, or nobody came.
        """
        if session.listener.ip is None and self._publicAddress.any is None:
            raise CommandNotSupported("no address that a peer could connect to")
        listening = await outcomeOf(
            session.route.listen(request.destination, session.check)
        )
        try:
            session.sendReply(SUCCEEDED, _reachable(listening.local, session))
            outbound = await self._accept(listening)
        finally:
            listening.close()
        await session.approve(outbound)
        session.sendReply(SUCCEEDED, outbound.peer)
        session.relay(outbound)

    async def _accept(self, listening: IListening) -> IOutbound:
        accepting = Deferred.fromCoroutine(outcomeOf(listening.accept()))
        try:
            return await accepting.addTimeout(self._timeout, self._reactor)
        except TimeoutError:
            raise TimedOut("nobody has connected in time") from None


def _reachable(local: Address, session: ICommandSession) -> Address:
    """
    Where the client can have its peer connect to.  If the port is open on every
    address of this host, that is the one which the client has connected to, or
    its like in the other family.
    """
    known = session.listener.ip
    assert local.ip is not None
    if not local.ip.is_unspecified:
        return local
    if known is None:
        raise CommandNotSupported("no public address of that kind")
    if known.version != local.ip.version:
        inside, outside = _EXAMPLES[local.ip.version]
        try:
            known = localTowards(inside if known.is_loopback else outside)
        except OSError as problem:
            raise errorForOSError(problem) from None
    return Address(known, local.port)
