# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The destinations that a rule is for: names, networks, kinds of addresses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TypeAlias

import attrs

from twisted_socks5.addresses import (
    Address,
    IPAddress,
    IPNetwork,
    Kind,
    kindOf,
    kindOfNetwork,
    rangeOf,
)
from twisted_socks5.errors import InvalidName
from twisted_socks5.policy.networks import Networks


@attrs.frozen
class Name:
    """
    A name, in the normal form that L{Address} has.
    """

    name: str

    def __str__(self) -> str:
        return self.name if "." in self.name else f"{self.name}."


@attrs.frozen
class Suffix:
    """
    All names that end in a dot and this one, which itself is none of them.
    """

    name: str

    def __str__(self) -> str:
        return f"*.{self.name}"


Pattern: TypeAlias = Name | Suffix | IPv4Network | IPv6Network | Kind

_KINDS = {kind.value: kind for kind in Kind}
_EXPECTED = (
    "expected a name (example.org), all names under one (*.example.org), a network "
    f"(10.0.0.0/8), an address, or one of {', '.join(_KINDS)}"
)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?")

# What IDNA 2003, which Python has, makes other names of than IDNA 2008 does.
_DEVIATIONS = frozenset("\u00df\u1e9e\u03c2\u200c\u200d")


def parsePattern(text: str) -> Pattern:
    """
    Read one destination of a rule.

    @raise ValueError: It is none; the text says what was expected.
    """
    kind = _KINDS.get(text)
    if kind is not None:
        return kind
    if re.fullmatch(r"[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(/.*)?|[0-9./]+", text):
        return parseNetwork(text)
    if text.startswith("*."):
        return Suffix(_parseName(text[2:], text))
    return Name(_parseName(text, text))


def parseNetwork(text: str) -> IPNetwork:
    """
    Read a network or an address.

    @raise ValueError: It is none, or has bits set after its prefix.
    """
    address, slash, length = text.partition("/")
    try:
        if slash and not (length.isascii() and length.isdecimal()):
            raise ValueError
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{text}: no network; expected one like 10.0.0.0/8 or 2001:db8::/32, or "
            "an address"
        ) from None
    if str(network.network_address) != str(ip_network(address).network_address):
        raise ValueError(f"{text}: bits are set after the prefix; expected {network}")
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        first = IPv6Address(network.network_address).ipv4_mapped
        if first is not None:
            inside = IPv4Network((first, network.prefixlen - 96))
            raise ValueError(f"{text}: expected it as IPv4, {inside}")
    return network


def _parseName(name: str, text: str) -> str:
    if _DEVIATIONS.intersection(name):
        raise ValueError(
            f"{text}: there are two ways to write this name in ASCII; expected the "
            "one that is meant, xn--..."
        )
    try:
        raw = name.encode("ascii" if name.isascii() else "idna")
        found = Address.fromName(raw, 0).host
    except (InvalidName, UnicodeError):
        raise ValueError(f"{text}: no host name; {_EXPECTED}") from None
    if not isinstance(found, str) or not all(
        _LABEL.fullmatch(label) for label in found.split(".")
    ):
        raise ValueError(f"{text}: no host name; {_EXPECTED}")
    last = found.rpartition(".")[2]
    if last.isdecimal() or re.fullmatch("0x[0-9a-f]*", last):
        raise ValueError(f"{text}: an address that is not written as one; {_EXPECTED}")
    if "." not in found and text == name and not name.endswith("."):
        close = get_close_matches(found, _KINDS, 1)
        hint = f"did you mean {close[0]}? {_EXPECTED}" if close else _EXPECTED
        raise ValueError(
            f"{text}: a name without a dot is written with one at its end, {text}.; "
            f"{hint}"
        )
    return found


