# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Where the proxy itself listens.
"""

from __future__ import annotations

from twisted_socks5.addresses import Address, IPAddress, isThisHost, reached


class OwnListeners:
    """
    The proxy's own listening addresses, so that nobody gets to the proxy
    through the proxy, by whatever address or name.
    """

    def __init__(self) -> None:
        # By port; None stands for every address of this host.
        self._hosts: dict[int, set[IPAddress | None]] = {}

    def add(self, address: Address) -> None:
        """
        The proxy listens on an address; an unspecified one is every address
        of this host, and a UNIX socket cannot be got to.
        """
        if address.ip is not None:
            host = None if address.ip.is_unspecified else reached(address.ip)
            self._hosts.setdefault(address.port, set()).add(host)

    def learn(self, address: Address) -> None:
        """
        A client has connected to an address.  Where nobody has said how its
        port is listened on, it is taken to be on every address of this host.
        """
        if address.ip is not None and address.port not in self._hosts:
            self._hosts[address.port] = {None}

    def includes(self, address: Address) -> bool:
        """
        Whether a connection to an IP address would come back to the proxy.
        """
        hosts = self._hosts.get(address.port)
        if hosts is None or address.ip is None:
            return False
        ip = reached(address.ip)
        return ip in hosts or ip.is_unspecified or (None in hosts and isThisHost(ip))
