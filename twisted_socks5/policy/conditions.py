# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What a rule asks of a request besides its destination.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import attrs

from twisted_socks5.addresses import Address, unmapped
from twisted_socks5.interfaces import IRequest
from twisted_socks5.policy.destinations import networkText
from twisted_socks5.policy.networks import Networks
from twisted_socks5.wire import Command, Method

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
COMMANDS = {command.name: int(command) for command in Command}
_BY_CODE = {code: name for name, code in COMMANDS.items()}

NONE, CERTIFICATE = "none", "certificate"
METHODS = (NONE, "gssapi", "username", CERTIFICATE)
_BY_OCTET = {int(Method.GSSAPI): "gssapi", int(Method.USERNAME): "username"}


@attrs.frozen
class Facts:
    """
    What is known of a request.

    @ivar client: Where the client is.
    @ivar method: What let the client in, by its name; a private method by its
        octet, in hexadecimal.
    @ivar moment: When it is, where the rules' clock is.
    @ivar port: The destination's port; L{None} is one that is not known yet.
    """

    user: str
    groups: frozenset[str]
    client: Address
    listener: Address
    command: int
    method: str
    moment: datetime
    port: int | None

    @classmethod
    def of(cls, request: IRequest, port: int | None, moment: datetime) -> Facts:
        """
        Those of a request.
        """
        identity = request.identity
        if identity.method == Method.NONE:
            method = NONE if identity.isAnonymous else CERTIFICATE
        else:
            method = _BY_OCTET.get(identity.method, f"{identity.method:02x}")
        return cls(
            identity.name,
            identity.groups,
            _plain(request.client),
            _plain(request.listener),
            request.command,
            method,
            moment,
            port,
        )


def _plain(address: Address) -> Address:
    ip = address.ip
    return address if ip is None else Address(unmapped(ip), address.port)


@attrs.frozen
class Ranges:
    """
    Whole numbers, as ranges.

    @ivar all: The first and last of each, in the order in which they were given.
    """

    all: tuple[tuple[int, int], ...]

    def __contains__(self, number: int) -> bool:
        return any(first <= number <= last for first, last in self.all)

    def cover(self, other: Ranges) -> bool:
        """
        Whether all numbers of others are in these.
        """
        return all(self._coverOne(first, last) for first, last in other.all)

    def _coverOne(self, first: int, last: int) -> bool:
        for start, end in sorted(self.all):
            if start <= first <= end:
                first = end + 1
        return first > last

    def __str__(self) -> str:
        return ",".join(
            str(first) if first == last else f"{first}-{last}"
            for first, last in self.all
        )


@attrs.frozen
class Clients:
    """
    Where clients are.

    @ivar onUnix: Whether those on UNIX sockets are meant too.
    """

    networks: Networks
    onUnix: bool = False

    def __contains__(self, client: Address) -> bool:
        return self.onUnix if client.ip is None else client.ip in self.networks

    def cover(self, other: Clients) -> bool:
        """
        Whether all of others are in these.
        """
        return self.networks.cover(other.networks.all) and (
            self.onUnix or not other.onUnix
        )

    def __str__(self) -> str:
        texts = [networkText(network) for network in self.networks.all]
        return _listed([*texts, *(["unix"] if self.onUnix else [])])


@attrs.frozen
class Listeners:
    """
    Addresses of ours.

    @ivar all: Host and port of each; L{None} is any.
    """

    all: frozenset[tuple[object, int | None]]

    def __contains__(self, listener: Address) -> bool:
        host, port = listener.host, listener.port
        return not self.all.isdisjoint(((host, port), (host, None), (None, port)))

    def cover(self, other: Listeners) -> bool:
        """
        Whether all of others are in these.
        """
        return all(
            not self.all.isdisjoint((one, (one[0], None), (None, one[1])))
            for one in other.all
        )

    def __str__(self) -> str:
        return _listed(
            f"{'' if host is None else host}{'' if port is None else f':{port}'}"
            for host, port in self.all
        )


@attrs.frozen
class Conditions:
    """
    All that is there must hold; what is L{None} is not asked.

    @ivar times: Minutes of the day.
    @ivar weekdays: 0 is Monday.
    """

    user: frozenset[str] | None = None
    group: frozenset[str] | None = None
    client: Clients | None = None
    listener: Listeners | None = None
    command: frozenset[int] | None = None
    port: Ranges | None = None
    method: frozenset[str] | None = None
    times: Ranges | None = None
    weekdays: frozenset[int] | None = None

    def failing(self, facts: Facts) -> str:
        """
        The key of the first that does not hold, as it is called in files; none
        if all hold.  A port that is not known is none that is asked for.
        """
        key = self.failingBesidesPort(facts)
        if key or self.port is None:
            return key
        return "" if facts.port is not None and facts.port in self.port else "port"

    def failingBesidesPort(self, facts: Facts) -> str:
        """
        The same, for any port.
        """
        if self.user is not None and facts.user not in self.user:
            return "user"
        if self.group is not None and self.group.isdisjoint(facts.groups):
            return "group"
        if self.client is not None and facts.client not in self.client:
            return "from"
        if self.listener is not None and facts.listener not in self.listener:
            return "listener"
        if self.command is not None and facts.command not in self.command:
            return "command"
        if self.method is not None and facts.method not in self.method:
            return "method"
        moment = facts.moment
        if (
            self.times is not None
            and moment.hour * 60 + moment.minute not in self.times
        ):
            return "time"
        if self.weekdays is not None and moment.weekday() not in self.weekdays:
            return "weekday"
        return ""

    def cover(self, other: Conditions) -> bool:
        """
        Whether these hold wherever others do.
        """
        return all(
            mine is None
            or (
                theirs is not None
                and (
                    theirs <= mine
                    if isinstance(mine, frozenset)
                    else mine.cover(theirs)
                )
            )
            for mine, theirs in zip(_values(self), _values(other), strict=True)
        )

    def __str__(self) -> str:
        texts = {
            "user": self.user and _listed(self.user),
            "group": self.group and _listed(self.group),
            "from": self.client,
            "listener": self.listener,
            "command": self.command
            and _listed(_BY_CODE.get(code, f"{code:02x}") for code in self.command),
            "port": self.port,
            "method": self.method and _listed(self.method),
            "time": self.times and ",".join(map(_timeText, self.times.all)),
            "weekday": self.weekdays
            and ",".join(WEEKDAYS[day] for day in sorted(self.weekdays)),
        }
        return " ".join(f"{key}={text}" for key, text in texts.items() if text)


def _values(conditions: Conditions) -> tuple[Any, ...]:
    return attrs.astuple(conditions, recurse=False)


def _timeText(minutes: tuple[int, int]) -> str:
    first, end = minutes[0], minutes[1] + 1
    return f"{first // 60:02}:{first % 60:02}-{end // 60:02}:{end % 60:02}"


def _listed(texts: Iterable[str]) -> str:
    inOrder = sorted(texts)
    more = [f"+{len(inOrder) - 4}"] if len(inOrder) > 5 else inOrder[4:]
    return ",".join(inOrder[:4] + more)
