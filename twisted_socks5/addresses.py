# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Addresses of destinations and clients.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

import attrs

from twisted_socks5.errors import InvalidName

IPAddress: TypeAlias = IPv4Address | IPv6Address


@attrs.frozen
class Address:
    """
    An IP address or a name, and a port.

    A client on a UNIX socket has no IP; its host is the text C{"unix"}, its
    port 0.

    @ivar host: The IP address, or the name in its normal form: lower case, no
        trailing dot.
    @ivar port: 0 to 65535.
    """

    host: IPAddress | str
    port: int

    @classmethod
    def fromName(cls, raw: bytes, port: int) -> Address:
        """
        The address that the bytes of an ATYP 03 mean (RFC 1928, section 5).
        What C{inet_pton} takes for an IP address is that one; any other
        spelling is a name.

        @raise InvalidName: No such name can exist.
        """
        if len(raw) > 254 or not all(0x21 <= octet <= 0x7E for octet in raw):
            raise InvalidName("not a host name")
        name = raw.decode("ascii").lower()
        for family, ip in ((socket.AF_INET, IPv4Address), (socket.AF_INET6, IPv6Address)):
            try:
                return cls(ip(socket.inet_pton(family, name)), port)
            except OSError:
                continue
        name = name.removesuffix(".")
        if len(name) > 253 or not all(1 <= len(label) <= 63 for label in name.split(".")):
            raise InvalidName("not a host name")
        return cls(name, port)

    @property
    def ip(self) -> IPAddress | None:
        """
        The IP address, if it is one.
        """
        return None if isinstance(self.host, str) else self.host

    def __str__(self) -> str:
        if isinstance(self.host, IPv6Address):
            return f"[{self.host}]:{self.port}"
        return f"{self.host}:{self.port}"


UNIX_CLIENT = Address("unix", 0)
