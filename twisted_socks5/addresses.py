# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Addresses of destinations and clients, and what an address is.
"""

from __future__ import annotations

import errno
import socket
from enum import Enum
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Any, TypeAlias

import attrs
from twisted.internet.address import IPv4Address as TCP4Address
from twisted.internet.address import IPv6Address as TCP6Address
from twisted.internet.interfaces import IAddress

from twisted_socks5.device import bindToDevice
from twisted_socks5.errors import InvalidName

IPAddress: TypeAlias = IPv4Address | IPv6Address
IPNetwork: TypeAlias = IPv4Network | IPv6Network


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
    def fromWire(cls, host: IPAddress | bytes, port: int) -> Address:
        """
        The address that ATYP, DST.ADDR and DST.PORT mean (RFC 1928, section 5).
        An IPv4-mapped IPv6 address is the IPv4 address, which is where packets to
        it go: nobody gets round a rule by spelling an address differently.

        @raise InvalidName: No such name can exist.
        """
        if isinstance(host, bytes):
            return cls.fromName(host, port)
        return cls(unmapped(host), port)

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
        # The dot goes first: what it leaves may be an IP address, to be judged.
        name = raw.decode("ascii").lower().removesuffix(".")
        for family, ip in (
            (socket.AF_INET, IPv4Address),
            (socket.AF_INET6, IPv6Address),
        ):
            try:
                return cls(unmapped(ip(socket.inet_pton(family, name))), port)
            except OSError:
                continue
        if len(name) > 253 or not all(
            1 <= len(label) <= 63 for label in name.split(".")
        ):
            raise InvalidName("not a host name")
        return cls(name, port)

    @property
    def ip(self) -> IPAddress | None:
        """
        The IP address, if it is one.
        """
        return None if isinstance(self.host, str) else self.host

    def __str__(self) -> str:
        host = self.host
        if isinstance(host, IPv4Address):  # as str() of it, but in the half of the time
            return f"{socket.inet_ntoa(host.packed)}:{self.port}"
        if isinstance(host, IPv6Address):
            return f"[{host}]:{self.port}"
        return f"{host}:{self.port}"


UNIX_CLIENT = Address("unix", 0)


def fromSocketName(name: tuple[Any, ...]) -> Address:
    """
    What C{getsockname} and C{getpeername} tell of an Internet socket, without
    the scope of a link-local address, which is this host's affair.  IPv4 on a
    socket for both families is IPv4.
    """
    return Address(_ipOf(name[0]), name[1])


@lru_cache(maxsize=4096)
def _ipOf(text: str) -> IPAddress:
    """
    Remembered, since parsing takes a while, and the same ones come again and
    again.
    """
    return unmapped(ip_address(text.partition("%")[0]))


def addressOf(address: IAddress) -> Address:
    """
    An address of Twisted's as one of ours; any that is not of the Internet is
    a UNIX socket's.
    """
    if isinstance(address, TCP4Address | TCP6Address):
        return fromSocketName((address.host, address.port))
    return UNIX_CLIENT


def familyOf(ip: IPAddress) -> socket.AddressFamily:
    """
    The family of sockets that an IP address is for.
    """
    return socket.AF_INET6 if ip.version == 6 else socket.AF_INET


def localTowards(ip: IPAddress, interface: str = "") -> IPAddress:
    """
    The address of this host that packets to an address come from, by the
    kernel's routes.  Nothing is sent.

    @param interface: The network interface that they go out by; empty is any.
    @raise OSError: There is no way there.
    """
    with socket.socket(familyOf(ip), socket.SOCK_DGRAM) as probe:
        bindToDevice(probe, interface)
        probe.connect((str(ip), 9))
        local = fromSocketName(probe.getsockname()).ip
    assert local is not None
    return local


class Kind(Enum):
    """
    What an address is, by the names that operators use; the strictest first.
    """

    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"
    METADATA = "metadata"
    UNSPECIFIED = "unspecified"
    MULTICAST = "multicast"
    RESERVED = "reserved"
    PRIVATE = "private"
    GLOBAL = "global"


# From the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890), the
# IPv4 and IPv6 Multicast Address Space Registries and the IPv6 Global Unicast
# Address Assignments; the metadata addresses from the clouds' own manuals.
# The first range that an address is in tells its kind.
_IPV4_KINDS: tuple[tuple[str, Kind], ...] = (
    ("169.254.169.254/32", Kind.METADATA),  # AWS, Azure, Google and others
    ("169.254.170.2/32", Kind.METADATA),  # AWS, containers
    ("169.254.170.23/32", Kind.METADATA),  # AWS, pods
    ("169.254.42.42/32", Kind.METADATA),  # Scaleway
    ("168.63.129.16/32", Kind.METADATA),  # Azure
    ("100.100.100.200/32", Kind.METADATA),  # Alibaba
    ("192.0.0.192/32", Kind.METADATA),  # Oracle
    ("0.0.0.0/8", Kind.UNSPECIFIED),  # "this network", RFC 791
    ("127.0.0.0/8", Kind.LOOPBACK),  # RFC 1122
    ("169.254.0.0/16", Kind.LINK_LOCAL),  # RFC 3927
    ("10.0.0.0/8", Kind.PRIVATE),  # RFC 1918
    ("172.16.0.0/12", Kind.PRIVATE),  # RFC 1918
    ("192.168.0.0/16", Kind.PRIVATE),  # RFC 1918
    ("100.64.0.0/10", Kind.PRIVATE),  # shared address space, RFC 6598
    # Whole, although 192.0.0.9 (RFC 7723) and 192.0.0.10 (RFC 8155) may be
    # forwarded: what answers there is the nearest router.
    ("192.0.0.0/24", Kind.RESERVED),  # IETF protocol assignments, RFC 6890
    ("192.0.2.0/24", Kind.RESERVED),  # documentation, RFC 5737
    ("198.51.100.0/24", Kind.RESERVED),  # documentation, RFC 5737
    ("203.0.113.0/24", Kind.RESERVED),  # documentation, RFC 5737
    ("192.88.99.0/24", Kind.RESERVED),  # 6to4 relays, RFC 7526
    ("198.18.0.0/15", Kind.RESERVED),  # benchmarking, RFC 2544
    ("224.0.0.0/4", Kind.MULTICAST),  # RFC 5771
    ("240.0.0.0/4", Kind.RESERVED),  # RFC 1112; with the limited broadcast
    ("0.0.0.0/0", Kind.GLOBAL),
)
# Where a prefix only says that an IPv4 address follows, it forbids nothing
# itself: it is global here, and L{embedded} has the rest.
_IPV6_KINDS: tuple[tuple[str, Kind], ...] = (
    ("fd00:ec2::/32", Kind.METADATA),  # AWS
    ("fd20:ce::254/128", Kind.METADATA),  # Google
    ("fd00:c1::a9fe:a9fe/128", Kind.METADATA),  # Oracle
    ("fd00:42::42/128", Kind.METADATA),  # Scaleway
    ("fd00:a9fe:a9fe::1/128", Kind.METADATA),  # Akamai
    ("fd00:100::100:200/128", Kind.METADATA),  # Alibaba
    ("fe80::a9fe:a9fe/128", Kind.METADATA),  # OpenStack
    ("::/128", Kind.UNSPECIFIED),  # RFC 4291
    ("::1/128", Kind.LOOPBACK),  # RFC 4291
    ("::/96", Kind.GLOBAL),  # IPv4-compatible, RFC 4291
    ("::ffff:0:0/96", Kind.GLOBAL),  # IPv4-mapped, RFC 4291
    ("::ffff:0:0:0/96", Kind.GLOBAL),  # IPv4-translated, RFC 2765
    ("64:ff9b::/96", Kind.GLOBAL),  # NAT64, RFC 6052
    ("64:ff9b:1::/48", Kind.PRIVATE),  # NAT64 for local use, RFC 8215
    ("fe80::/10", Kind.LINK_LOCAL),  # RFC 4291
    ("fc00::/7", Kind.PRIVATE),  # unique local, RFC 4193
    ("fec0::/10", Kind.PRIVATE),  # site-local, deprecated by RFC 3879
    ("ff00::/8", Kind.MULTICAST),  # RFC 4291
    ("2001::/32", Kind.GLOBAL),  # Teredo, RFC 4380
    ("2001:3::/32", Kind.GLOBAL),  # AMT, RFC 7450
    ("2001:4:112::/48", Kind.GLOBAL),  # AS112, RFC 7535
    ("2001:20::/28", Kind.GLOBAL),  # ORCHIDv2, RFC 7343
    ("2001:30::/28", Kind.GLOBAL),  # drone remote identification, RFC 9374
    # With the anycast addresses 2001:1::1 to ::3, as 192.0.0.9 above.
    ("2001::/23", Kind.RESERVED),  # IETF protocol assignments, RFC 2928
    ("2001:db8::/32", Kind.RESERVED),  # documentation, RFC 3849
    ("3fff::/20", Kind.RESERVED),  # documentation, RFC 9637
    ("2000::/3", Kind.GLOBAL),  # RFC 4291; with 6to4, RFC 3056
    # Not assigned, with discard-only (RFC 6666), its neighbour (RFC 9780) and
    # SRv6 SIDs (RFC 9602).
    ("::/0", Kind.RESERVED),
)


def _compile(
    table: tuple[tuple[str, Kind], ...],
) -> tuple[tuple[int, int, Kind], ...]:
    networks = ((ip_network(text), kind) for text, kind in table)
    return tuple(
        (int(network.network_address), int(network.netmask), kind)
        for network, kind in networks
    )


_RANGES = {4: _compile(_IPV4_KINDS), 6: _compile(_IPV6_KINDS)}

_NETWORKS: dict[int, tuple[tuple[IPNetwork, Kind], ...]] = {
    version: tuple((ip_network(text), kind) for text, kind in table)
    for version, table in ((4, _IPV4_KINDS), (6, _IPV6_KINDS))
}

CARRIERS: tuple[IPv6Network, ...] = tuple(
    map(
        IPv6Network,
        (
            "::/96",  # IPv4-compatible; also the unspecified address and ::1
            "::ffff:0:0/96",  # mapped
            "::ffff:0:0:0/96",  # translated
            "64:ff9b::/96",  # NAT64
            "2002::/16",  # 6to4
            "2001::/32",  # Teredo
        ),
    )
)
"""
Where an IPv6 address is nothing but the way to an IPv4 address inside it.
"""

_STRICTNESS = {kind: place for place, kind in enumerate(Kind)}

_LOW_32 = 0xFFFFFFFF
_BROADCAST = IPv4Address(_LOW_32)


def embedded(ip: IPAddress) -> tuple[IPv4Address, ...]:
    """
    Every IPv4 address that a packet to an IPv6 address may come to, by the
    mechanisms that are known by their prefix or interface identifier.  (A
    NAT64 prefix of a network's own, RFC 6052, looks like any other address.)
    """
    if isinstance(ip, IPv4Address):
        return ()
    bits = int(ip)
    low = bits & _LOW_32
    top96 = bits >> 32
    found = []
    if top96 in (0xFFFF, 0xFFFF0000) or (top96 == 0 and low > 1):
        # Mapped (RFC 4291), translated (RFC 2765), compatible (RFC 4291).
        found.append(low)
    elif top96 == 0x0064FF9B << 64:  # NAT64, RFC 6052
        found.append(low)
    elif bits >> 80 == 0x0064FF9B0001:  # NAT64 for local use, RFC 8215
        found += _localNAT64(bits)
    elif bits >> 112 == 0x2002:  # 6to4, RFC 3056
        found.append(bits >> 80 & _LOW_32)
    elif bits >> 96 == 0x20010000:  # Teredo, RFC 4380: its server, its client
        found += [bits >> 64 & _LOW_32, low ^ _LOW_32]
    if top96 & 0xFCFFFFFF == 0x00005EFE:  # ISATAP, RFC 5214, with any prefix
        found.append(low)
    return tuple(IPv4Address(number) for number in found)


def _localNAT64(bits: int) -> list[int]:
    """
    What an address of 64:ff9b:1::/48 may mean: the translator's own prefix is
    48, 56, 64 or 96 bits long (RFC 6052, section 2.2), which cannot be seen.

    Bits 64 to 71 are no part of the IPv4 address.  The suffix after it should
    be zeros, but a translator may not care, so neither do we, except to
    believe that an address of 0.0.0.0/8 was meant, which nobody should forward
    to (RFC 1812, section 5.3.7): it can be read in most of those for 96 bits.
    In those for 48 and 56 bits it is read nevertheless, at their end.
    """
    without = (bits >> 64 << 56) | (bits & ((1 << 56) - 1))
    readings = [bits & _LOW_32]
    for suffix in (40, 32, 24):
        reading = without >> suffix & _LOW_32
        if reading >> 24 or not without & ((1 << suffix) - 1):
            readings.append(reading)
    return readings


def unmapped(ip: IPAddress) -> IPAddress:
    """
    The IPv4 address for an IPv4-mapped one, which is how a socket for both
    tells of it (RFC 4291, section 2.5.5.2); any other as it is.
    """
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


def reached(ip: IPAddress) -> IPAddress:
    """
    What an address is to be judged as: the IPv4 address inside an IPv6 one,
    and where it can be read in several ways, that of the strictest kind.
    """
    return min(
        (*embedded(ip), ip), key=lambda reading: _STRICTNESS[_rangeKind(reading)]
    )


def readings(ip: IPAddress) -> tuple[IPAddress, ...]:
    """
    All that an address is to be judged as, by whoever tells addresses apart:
    every IPv4 address inside an IPv6 one, and the address itself, unless it is
    nothing but the way to an IPv4 address.  (With ISATAP it is both: whoever
    has a network may give an address in it the end that means 192.0.2.1.)
    """
    found = embedded(ip)
    if found and any(ip in carrier for carrier in CARRIERS):
        return found
    return (*found, ip)


@lru_cache(maxsize=4096)
def kindOf(ip: IPAddress) -> Kind:
    """
    What an address is, judged by what it L{reaches<reached>}.
    """
    return _rangeKind(reached(ip))


def _rangeKind(ip: IPAddress) -> Kind:
    number = int(ip)
    for network, mask, kind in _RANGES[ip.version]:
        if number & mask == network:
            return kind
    raise AssertionError("the last range has them all")


def rangeOf(ip: IPAddress) -> IPNetwork:
    """
    The range of the registries that makes an address what it is, the IPv4
    addresses inside it aside.
    """
    return next(network for network, _ in _NETWORKS[ip.version] if ip in network)


def kindOfNetwork(network: IPNetwork) -> Kind | None:
    """
    What all addresses of a network are, the IPv4 addresses inside them aside.

    @return: L{None}, if they are of several kinds.
    """
    for known, kind in _NETWORKS[network.version]:
        if known.overlaps(network):
            return kind if network.prefixlen >= known.prefixlen else None
    raise AssertionError("the last range has them all")


def isThisHost(ip: IPAddress) -> bool:
    """
    Whether an address comes to this host: it, or an IPv4 address inside it, is
    unspecified, or a socket can be bound to it.  When that cannot be found
    out, it does.
    """
    ip = unmapped(ip)
    return any(_isBindable(reading) for reading in (ip, *embedded(ip)))


def _isBindable(ip: IPAddress) -> bool:
    kind = _rangeKind(ip)
    if kind is Kind.UNSPECIFIED:
        return True
    if kind is Kind.MULTICAST or ip == _BROADCAST:
        return False  # a socket can be bound to those, too
    try:
        with socket.socket(familyOf(ip), socket.SOCK_DGRAM) as probe:
            probe.bind((str(ip), 0))
    except OSError as error:
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True
