# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Which networks an address is in, found in a time that does not grow with their
number: for each length of a prefix there is one look into a dictionary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

import attrs

from twisted_socks5.addresses import IPAddress, IPNetwork

_Value = TypeVar("_Value")


class NetworkTable(Generic[_Value]):
    """
    What belongs to networks.
    """

    def __init__(self) -> None:
        # By version and length; then by the bits of the prefix.
        self._tables: dict[tuple[int, int], dict[int, list[_Value]]] = {}
        self._lengths: dict[int, list[tuple[int, dict[int, list[_Value]]]]] = {
            4: [],
            6: [],
        }

    def add(self, network: IPNetwork, value: _Value) -> None:
        """
        Put something down for a network.
        """
        key = (network.version, network.prefixlen)
        shift = network.max_prefixlen - network.prefixlen
        table = self._tables.get(key)
        if table is None:
            table = self._tables[key] = {}
            self._lengths[network.version].append((shift, table))
        table.setdefault(int(network.network_address) >> shift, []).append(value)

    def containing(self, ip: IPAddress) -> Iterator[_Value]:
        """
        What belongs to networks that an address is in.
        """
        number = int(ip)
        for shift, table in self._lengths[ip.version]:
            yield from table.get(number >> shift, ())

    def covering(self, network: IPNetwork) -> Iterator[_Value]:
        """
        What belongs to networks that a network is in, or that are the same.
        """
        number = int(network.network_address)
        least = network.max_prefixlen - network.prefixlen
        for shift, table in self._lengths[network.version]:
            if shift >= least:
                yield from table.get(number >> shift, ())


@attrs.frozen
class Networks:
    """
    A set of networks.

    @ivar all: They, in the order in which they were given.
    """

    all: tuple[IPNetwork, ...]
    _table: NetworkTable[IPNetwork] = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        for network in self.all:
            self._table.add(network, network)

    @_table.default
    def _makeTable(self) -> NetworkTable[IPNetwork]:
        return NetworkTable()

    def __bool__(self) -> bool:
        return bool(self.all)

    def containing(self, ip: IPAddress) -> Iterator[IPNetwork]:
        """
        Those that an address is in.
        """
        return self._table.containing(ip)

    def __contains__(self, ip: IPAddress) -> bool:
        return any(True for _ in self._table.containing(ip))

    def cover(self, networks: Iterable[IPNetwork]) -> bool:
        """
        Whether each of some networks is inside one of these.
        """
        return all(self.coverOne(network) for network in networks)

    def coverOne(self, network: IPNetwork) -> bool:
        """
        Whether a network is inside one of these.
        """
        return any(True for _ in self._table.covering(network))
