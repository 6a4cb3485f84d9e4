# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What was said, by the names of options, and what it comes to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import attrs

from twisted_socks5.policy.rulesfile import RulesFile
from twisted_socks5.service.configuration import (
    Access,
    Configuration,
    ListenerSettings,
    Said,
)
from twisted_socks5.service.endpoints import describe
from twisted_socks5.service.metrics import statusEndpoint
from twisted_socks5.service.overlap import refuseOverlap
from twisted_socks5.settings import Limits, Settings

_CHOICES = {"access-log": ("text", "json", "off"), "relay": ("auto", "portable")}


@attrs.frozen
class OptionKinds:
    """
    The options that have keys of the same name.

    @ivar texts: What is said once.
    @ivar lists: What may be said several times.
    @ivar flags: What is so or not.
    """

    texts: tuple[str, ...]
    lists: tuple[str, ...]
    flags: tuple[str, ...]


@attrs.frozen
class Sayings:
    """
    What was said, by the names of options, of the server or of one listener.

    @ivar rules: The rules, wherever they are written.
    @ivar limits: Those of a listener, if there are any.
    """

    texts: dict[str, Said] = attrs.field(factory=dict)
    lists: dict[str, tuple[Said, ...]] = attrs.field(factory=dict)
    flags: dict[str, bool] = attrs.field(factory=dict)
    rules: RulesFile | None = None
    limits: Limits | None = None

    def over(self, other: Sayings) -> Sayings:
        """
        This, and of another one what is not said here.
        """
        return Sayings(
            other.texts | self.texts,
            other.lists | self.lists,
            other.flags | self.flags,
            self.rules or other.rules,
        )

    @property
    def access(self) -> Access:
        """
        Who is let in, and who may go where.
        """
        return Access(
            self.texts["policy"],
            self.lists.get("auth", ()),
            self.lists.get("authenticator", ()),
            self.rules,
            self.flags.get("open", False),
        )


def configurationOf(
    server: Sayings,
    listeners: Sequence[Sayings],
    settings: Settings,
    places: Mapping[str, Said],
) -> Configuration:
    """
    What it comes to.

    @param server: Of the server; of its texts, all that have a default are there.
    @param listeners: Of those that have something of their own to say.
    @param places: Where settings are said, by their keys.
    @raise ValueError: Something is wrong with it; the text says what.
    """
    for option, choices in _CHOICES.items():
        if server.texts[option].text not in choices:
            expected = ", ".join(choices[:-1])
            raise server.texts[option].fail(f"expected {expected} or {choices[-1]}")
    interface, ports = server.texts["interface"], server.lists.get("port", ())
    if not ports and not listeners:
        # If it cannot be listened at, that is for the interface.
        ports = (
            Said("1080", "--port" if interface.isOnCommandLine else interface.where),
        )
    served = (
        *(ListenerSettings(describe(port, interface), server.access) for port in ports),
        *(_listenerOf(own, server) for own in listeners),
    )
    status = statusEndpoint(server.texts)
    refuseOverlap(
        [*(one.endpoint for one in served), *([] if status is None else [status])]
    )
    return Configuration(
        server.access,
        served,
        route=server.texts.get("route"),
        command=server.lists.get("command", ()),
        relay=server.texts["relay"].text,
        accessLog=server.texts["access-log"].text,
        workers=_countWorkers(server.texts["workers"]),
        texts=server.texts,
        settings=settings,
        places=places,
    )


def _listenerOf(own: Sayings, server: Sayings) -> ListenerSettings:
    sayings = own.over(server)
    if own.lists:  # who is let in here is said as a whole
        sayings = attrs.evolve(sayings, lists=own.lists)
    endpoint = describe(own.texts["endpoint"], sayings.texts["interface"])
    return ListenerSettings(endpoint, sayings.access, own.limits)


def _countWorkers(said: Said) -> int:
    """
    How many workers a value of C{--workers} asks for.

    @raise ValueError: None.
    """
    text = said.text
    if text == "auto":
        return len(os.sched_getaffinity(0))
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 256:
        raise said.fail("expected a number from 1 to 256, or auto")
    return int(text)
