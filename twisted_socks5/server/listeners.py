# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Where the proxy itself listens.
"""

from __future__ import annotations

from twisted_socks5.addresses import (
    Address,
    IPAddress,
    Kind,
    embedded,
    isThisHost,
    kindOf,
    unmapped,
)


class OwnListeners:
    """
    The proxy's own listening addresses, so that nobody gets to the proxy
    through the proxy, by whatever address or name.
    """

    def __init__(self) -> None:
        # By port; None stands for every address of this host.  A host is in a
        # list as often as it was added.
        self._hosts: dict[int, list[IPAddress | None]] = {}
        self._learned: set[int] = set()

    def add(self, address: Address) -> None:
        """
        The proxy listens on an address; an unspecified one is every address
        of this host, and a UNIX socket cannot be got to.
        """
        if address.ip is None:
            return
        if address.port in self._learned:
            self._learned.remove(address.port)
            del self._hosts[address.port]
        self._hosts.setdefault(address.port, []).append(_listened(address.ip))

    def remove(self, address: Address) -> None:
        """
        The proxy listens no more on an address that was L{add}ed.

        @raise ValueError: It was not.
        """
        if address.ip is None:
            return
        hosts = self._hosts.get(address.port, [])
        hosts.remove(_listened(address.ip))
        if not hosts:
            del self._hosts[address.port]

    def learn(self, address: Address) -> None:
        """
        A client has connected to an address.  Where nobody has said how its
        port is listened on, it is taken to be on every address of this host,
        until somebody says; where it was said, but not of this address, then
        on this one too.
        """
        if address.ip is None:
            return
        hosts = self._hosts.get(address.port)
        if hosts is None:
            self._hosts[address.port] = [None]
            self._learned.add(address.port)
        elif None not in hosts and unmapped(address.ip) not in hosts:
            hosts.append(unmapped(address.ip))

    def includes(self, address: Address) -> bool:
        """
        Whether a connection to an IP address would come back to the proxy, by
        this address or by an IPv4 address inside it.  An unspecified one comes
        to this host, whichever of its addresses that is.
        """
        hosts = self._hosts.get(address.port)
        if hosts is None or address.ip is None:
            return False
        return any(
            reading in hosts or kindOf(reading) is Kind.UNSPECIFIED
            for reading in (address.ip, *embedded(address.ip))
        ) or (None in hosts and isThisHost(address.ip))


def _listened(ip: IPAddress) -> IPAddress | None:
    ip = unmapped(ip)
    return None if ip.is_unspecified else ip
