# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What a client asks a proxy for, and how a proxy is called in words.
"""

from __future__ import annotations

from typing import TypeAlias

import attrs
from twisted.internet.address import HostnameAddress, UNIXAddress
from twisted.internet.address import IPv4Address as TCP4Address
from twisted.internet.address import IPv6Address as TCP6Address
from twisted.internet.interfaces import IAddress

from twisted_socks5 import wire
from twisted_socks5.addresses import Address
from twisted_socks5.errors import InvalidName

TwistedAddress: TypeAlias = TCP4Address | TCP6Address | HostnameAddress


@attrs.frozen
class Target:
    """
    DST.ADDR and DST.PORT (RFC 1928, section 4), as the user has said them.

    @ivar host: An IP address or a name: the proxy's to look up, never ours.
    @ivar port: 0 to 65535.
    @ivar words: What to call it, if not by those two.
    """

    host: str | bytes
    port: int
    words: str = ""

    def __str__(self) -> str:
        if self.words:
            return self.words
        host = self.host
        if isinstance(host, bytes):
            text = host.decode("ascii", "backslashreplace")
        else:
            text = host
        if ":" in text:
            text = f"[{text}]"
        return f"{text}:{self.port}"

    def request(self, command: int) -> wire.Request:
        """
        The request for it.

        @param command: The CMD octet.
        @raise InvalidName: No such name can exist.
        @raise ValueError: No such port can.
        """
        if not 0 <= self.port <= 0xFFFF:
            raise ValueError(f"port {self.port}: 0 to 65535")
        raw = self._raw()
        ip = Address.fromName(raw, self.port).ip
        return wire.Request(command, raw if ip is None else ip, self.port)

    def _raw(self) -> bytes:
        if isinstance(self.host, bytes):
            return self.host
        try:
            return self.host.encode("ascii")
        except UnicodeEncodeError:
            raise InvalidName("give names in their ASCII form (xn--...)") from None


def asTwisted(host: wire.Host, port: int) -> TwistedAddress:
    """
    An address on the wire as one of Twisted's.
    """
    if isinstance(host, bytes):
        return HostnameAddress(host, port)
    if host.version == 4:
        return TCP4Address("TCP", str(host), port)
    return TCP6Address("TCP", str(host), port)


def inWords(address: IAddress) -> str:
    """
    An address of Twisted's for people to read.
    """
    if isinstance(address, TCP4Address):
        return f"{address.host}:{address.port}"
    if isinstance(address, TCP6Address):
        return f"[{address.host}]:{address.port}"
    if isinstance(address, HostnameAddress):
        return f"{address.hostname.decode('ascii', 'backslashreplace')}:{address.port}"
    if isinstance(address, UNIXAddress):
        name = address.name
        if isinstance(name, bytes):
            return f"unix:{name.decode('utf-8', 'backslashreplace')!r}"
        return f"unix:{name!r}"
    return repr(address)
