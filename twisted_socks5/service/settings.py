# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Configuration keys: how operators call what L{twisted_socks5.settings} defines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from os.path import abspath, dirname
from typing import Any, TypeAlias

import attrs

from twisted_socks5.settings import Settings
from twisted_socks5.tomltable import Table

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


def readSettings(top: Table) -> Settings:
    """
    Take settings from the top of a file, where each section is a table.

    @raise TOMLFileError: A key is unknown, or a value is wrong.
    """
    values: _Values = {}
    for section in _SECTIONS:
        fields = {
            key.partition(".")[2]: field
            for key, (name, field) in KEYS.items()
            if name == section
        }
        table = top.inner(section, tuple(fields))
        if table is not None:
            table.checkKeys()
            values[section] = {
                fields[key].name: _take(table, key, fields[key])
                for key in table.content
            }
    return _withValues(Settings(), values)


def _take(table: Table, key: str, field: attrs.Attribute[Any]) -> Any:
    value = table.content[key]
    kind: Any = type(field.default)
    if kind is bool:
        return table.flag(key)
    isNumber = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        if hasattr(kind, "fromText"):
            if not isNumber and not isinstance(value, str):
                raise ValueError(f"expected a text, not {value!r}")
            value = kind.fromText(str(value))
        elif kind is str and not isinstance(value, str):
            raise ValueError(f"expected a text, not {value!r}")
        elif kind is int and not (isNumber and isinstance(value, int)):
            raise ValueError(f"expected a whole number, not {value!r}")
        elif kind is float and not isNumber:
            raise ValueError(f"expected a number of seconds, not {value!r}")
        if field.validator is not None:
            field.validator(None, field, value)
    except ValueError as error:
        table.fail(key, error)
    if hasattr(kind, "within"):
        value = value.within(dirname(abspath(table.file.path)))
    return value


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
