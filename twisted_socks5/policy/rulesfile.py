# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Rules in a file (TOML).  Whatever is not exactly as expected is an error, so that
nothing is allowed because of a slip.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address
from itertools import chain
from typing import TypeVar
from zoneinfo import ZoneInfo

import attrs

from twisted_socks5.addresses import UNIX_CLIENT, IPAddress, IPNetwork, unmapped
from twisted_socks5.limits.written import limitsIn
from twisted_socks5.policy.conditions import (
    COMMANDS,
    METHODS,
    WEEKDAYS,
    Clients,
    Conditions,
    Listeners,
    Ranges,
)
from twisted_socks5.policy.coverage import covered, isCarried
from twisted_socks5.policy.destinations import Destinations, parseNetwork, parsePattern
from twisted_socks5.policy.egress import parseEgress
from twisted_socks5.policy.networks import Networks
from twisted_socks5.policy.routesfile import RouteSettings, readRoutes
from twisted_socks5.policy.rules import Rule, Ruleset
from twisted_socks5.tomltable import Table, TOMLFile, TOMLFileError

_Value = TypeVar("_Value")

_RULE_KEYS = (
    *("action", "user", "group", "from", "listener", "command", "to", "port"),
    *("method", "time", "weekday", "reply", "route", "bind", "limit", "tag", "comment"),
)
RULES_KEYS = ("timezone", "route", "rule")
"""
What a file of rules has at its top.
"""

_TEXTS = "a text or a list of texts"
_NUMBERS = "a number or a text, or a list of them"


@attrs.frozen
class RulesFile:
    """
    What a file says.

    @ivar routes: The ways out, by their names.
    @ivar timezone: Where the rules' clock is; L{None} is where this host is.
    """

    ruleset: Ruleset
    routes: dict[str, RouteSettings]
    timezone: ZoneInfo | None


def loadRules(path: str) -> RulesFile:
    """
    Read a file.

    @raise TOMLFileError: It cannot be read, or is not as expected.
    """
    return _readFile(TOMLFile.load(path))


def parseRules(text: str, path: str = "rules") -> RulesFile:
    """
    Read the text of a file.

    @param path: What to call it in errors.
    @raise TOMLFileError: It is not as expected.
    """
    return _readFile(TOMLFile.parse(text, path))


def _readFile(file: TOMLFile) -> RulesFile:
    top = file.top(RULES_KEYS)
    top.checkKeys()
    return readRules(top)


def readRules(top: Table) -> RulesFile:
    """
    Read the rules of a file, which may have other things in it too.

    @param top: The top of the file.
    @raise TOMLFileError: They are not as expected.
    """
    routes = readRoutes(top)
    tables = top.content.get("rule")
    if not isinstance(tables, list) or not tables:
        top.fail("rule", "expected at least one [[rule]]")
    rules = []
    for index, content in enumerate(tables):
        if not isinstance(content, dict):
            top.fail("rule", "expected tables, each with [[rule]] above it")
        rules.append(
            _readRule(Table(top.file, "rule", index, content, _RULE_KEYS), routes)
        )
    for rule, earlier in covered(rules):
        raise TOMLFileError(
            f"{top.file.path}:{rule.line}: rule {rule.number} ({rule.text}) never "
            f"matches: rule {earlier.number} in line {earlier.line} "
            f"({earlier.text}) does already; expected it before that one, or not at all"
        )
    return RulesFile(Ruleset(rules), routes, top.one("timezone", "a text", _timezone))


def _readRule(table: Table, routes: dict[str, RouteSettings]) -> Rule:
    table.checkKeys()
    allows = table.one("action", "a text", _action)
    if allows is None:
        table.fail("", "a rule without action; expected action = 'allow' or 'deny'")
    for key in ("route", "bind", "limit") if not allows else ("reply",):
        if key in table.content:
            does = "allows" if allows else "denies"
            table.fail(key, f"expected none in a rule that {does}")
    patterns = table.several("to", _TEXTS, parsePattern)
    for place, pattern in enumerate(patterns or ()):
        if (
            allows
            and isinstance(pattern, IPv4Network | IPv6Network)
            and isCarried(pattern)
        ):
            table.fail(
                "to",
                f"{pattern}: its addresses are judged as the IPv4 addresses inside; "
                "expected those",
                place,
            )
    egress, route = table.one("bind", "a text", parseEgress), ""
    if "route" in table.content:
        route = table.one("route", "a text", str) or ""
        if route not in routes:
            names = ", ".join(routes) or "none"
            table.fail(
                "route", f"no route {route!r}; expected one of the file: {names}"
            )
        if egress is not None:
            table.fail("bind", "expected it in the rule or in its route, not in both")
        egress = routes[route].egress
    return Rule(
        table.index + 1,
        allows,
        _readConditions(table),
        None if patterns is None else Destinations(patterns),
        table.one("reply", "a number from 1 to 255", _reply) or 0x02,
        route,
        egress,
        table.several("tag", _TEXTS, _word) or (),
        table.one("comment", "a text", _comment) or "",
        table.line,
        limitsIn(table),
    )


