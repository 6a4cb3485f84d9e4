# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The configuration file (TOML).  Whatever is not exactly as expected is an error.
"""

from __future__ import annotations

from os.path import abspath, join
from typing import Any

import attrs

from twisted_socks5.limits.written import limitsIn
from twisted_socks5.passwords.accountfile import warnOfReaders
from twisted_socks5.policy.rulesfile import (
    RULES_KEYS,
    RulesFile,
    loadRules,
    readRules,
)
from twisted_socks5.service.configuration import Said
from twisted_socks5.service.sayings import OptionKinds, Sayings
from twisted_socks5.service.settings import SECTIONS, readSettings
from twisted_socks5.settings import Settings
from twisted_socks5.tomltable import NoTOMLFile, Table, TOMLFile, shown

DEFAULT_ROUTE = "default-route"
"""
The key for C{--route}: C{route} has the tables of those that rules name.
"""

LISTENER_TEXTS = ("endpoint", "interface", "policy", "rules")
LISTENER_LISTS = ("auth", "authenticator")
LISTENER_FLAGS = ("open",)
_LISTENER_KEYS = (*LISTENER_TEXTS, *LISTENER_LISTS, *LISTENER_FLAGS, "limit")


@attrs.frozen
class ConfigurationFile:
    """
    What a file says.

    @ivar server: Of the server.
    @ivar listeners: Of each listener that has a table.
    @ivar settings: Deadlines, limits and the like.
    @ivar places: Where each of those is said that is said, by its key.
    """

    server: Sayings = attrs.field(factory=Sayings)
    listeners: tuple[Sayings, ...] = ()
    settings: Settings = attrs.field(factory=Settings)
    places: dict[str, Said] = attrs.field(factory=dict)

    @classmethod
    def load(cls, path: str, kinds: OptionKinds) -> ConfigurationFile:
        """
        Read a file.

        @param kinds: The options that have keys.
        @raise TOMLFileError: It cannot be read, or is not as expected.
        """
        path = abspath(path)
        file = TOMLFile.load(path)
        texts = tuple(DEFAULT_ROUTE if one == "route" else one for one in kinds.texts)
        top = file.top(
            (*texts, *kinds.lists, *kinds.flags, "listener", *RULES_KEYS, *SECTIONS)
        )
        top.checkKeys()
        if isinstance(top.content.get("route"), str):
            top.fail(
                "route",
                f"expected tables [route.NAME]; the server's own is {DEFAULT_ROUTE}",
            )
        reader = _Reader(file.folder)
        server = reader.read(top, OptionKinds(texts, kinds.lists, kinds.flags))
        if DEFAULT_ROUTE in server.texts:
            server.texts["route"] = server.texts.pop(DEFAULT_ROUTE)
        inline = [key for key in RULES_KEYS if key in top.content]
        if inline and server.rules is not None:
            top.fail("rules", f"expected either this or {inline[0]}, not both")
        if inline:
            server = attrs.evolve(server, rules=readRules(top))
        if any(said.name == "memory" for said in reader.seen):
            warnOfReaders(path)
        return cls(server, tuple(reader.listeners(top)), *readSettings(top))


class _Reader:
    """
    Reads the values of one file.

    @ivar seen: All texts that it has come to.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._rules: dict[str, RulesFile] = {}
        self.seen: list[Said] = []

    def listeners(self, top: Table) -> list[Sayings]:
        """
        The tables C{[[listener]]}.
        """
        tables = top.content.get("listener", [])
        if not isinstance(tables, list) or not all(
            isinstance(content, dict) for content in tables
        ):
            top.fail("listener", "expected tables, each with [[listener]] above it")
        if "listener" in top.content and not tables:
            top.fail(
                "listener", "the list is empty; expected something, or no such key"
            )
        kinds = OptionKinds(LISTENER_TEXTS, LISTENER_LISTS, LISTENER_FLAGS)
        listeners = []
        for index, content in enumerate(tables):
            table = Table(top.file, "listener", index, content, _LISTENER_KEYS)
            table.checkKeys()
            if "endpoint" not in content:
                table.fail("", "a listener without endpoint; expected one")
            sayings = self.read(table, kinds)
            listeners.append(attrs.evolve(sayings, limits=limitsIn(table)))
        return listeners

    def read(self, table: Table, kinds: OptionKinds) -> Sayings:
        """
        What a table says of options.
        """
        texts = {
            key: self._said(table, key, table.content[key])
            for key in kinds.texts
            if key in table.content
        }
        lists = {
            key: self._list(table, key) for key in kinds.lists if key in table.content
        }
        flags = {
            key: value for key in kinds.flags if (value := table.flag(key)) is not None
        }
        rules = None
        if "rules" in texts:
            rules = self._loadRules(texts["rules"])
        return Sayings(texts, lists, flags, rules)

    def _loadRules(self, said: Said) -> RulesFile:
        path = join(self._folder, said.text)
        try:
            if path not in self._rules:
                self._rules[path] = loadRules(path)
        except NoTOMLFile as error:
            raise said.fail(error, "") from None
        return self._rules[path]

    def _list(self, table: Table, key: str) -> tuple[Said, ...]:
        content = table.content[key]
        if not isinstance(content, list):
            return (self._said(table, key, content),)
        if not content:
            table.fail(key, "the list is empty; expected something, or no such key")
        found: list[Said] = []
        for place, value in enumerate(content):
            said = self._said(table, key, value, place)
            if said in found:
                table.fail(key, "this is there twice; expected it once", place)
            found.append(said)
        return tuple(found)

    def _said(self, table: Table, key: str, value: Any, item: int = -1) -> Said:
        """
        A text; some may be a number, and what is secret elsewhere:
        C{{ env = "NAME" }} or C{{ file = "PATH" }}.
        """
        isNumber = key in ("port", "endpoint", "workers", "metrics")
        value, isSecret = table.fetched(key, value, item)
        if isNumber and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            expected = "a number or a text" if isNumber else "a text"
            table.fail(key, f"expected {expected}, not {shown(value)}", item)
        if not value:
            table.fail(key, "expected something, not an empty text", item)
        said = Said(value, table.where(key, item), self._folder, isSecret)
        self.seen.append(said)
        return said
