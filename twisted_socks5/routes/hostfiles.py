# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The two files by which a host says how names are looked up: hosts(5) and
resolv.conf(5).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from ipaddress import ip_address
from typing import Generic, TypeVar

import attrs

from twisted_socks5.addresses import IPAddress

_Parsed = TypeVar("_Parsed")


class WatchedFile(Generic[_Parsed]):
    """
    A file, parsed anew when it has changed since it was last asked for.  One
    that cannot be read is empty.
    """

    def __init__(self, path: str, parse: Callable[[str], _Parsed]) -> None:
        self._path = path
        self._parse = parse
        self._signature: object = ()
        self._parsed: _Parsed = parse("")

    def get(self) -> _Parsed:
        """
        What it says now.
        """
        try:
            status = os.stat(self._path)
            signature = (status.st_mtime_ns, status.st_ino, status.st_size)
        except OSError:
            signature = (0, 0, 0)
        if signature != self._signature:
            self._signature = signature
            self._parsed = self._parse(self._read())
        return self._parsed

    def _read(self) -> str:
        try:
            with open(self._path, encoding="ascii", errors="replace") as file:
                return file.read()
        except OSError:
            return ""


def _words(text: str, comments: str) -> list[list[str]]:
    """
    The words of each line that has any.
    """
    lines = []
    for line in text.splitlines():
        for mark in comments:
            line = line.partition(mark)[0]
        if words := line.split():
            lines.append(words)
    return lines


def parseHosts(text: str) -> dict[str, list[IPAddress]]:
    """
    Addresses by name, the names in lower case.
    """
    hosts: dict[str, list[IPAddress]] = {}
    for address, *names in _words(text, "#"):
        try:
            ip = ip_address(address)
        except ValueError:
            continue
        for name in names:
            addresses = hosts.setdefault(name.lower().removesuffix("."), [])
            if ip not in addresses:
                addresses.append(ip)
    return hosts


@attrs.frozen
class ResolverConfiguration:
    """
    What resolv.conf(5) says.

    @ivar servers: Addresses of the name servers.
    @ivar search: Domains to look short names up in.
    @ivar ndots: A name with fewer dots is short.
    """

    servers: tuple[str, ...]
    search: tuple[str, ...] = ()
    ndots: int = 1

    def candidates(self, name: str) -> list[str]:
        """
        The full names that a name may stand for, in order.
        """
        longer = [f"{name}.{domain}" for domain in self.search]
        if name.count(".") >= self.ndots:
            return [name, *longer]
        return [*longer, name]


def parseResolverConfiguration(text: str) -> ResolverConfiguration:
    """
    Parse resolv.conf(5); without a name server there is one on this host.
    """
    servers: list[str] = []
    search: list[str] = []
    ndots = 1
    for keyword, *words in _words(text, "#;"):
        if keyword == "nameserver" and words:
            try:
                ip_address(words[0].partition("%")[0])
            except ValueError:
                continue
            servers.append(words[0])
        elif keyword in ("search", "domain"):
            search = [word.lower().strip(".") for word in words]
        elif keyword == "options":
            for word in words:
                option, _, value = word.partition(":")
                if option == "ndots" and value.isdecimal():
                    ndots = min(int(value), 15)
    return ResolverConfiguration(
        tuple(servers) or ("127.0.0.1",),
        tuple(domain for domain in search if domain),
        ndots,
    )
