# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Configuration keys: how operators call what L{twisted_socks5.settings} defines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, TypeAlias

import attrs

from twisted_socks5.elsewhere import NOT_AS_EXPECTED
from twisted_socks5.service.configuration import Said
from twisted_socks5.settings import Amount, Ports, Settings
from twisted_socks5.tomltable import Table, shown

_Values: TypeAlias = dict[str, dict[str, Any]]
_SECTIONS: dict[str, type[Any]] = {
    section.name: type(section.default) for section in attrs.fields(Settings)
}


def _key(section: str, field: str) -> str:
    """
    C{("timeout", "halfClosed")} is called C{timeout.half-closed}.
    """
    dashed = re.sub("[A-Z]", lambda upper: "-" + upper.group().lower(), field)
    return f"{section}.{dashed}"


SECTIONS = tuple(_SECTIONS)
"""
What the keys begin with, before the dot: tables of a file.
"""

KEYS: dict[str, tuple[str, attrs.Attribute[Any]]] = {
    _key(section, field.name): (section, field)
    for section, kind in _SECTIONS.items()
    for field in attrs.fields(kind)
}
"""
Each key, with its section and field.
"""


def describeKeys() -> str:
    """
    All keys with their defaults, in a line.
    """
    return ", ".join(
        f"{key}={field.default:g}"
        if isinstance(field.default, int | float)
        else f"{key}={field.default}"
        for key, (_, field) in KEYS.items()
    )


def parseSettings(
    assignments: Iterable[str], settings: Settings | None = None
) -> Settings:
    """
    Make settings of C{KEY=VALUE} texts; the last one of a key counts.

    @param settings: What is so where they say nothing.
    @raise ValueError: A key is unknown or a value is wrong; the text says what
        was expected.
    """
    values: _Values = {section: {} for section in _SECTIONS}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"{assignment}: expected KEY=VALUE")
        section, field = _find(key)
        values[section][field.name] = _parse(key, text, field)
    return _withValues(settings or Settings(), values)


def _withValues(settings: Settings, values: _Values) -> Settings:
    return attrs.evolve(
        settings,
        **{
            section: attrs.evolve(getattr(settings, section), **some)
            for section, some in values.items()
        },
    )


def readSettings(top: Table) -> tuple[Settings, dict[str, Said]]:
    """
    Take settings from the top of a file, where each section is a table.

    @return: They, and where each was said, by its key.
    @raise TOMLFileError: A key is unknown, or a value is wrong.
    """
    values: _Values = {}
    places: dict[str, Said] = {}
    for section in _SECTIONS:
        fields = {
            key.partition(".")[2]: field
            for key, (name, field) in KEYS.items()
            if name == section
        }
        table = top.inner(section, tuple(fields))
        if table is not None:
            table.checkKeys()
            values[section] = {}
            for key in table.content:
                value, isSecret = _take(table, key, fields[key])
                values[section][fields[key].name] = value
                places[f"{section}.{key}"] = Said(
                    str(value), table.where(key), table.file.folder, isSecret
                )
    return _withValues(Settings(), values), places


def placesOf(assignments: Iterable[str], folder: str) -> dict[str, Said]:
    """
    Where C{KEY=VALUE} texts say what they say, by their keys.

    @param folder: Where relative paths in them begin.
    """
    return {
        key: Said(text, f"--set {key}", folder)
        for key, _, text in (one.partition("=") for one in assignments)
    }


def _take(table: Table, key: str, field: attrs.Attribute[Any]) -> tuple[Any, bool]:
    """
    @return: The value, and whether it came from elsewhere.
    """
    kind: Any = type(field.default)
    if kind is bool:
        return table.flag(key), False
    value, isSecret = table.content[key], False
    if kind not in (int, float):
        value, isSecret = table.fetched(key, value)
    try:
        taken = _typed(kind, value)
        if field.validator is not None:
            field.validator(None, field, taken)
    except ValueError as error:
        problem = str(error)
        if shown(value) not in problem:
            problem += f", not {shown(value)}"
        table.fail(key, NOT_AS_EXPECTED if isSecret else problem)
    if hasattr(kind, "within"):
        taken = taken.within(table.file.folder)
    return taken, isSecret


def _typed(kind: Any, value: Any) -> Any:
    """
    A value of a file, as a setting of a kind.

    @raise ValueError: It is none.
    """
    isNumber = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int and not (isNumber and isinstance(value, int)):
        raise ValueError("expected a whole number")
    if kind is float and not isNumber:
        raise ValueError("expected a number of seconds")
    if kind in (int, float):
        return value
    if not isinstance(value, str):
        mayBeNumber = kind in (Amount, Ports)
        if not (isNumber and mayBeNumber):
            raise ValueError(f"expected a {'number or a ' if mayBeNumber else ''}text")
    return kind.fromText(str(value)) if hasattr(kind, "fromText") else value


def _find(key: str) -> tuple[str, attrs.Attribute[Any]]:
    if key in KEYS:
        return KEYS[key]
    close = get_close_matches(key, KEYS, 1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(KEYS)}"
    raise ValueError(f"unknown key {key}: {hint}")


def _parse(key: str, text: str, field: attrs.Attribute[Any]) -> Any:
    try:
        value = _read(type(field.default), text)
        if field.validator is not None:
            field.validator(None, field, value)
    except ValueError as error:
        raise ValueError(f"{key}={text}: {error}") from None
    return value


def _read(kind: Any, text: str) -> Any:
    if hasattr(kind, "fromText"):
        return kind.fromText(text)
    try:
        if not text.isascii() or "_" in text:  # Python's own way of writing numbers
            raise ValueError
        return kind(text)
    except ValueError:
        expected = "a whole number" if kind is int else "a number of seconds"
        raise ValueError(f"expected {expected}") from None
