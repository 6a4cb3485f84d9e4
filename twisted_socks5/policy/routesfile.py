# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Ways out in a file (TOML): C{[route.NAME]}.  What is read here is made by whoever
has a reactor.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import attrs

from twisted_socks5.elsewhere import NOT_AS_EXPECTED
from twisted_socks5.policy.egress import Egress, parseEgress
from twisted_socks5.tomltable import Table

_KEYS = (
    *("bind", "interface", "proxy", "user", "password-file", "chain"),
    *("first", "least", "plugin"),
)
_KINDS = ("proxy", "chain", "first", "least", "plugin")
_EXPECTED = f"expected bind, interface or both, or one of {', '.join(_KINDS)}"
_TEXTS = "a text or a list of texts"


@attrs.frozen
class Straight:
    """
    The server's own way out, which is the direct one as a rule.

    @ivar egress: Which address of this host to go out from; L{None} leaves it to
        the kernel.
    @ivar interface: The network interface to go out by; empty is any.
    """

    egress: Egress | None = None
    interface: str = ""

    def __str__(self) -> str:
        words = []
        if self.egress is not None:
            words.append(f"bind={self.egress}")
        if self.interface:
            words.append(f"interface={self.interface}")
        return " ".join(words)


@attrs.frozen
class Proxied:
    """
    Through another SOCKS5 proxy.

    @ivar endpoint: How to reach it: the string of a client endpoint.
    @ivar user: The username; L{None} tells the proxy none.
    @ivar passwordFile: A file with the password in its only line, wherever the
        process has gone.
    """

    endpoint: str
    user: str | None = None
    passwordFile: str | None = None

    def __str__(self) -> str:
        user = "" if self.user is None else f" user={self.user}"
        return f"proxy={self.endpoint}{user}"


@attrs.frozen
class Chained:
    """
    Through one proxy, from there through the next, and so on.

    @ivar routes: The names of their routes.
    """

    routes: tuple[str, ...]

    def __str__(self) -> str:
        return f"chain={','.join(self.routes)}"


@attrs.frozen
class Several:
    """
    Several ways, of which one that works is taken.

    @ivar routes: Their names.
    @ivar isByLoad: Whether the one that the fewest sessions use is tried first, or
        the first of them.
    """

    routes: tuple[str, ...]
    isByLoad: bool = False

    def __str__(self) -> str:
        return f"{'least' if self.isByLoad else 'first'}={','.join(self.routes)}"


@attrs.frozen
class OfPlugin:
    """
    What a plugin makes.

    @ivar text: Its name and arguments, as C{--route} has them.
    """

    text: str

    def __str__(self) -> str:
        return f"plugin={self.text}"


Way: TypeAlias = Straight | Proxied | Chained | Several | OfPlugin


@attrs.frozen
class RouteSettings:
    """
    What a file says of a way out.

    @ivar way: What it is.
    @ivar where: Its place in the file, for errors.
    @ivar elsewhere: The keys whose texts came from the environment or a file of their
        own, and are not to be shown.
    """

    way: Way
    where: str = attrs.field(default="", eq=False)
    elsewhere: tuple[str, ...] = attrs.field(default=(), eq=False)

    def __str__(self) -> str:
        if self.elsewhere:
            return f"{', '.join(self.elsewhere)}: told elsewhere"
        return str(self.way)

    def told(self, problem: object) -> str:
        """
        What to tell of a problem with it, which may begin with the key that it is
        about, and a colon.
        """
        key = str(problem).partition(":")[0]
        if not self.elsewhere or (key in _KEYS and key not in self.elsewhere):
            return str(problem)
        return f"{', '.join(self.elsewhere)}: {NOT_AS_EXPECTED}"

    @property
    def egress(self) -> Egress | None:
        """
        Which address of this host to go out from, if the file says so.
        """
        return self.way.egress if isinstance(self.way, Straight) else None


def readRoutes(top: Table) -> dict[str, RouteSettings]:
    """
    Read the ways out of a file.

    @param top: The top of the file.
    @return: They, by their names.
    @raise TOMLFileError: They are not as expected.
    """
    contents = top.content.get("route", {})
    if not isinstance(contents, dict):
        top.fail("route", "expected tables with names, [route.NAME]")
    tables = {name: _tableOf(top, contents, name) for name in contents}
    for name, table in tables.items():
        if not re.fullmatch(r"[\w-]+", name, re.ASCII):
            table.fail("", f"route {name!r}: expected letters, digits, - and _")
    routes = {name: _readRoute(table) for name, table in tables.items()}
    for name, table in tables.items():
        _checkNames(table, name, routes)
    return routes


