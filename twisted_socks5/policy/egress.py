# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Which address of this host to go out from.
"""

from __future__ import annotations

import secrets
from ipaddress import ip_address
from typing import TypeAlias

import attrs

from twisted_socks5.addresses import Address, IPAddress, IPNetwork, unmapped
from twisted_socks5.policy.destinations import parseNetwork

LISTENER = "listener"


@attrs.frozen
class AsListener:
    """
    From the address that the client has connected to.
    """

    def choose(self, listener: Address) -> IPAddress | None:
        """
        The address for one session; L{None}, where the client has connected to
        none.
        """
        return listener.ip

    def __str__(self) -> str:
        return LISTENER


@attrs.frozen
class FromAddress:
    """
    From one address.
    """

    address: IPAddress

    def choose(self, listener: Address) -> IPAddress:
        """
        The address for one session.
        """
        return self.address

    def __str__(self) -> str:
        return str(self.address)


@attrs.frozen
class FromNetwork:
    """
    From any address of a network, another for each session.
    """

    network: IPNetwork

    def choose(self, listener: Address) -> IPAddress:
        """
        The address for one session.  The first of a network is no host's, nor is
        the last of an IPv4 one (RFC 919; RFC 4291, section 2.6.1).
        """
        network = self.network
        ends = (1, 1) if network.version == 4 else (1, 0)
        first, last = ends if network.max_prefixlen - network.prefixlen > 1 else (0, 0)
        count = network.num_addresses - first - last
        return network[first + secrets.randbelow(count)]

    def __str__(self) -> str:
        return str(self.network)


Egress: TypeAlias = AsListener | FromAddress | FromNetwork


def parseEgress(text: str) -> Egress:
    """
    Read an address, a network, or C{"listener"}.

    @raise ValueError: It is none; the text says what was expected.
    """
    if text == LISTENER:
        return AsListener()
    expected = "an address of this host, a network of its addresses, or 'listener'"
    try:
        network = parseNetwork(text) if "/" in text else None
        ip = unmapped(ip_address(text)) if network is None else network[0]
    except ValueError as error:
        reason = f" ({error})" if "/" in text else ""
        raise ValueError(f"{text}: expected {expected}{reason}") from None
    if ip.is_unspecified or ip.is_multicast:
        raise ValueError(f"{text}: expected {expected}")
    if network is None or network.num_addresses == 1:
        return FromAddress(ip)
    return FromNetwork(network)
