# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What an authenticator sees of a connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from twisted_socks5.addresses import Address
from twisted_socks5.interfaces import IExchange

if TYPE_CHECKING:
    from OpenSSL.crypto import X509

    from twisted_socks5.server.protocol import SOCKS5ServerProtocol

_Message = TypeVar("_Message")


@implementer(IExchange)
class Exchange:
    """
    An authenticator's conversation with one client.
    """

    __slots__ = ("_protocol",)

    def __init__(self, protocol: SOCKS5ServerProtocol) -> None:
        self._protocol = protocol

    @property
    def peer(self) -> Address:
        """
        Where the client is.
        """
        return self._protocol.session.client

    @property
    def listener(self) -> Address:
        """
        The address that the client connected to.
        """
        return self._protocol.session.listener

    @property
    def certificate(self) -> X509 | None:
        """
        The client's verified TLS certificate, if it showed one.  Where
        something is around TLS, such as a PROXY header, the certificate is not
        the client's but the balancer's, and is none.
        """
        transport = self._protocol.transport
        if not isinstance(transport, TLSMemoryBIOProtocol):
            return None
        found: X509 | None = transport.getPeerCertificate()
        return found

    async def readExactly(self, count: int) -> bytes:
        """
        Read so many bytes.
        """
        return await self._protocol.stream.readExactly(count)

    async def readMessage(
        self, parse: Callable[[bytearray], tuple[_Message, int] | None]
    ) -> _Message:
        """
        Read a message whose length its own bytes tell.
        """
        return await self._protocol.stream.readMessage(parse)

    async def claim(self, name: bytes) -> None:
        """
        Tell whom the client claims to be, before that is checked.
        """
        await self._protocol.claim(name)

    def write(self, data: bytes) -> None:
        """
        Send bytes to the client.
        """
        self._protocol.send(data)
