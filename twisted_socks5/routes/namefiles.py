# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What a host's own files say of names: hosts(5) and resolv.conf(5).

Both are read when a name is looked up, and again only once they have changed.
What cannot be understood in them is passed over, as the C library does.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Generic, TypeAlias, TypeVar

import attrs

from twisted_socks5.addresses import Address, IPAddress
from twisted_socks5.errors import InvalidName

HostsTable: TypeAlias = dict[str, list[IPAddress]]
"""
The addresses of each name of a hosts file.
"""

_Content = TypeVar("_Content")

_DNS_PORT = 53
_MAX_SERVERS = 3
_MAX_NDOTS = 15
_MAX_TIMEOUT = 30
_MAX_ATTEMPTS = 5


@attrs.frozen
class NameServer:
    """
    Where a name server listens.

    @ivar host: Its IP address; an IPv6 one may have a scope (C{fe80::1%eth0}).
    @ivar port: Its UDP and TCP port.
    """

    host: IPAddress
    port: int = _DNS_PORT

    @property
    def family(self) -> socket.AddressFamily:
        """
        C{AF_INET} or C{AF_INET6}.
        """
        return socket.AF_INET if self.host.version == 4 else socket.AF_INET6

    def socketName(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """
        The address as the system calls take it.

        @raise OSError: The scope is no interface of this host.
        """
        if isinstance(self.host, IPv4Address):
            return str(self.host), self.port
        host, _, scope = str(self.host).partition("%")
        index = 0
        if scope:
            index = int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)
        return host, self.port, 0, index


@attrs.frozen
class ResolvConf:
    """
    What a resolv.conf(5) says.  The environment and the host's own domain have
    no say.  Where it does not tell how long to wait, a lost datagram is to
    cost one second, not the five that the manual has.

    @ivar servers: The servers to ask, in this order.
    @ivar search: The domains to look for short names in.
    @ivar ndots: A name with fewer dots is short: it is looked for in the
        domains first.
    @ivar timeout: How long to wait for a server at first, in seconds; each
        further attempt waits twice as long.
    @ivar attempts: How often to ask each server.
    """

    servers: Sequence[NameServer] = (NameServer(IPv4Address("127.0.0.1")),)
    search: Sequence[str] = ()
    ndots: int = 1
    timeout: int = 1
    attempts: int = 4

    def candidates(self, name: str) -> Iterator[str]:
        """
        The full names that a name may stand for, in the order in which to ask
        for them.
        """
        isShort = name.count(".") < self.ndots
        if not isShort:
            yield name
        for domain in self.search:
            try:
                candidate = Address.fromName(f"{name}.{domain}".encode(), 0).host
            except InvalidName:
                continue
            if isinstance(candidate, str) and candidate != name:
                yield candidate
        if isShort:
            yield name


class WatchedFile(Generic[_Content]):
    """
    A file that is parsed again when it has changed.
    """

    def __init__(self, path: str, parse: Callable[[str], _Content]) -> None:
        """
        @param parse: Makes the content of the text; never raises.
        """
        self._path = path
        self._parse = parse
        self._version: tuple[int, ...] | None = None
        self._content = parse("")

    def content(self) -> _Content:
        """
        What the file says now.  A file that is missing, or that must not be
        read, says nothing.

        @raise OSError: It could not be read this time, for lack of
            descriptors for example.
        """
        try:
            status = os.stat(self._path)
            # Taken before reading: a change in between is seen next time.
            version = (
                status.st_dev,
                status.st_ino,
                status.st_size,
                status.st_mtime_ns,
            )
            if version != self._version:
                with open(self._path, encoding="latin-1", newline="\n") as file:
                    self._content = self._parse(file.read())
                self._version = version
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            self._content = self._parse("")
            self._version = None
        return self._content


def parseHosts(text: str) -> HostsTable:
    """
    The names of a hosts(5) file, in lower case.
    """
    table: HostsTable = {}
    for fields in _lines(text, "#"):
        ip = _ipAddress(fields[0])
        if ip is not None:
            for name in fields[1:]:
                addresses = table.setdefault(name.lower().removesuffix("."), [])
                addresses.append(ip)
    return table


def parseResolvConf(text: str) -> ResolvConf:
    """
    The settings of a resolv.conf(5) file.  Of C{domain} and C{search} the
    last one counts; of the servers, the first three.
    """
    servers: list[NameServer] = []
    configuration = ResolvConf()
    for keyword, *values in _lines(text, "#;"):
        if keyword == "nameserver" and values:
            ip = _ipAddress(values[0])
            if ip is not None and len(servers) < _MAX_SERVERS:
                servers.append(NameServer(ip))
        elif keyword == "search":
            configuration = attrs.evolve(configuration, search=values)
        elif keyword == "domain":
            configuration = attrs.evolve(configuration, search=values[:1])
        elif keyword == "options":
            configuration = attrs.evolve(configuration, **dict(_numbers(values)))
    return attrs.evolve(configuration, servers=servers) if servers else configuration


def _numbers(options: Sequence[str]) -> Iterator[tuple[str, Any]]:
    limits = {
        "ndots": (0, _MAX_NDOTS),
        "timeout": (1, _MAX_TIMEOUT),
        "attempts": (1, _MAX_ATTEMPTS),
    }
    for option in options:
        name, _, value = option.partition(":")
        if name in limits and value.isascii() and value.isdigit():
            least, most = limits[name]
            yield name, min(max(int(value[:9]), least), most)


def _lines(text: str, commentMarks: str) -> Iterator[list[str]]:
    """
    The fields of each line that has any.
    """
    for line in text.split("\n"):
        for mark in commentMarks:
            line = line.partition(mark)[0]
        if fields := line.split():
            yield fields


def _ipAddress(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