def _readConditions(table: Table) -> Conditions:
    clients = table.several("from", _TEXTS, _client)
    listeners = table.several("listener", _NUMBERS, _listener)
    ports = table.several("port", _NUMBERS, _portRange)
    times = table.several("time", _TEXTS, _minutes)
    weekdays = table.several("weekday", _TEXTS, _weekdays)
    return Conditions(
        user=_set(table.several("user", _TEXTS, _name)),
        group=_set(table.several("group", _TEXTS, _name)),
        client=None if clients is None else _clients(clients),
        listener=None if listeners is None else Listeners(frozenset(listeners)),
        command=_set(table.several("command", _NUMBERS, _command)),
        port=None if ports is None else Ranges(ports),
        method=_set(table.several("method", _NUMBERS, _method)),
        times=None if times is None else Ranges(tuple(chain(*times))),
        weekdays=None if weekdays is None else frozenset(chain(*weekdays)),
    )


def _clients(some: tuple[IPNetwork | None, ...]) -> Clients:
    networks = tuple(one for one in some if one is not None)
    return Clients(Networks(networks), onUnix=None in some)


def _set(values: tuple[_Value, ...] | None) -> frozenset[_Value] | None:
    return None if values is None else frozenset(values)


# -- single values ---------------------------------------------------------------------


def _timezone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (ValueError, OSError, KeyError):
        raise ValueError(f"{text}: expected a name like Europe/Berlin") from None


def _address(text: str) -> IPAddress:
    try:
        address = unmapped(ip_address(text))
    except ValueError:
        raise ValueError(f"{text}: expected an IP address") from None
    if address.is_unspecified or address.is_multicast:
        raise ValueError(f"{text}: expected an address of this host")
    return address


def _action(text: str) -> bool:
    if text not in ("allow", "deny"):
        raise ValueError(f"{text}: expected allow or deny")
    return text == "allow"


def _reply(number: int) -> int:
    if not 0x01 <= number <= 0xFF:
        raise ValueError(f"{number}: expected a number from 1 to 255")
    return number


def _name(text: str) -> str:
    if not text:
        raise ValueError("expected a name, not an empty text")
    if text != text.strip():
        raise ValueError(f"{text!r}: expected a name without space around it")
    return text


def _word(text: str) -> str:
    if not re.fullmatch(r"[\w.:-]+", text, re.ASCII):
        raise ValueError(f"{text}: expected letters, digits, and . : - _")
    return text


def _comment(text: str) -> str:
    if "\n" in text:
        raise ValueError("expected one line")
    return text


def _client(text: str) -> IPNetwork | None:
    return None if text == "unix" else parseNetwork(text)


def _listener(value: str | int) -> tuple[object, int | None]:
    if isinstance(value, int):
        return (None, _port(value))
    if value == "unix":
        return (UNIX_CLIENT.host, None)
    found = re.fullmatch(r"(?:\[([^\]]*)\]|([^:]*)):(\d+)", value)
    text = value if found is None else found[1] or found[2]
    try:
        return (_address(text), None if found is None else _port(int(found[3])))
    except ValueError:
        raise ValueError(
            f"{value}: expected the address that clients connect to, with or without a "
            "port (192.0.2.1, 192.0.2.1:1080, [2001:db8::1]:1080), a port, or 'unix'"
        ) from None


def _port(number: int) -> int:
    if not 1 <= number <= 65535:
        raise ValueError(f"{number}: expected a port from 1 to 65535")
    return number


def _portRange(value: str | int) -> tuple[int, int]:
    if isinstance(value, int):
        return (_port(value), value)
    found = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", value)
    if found is None:
        raise ValueError(f"{value}: expected a port (443) or a range ('8000-8100')")
    first, last = _port(int(found[1])), _port(int(found[2]))
    if first >= last:
        raise ValueError(f"{value}: expected the lower port first")
    return (first, last)


def _command(value: str | int) -> int:
    if isinstance(value, int) and 0 <= value <= 0xFF and value not in COMMANDS.values():
        return value
    if value not in COMMANDS:
        raise ValueError(
            f"{value}: expected {', '.join(COMMANDS)}, or the octet of another command"
        )
    return COMMANDS[str(value)]


def _method(value: str | int) -> str:
    if isinstance(value, int) and 0x03 <= value <= 0xFE:
        return f"{value:02x}"
    if value not in METHODS:
        raise ValueError(
            f"{value}: expected {', '.join(METHODS)}, or the octet of another method"
        )
    return str(value)


def _minutes(text: str) -> tuple[tuple[int, int], ...]:
    found = re.fullmatch(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})", text)
    if found is not None:
        hour, minute, endHour, endMinute = map(int, found.groups())
        start, end = hour * 60 + minute, endHour * 60 + endMinute
        isTime = max(minute, endMinute) < 60 and start < 1440 and end <= 1440
        if isTime and start != end:
            last = (end or 1440) - 1
            return ((start, last),) if start <= last else ((start, 1439), (0, last))
    raise ValueError(
        f"{text}: expected a beginning and an end that differ, like 09:00-17:00 or "
        "22:00-06:00"
    )


def _weekdays(text: str) -> tuple[int, ...]:
    first, dash, last = text.partition("-")
    if first not in WEEKDAYS or (dash and last not in WEEKDAYS):
        raise ValueError(
            f"{text}: expected {', '.join(WEEKDAYS)}, or a range like mon-fri"
        )
    start = WEEKDAYS.index(first)
    count = (WEEKDAYS.index(last) - start) % 7 + 1 if dash else 1
    return tuple((start + day) % 7 for day in range(count))
