# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Endpoints of one configuration that are in each other's way.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address

import attrs

from twisted_socks5.addresses import Address, IPAddress, unmapped
from twisted_socks5.service.configuration import Said
from twisted_socks5.service.plugins import parsePlugin

ANYWHERE = "0.0.0.0"  # noqa: S104
"""
Where a TCP endpoint listens that says nothing of it.
"""

_POSITIONS = {
    "tcp": ("port", "interface"),
    "tcp6": ("port", "backlog", "interface"),
    "ssl": ("port", "privateKey", "certKey", "sslmethod", "interface"),
    "mtls": ("port",),
    "unix": ("address",),
}
"""
What the arguments without a name are of the endpoints that we know.
"""


@attrs.frozen
class Place:
    """
    Where an endpoint listens.

    @ivar where: The address; or the path, or whatever an interface is called.
    @ivar port: L{None} where there are none.
    """

    where: IPAddress | str
    port: int | None = None

    @classmethod
    def of(cls, endpoint: Said) -> Place | None:
        """
        That of an endpoint; L{None} is one that nobody knows beforehand.
        """
        try:
            kind, positional, keyword = parsePlugin(endpoint.resolved)
        except ValueError:
            return None  # listening will tell
        while kind == "haproxy" and positional:
            kind, *positional = positional
        if kind == "systemd":
            return cls(f"{kind} {positional[:1]} {sorted(keyword.items())}")
        names = _POSITIONS.get(kind, ())
        given = dict(zip(names, positional, strict=False)) | keyword
        if kind == "unix":
            return cls(given.get("address", ""))
        port = given.get("port", "")
        if not names or not port.isascii() or not port.isdecimal() or not int(port):
            return None  # or the system chooses one
        text = given.get("interface") or ("::" if kind == "tcp6" else ANYWHERE)
        try:
            return cls(unmapped(ip_address(text)), int(port))
        except ValueError:
            return cls(text, int(port))

    def has(self, address: Address) -> bool:
        """
        Whether somebody who connects to an address comes there.
        """
        ip = address.ip
        return self.port == address.port and (
            self.where == ip or (ip is not None and self._has(Place(ip)))
        )

    def isInTheWayOf(self, other: Place) -> bool:
        """
        Whether not both can be listened at.
        """
        return self.port == other.port and (
            self.where == other.where or self._has(other) or other._has(self)
        )

    def _has(self, other: Place) -> bool:
        """
        Whether it is on all addresses, and so on another's too.
        """
        mine, theirs = self.where, other.where
        if isinstance(mine, str) or isinstance(theirs, str) or not mine.is_unspecified:
            return False
        return mine.version == theirs.version or (
            isinstance(mine, IPv6Address) and _takesIPv4()
        )


def _takesIPv4() -> bool:
    """
    Whether here a socket on all addresses of IPv6 is on those of IPv4, too.
    """
    try:
        with socket.socket(socket.AF_INET6) as some:
            return not some.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    except OSError:  # there is no IPv6 here
        return False


def refuseOverlap(endpoints: Iterable[Said]) -> None:
    """
    Find an endpoint that an earlier one is in the way of.

    @raise ValueError: There is one; the text says which they are.
    """
    taken: list[tuple[Place, Said]] = []
    for endpoint in endpoints:
        place = Place.of(endpoint)
        if place is None:
            continue
        for earlier, by in taken:
            if place.isInTheWayOf(earlier):
                what = "" if by.isSecret else f" {by.text}"
                raise endpoint.fail(
                    f"{by.where}{what} listens there already; expected another place",
                    endpoint.text,
                )
        taken.append((place, endpoint))