def _tableOf(top: Table, contents: dict[str, Any], name: str) -> Table:
    content = contents[name]
    if not isinstance(content, dict):
        Table(top.file, "route", 0, contents, ()).fail(
            name, "expected tables with names, [route.NAME]"
        )
    path = f"route.{name}"
    return Table(top.file, path, 0, content, _KEYS, f"{path}.")


def _readRoute(table: Table) -> RouteSettings:
    table.checkKeys()
    kinds = [key for key in _KINDS if key in table.content]
    isStraight = "bind" in table.content or "interface" in table.content
    if len(kinds) + isStraight != 1:
        table.fail("", _EXPECTED)
    if not kinds or kinds[0] != "proxy":
        for key in ("user", "password-file"):
            if key in table.content:
                table.fail(key, "expected it beside proxy only")
    way = _readStraight(table) if isStraight else _READERS[kinds[0]](table)
    elsewhere = (key for key, value in table.content.items() if isinstance(value, dict))
    return RouteSettings(way, f"{table.file.path}:{table.line}", tuple(elsewhere))


def _readStraight(table: Table) -> Way:
    return Straight(
        table.one("bind", "a text", parseEgress),
        table.oneFromAnywhere("interface", _interface) or "",
    )


def _readProxy(table: Table) -> Way:
    user = table.oneFromAnywhere("user", _name)
    passwordFile = table.oneFromAnywhere("password-file", _name)
    if (user is None) is not (passwordFile is None):
        table.fail("", "expected user and password-file, or neither")
    if passwordFile is not None:
        passwordFile = os.path.join(table.file.folder, passwordFile)
    endpoint = table.oneFromAnywhere("proxy", _name)
    assert endpoint is not None
    return Proxied(endpoint, user, passwordFile)


def _names(table: Table, key: str) -> tuple[str, ...]:
    names = table.several(key, _TEXTS, _name)
    assert names is not None
    return names


_READERS: dict[str, Callable[[Table], Way]] = {
    "proxy": _readProxy,
    "chain": lambda table: Chained(_names(table, "chain")),
    "first": lambda table: Several(_names(table, "first")),
    "least": lambda table: Several(_names(table, "least"), isByLoad=True),
    "plugin": lambda table: OfPlugin(table.oneFromAnywhere("plugin", _name) or ""),
}


def _checkNames(table: Table, name: str, routes: Mapping[str, RouteSettings]) -> None:
    """
    Find a name that a route has of others, and that will not do.
    """
    way = routes[name].way
    if not isinstance(way, Chained | Several):
        return
    key = next(key for key in ("chain", "first", "least") if key in table.content)
    for place, other in enumerate(way.routes):
        problem = _problem(name, other, isinstance(way, Chained), routes)
        if problem:
            table.fail(key, f"{other}: {problem}", place)


def _problem(
    name: str, other: str, isChain: bool, routes: Mapping[str, RouteSettings]
) -> str:
    if other not in routes:
        return f"no such route; expected one of the file: {', '.join(routes)}"
    way = routes[other].way
    if isChain:
        return "" if isinstance(way, Proxied) else "expected a route that has proxy"
    if name in _below(other, routes, ()):
        return "it comes back to this route; expected another"
    return ""


def _below(
    name: str, routes: Mapping[str, RouteSettings], seen: tuple[str, ...]
) -> Iterator[str]:
    """
    A route, and those that it is made of.
    """
    yield name
    way = routes[name].way
    if isinstance(way, Several) and name not in seen:
        for other in way.routes:
            if other in routes:
                yield from _below(other, routes, (*seen, name))


def _name(text: str) -> str:
    if not text:
        raise ValueError("expected something, not an empty text")
    return text


def _interface(text: str) -> str:
    # As the kernel has them: 15 bytes, no slash, no space, and no colon.
    if not re.fullmatch(r"[!-.0-9;-~]{1,15}", text) or text in (".", ".."):
        raise ValueError(f"{text}: expected the name of a network interface, like eth0")
    return text