@attrs.frozen
class Destinations:
    """
    A set of destinations.

    @ivar patterns: They, in the order in which they were given.
    """

    patterns: tuple[Pattern, ...]
    names: frozenset[str] = attrs.field(init=False, eq=False, repr=False)
    suffixes: frozenset[str] = attrs.field(init=False, eq=False, repr=False)
    networks: Networks = attrs.field(init=False, eq=False, repr=False)
    kinds: frozenset[Kind] = attrs.field(init=False, eq=False, repr=False)

    @names.default
    def _findNames(self) -> frozenset[str]:
        return frozenset(one.name for one in self.patterns if isinstance(one, Name))

    @suffixes.default
    def _findSuffixes(self) -> frozenset[str]:
        return frozenset(one.name for one in self.patterns if isinstance(one, Suffix))

    @networks.default
    def _findNetworks(self) -> Networks:
        return Networks(
            tuple(
                one
                for one in self.patterns
                if isinstance(one, IPv4Network | IPv6Network)
            )
        )

    @kinds.default
    def _findKinds(self) -> frozenset[Kind]:
        return frozenset(one for one in self.patterns if isinstance(one, Kind))

    @classmethod
    def of(cls, *texts: str) -> Destinations:
        """
        Those that are written so.

        @raise ValueError: One of them is none; the text says which.
        """
        return cls(tuple(map(parsePattern, texts)))

    @property
    def needAddress(self) -> bool:
        """
        Whether a name alone does not tell if it is one of them.
        """
        return bool(self.networks or self.kinds)

    def hasName(self, name: str) -> bool:
        """
        Whether a name is one of them, whatever its addresses.
        """
        return name in self.names or (
            bool(self.suffixes)
            and any(parent in self.suffixes for parent in parentsOf(name))
        )

    def hasAddress(self, ip: IPAddress) -> bool:
        """
        Whether an address is one of them.
        """
        return ip in self.networks or (bool(self.kinds) and kindOf(ip) in self.kinds)

    def mean(self, ip: IPAddress) -> bool:
        """
        Whether they have an address for what it is: by the name of its kind, or
        by a network no larger than the range that makes it of that kind.
        """
        limit = rangeOf(ip).prefixlen
        return kindOf(ip) in self.kinds or any(
            network.prefixlen >= limit for network in self.networks.containing(ip)
        )

    def cover(self, other: Destinations) -> bool:
        """
        Whether each of others is one of these.
        """
        return all(map(self._coverOne, other.patterns))

    def _coverOne(self, pattern: Pattern) -> bool:
        if isinstance(pattern, Name):
            return self.hasName(pattern.name)
        if isinstance(pattern, Suffix):
            return pattern.name in self.suffixes or any(
                parent in self.suffixes for parent in parentsOf(pattern.name)
            )
        if isinstance(pattern, Kind):
            return pattern in self.kinds
        return self.networks.coverOne(pattern) or kindOfNetwork(pattern) in self.kinds

    def __str__(self) -> str:
        return shortened(self.patterns)


def textOf(pattern: Pattern) -> str:
    """
    A destination as it is written; an address without the length of its prefix.
    """
    if isinstance(pattern, Kind):
        return pattern.value
    if isinstance(pattern, IPv4Network | IPv6Network):
        return networkText(pattern)
    return str(pattern)


def networkText(network: IPNetwork) -> str:
    """
    A network as it is written, or an address.
    """
    isAddress = network.prefixlen == network.max_prefixlen
    return str(network.network_address if isAddress else network)


def parentsOf(name: str) -> Iterator[str]:
    """
    The names that a name is under, the nearest first.
    """
    start = name.find(".")
    while start >= 0:
        yield name[start + 1 :]
        start = name.find(".", start + 1)


def shortened(patterns: Iterable[Pattern]) -> str:
    """
    Destinations in a line of the log: the first few, and how many more.
    """
    texts = [textOf(pattern) for pattern in patterns]
    more = [f"+{len(texts) - 4}"] if len(texts) > 5 else texts[4:]
    return ",".join(texts[:4] + more)
