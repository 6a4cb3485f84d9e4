# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Limits as they are written in files, for a rule or a listener.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import attrs

from twisted_socks5.settings import Amount, Limits

if TYPE_CHECKING:
    from twisted_socks5.tomltable import Table

_NONE = Limits(bindsPerClient=0)
"""
Without a word there is no limit, besides those of the process.
"""

_FIELDS: dict[str, attrs.Attribute[Any]] = {
    re.sub("[A-Z]", lambda upper: "-" + upper.group().lower(), field.name): field
    for field in attrs.fields(Limits)
}


def limitsOf(content: Mapping[str, object]) -> Limits:
    """
    The limits in a table, whose keys are those of C{limit.KEY}.

    @raise ValueError: They are not as expected; the text says which.
    """
    values: dict[str, int] = {}
    for key, value in content.items():
        field = _FIELDS.get(key)
        if field is None:
            close = get_close_matches(key, _FIELDS, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ValueError(
                f"unknown key {key!r}: {hint}expected {', '.join(_FIELDS)}"
            )
        try:
            values[field.name] = _read(field, value)
        except ValueError as error:
            raise ValueError(f"{key} = {value!r}: {error}") from None
    if not values:
        raise ValueError("the table is empty; expected something, or no such key")
    return attrs.evolve(_NONE, **values)


def limitsIn(table: Table) -> Limits | None:
    """
    The limits that a table has with the key C{limit}, if it has any.

    @raise TOMLFileError: They are not as expected.
    """
    content = table.content.get("limit")
    if content is None:
        return None
    if not isinstance(content, dict):
        table.fail("limit", f"expected a table, not {content!r}")
    try:
        return limitsOf(content)
    except ValueError as error:
        table.fail("limit", error)


def _read(field: attrs.Attribute[Any], value: object) -> int:
    mayBeText = isinstance(field.default, Amount)
    if mayBeText and isinstance(value, str):
        value = Amount.fromText(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(
            "expected a whole number"
            + (", or a text such as '500K' or '1.5M'" if mayBeText else "")
        )
    if value < 0:
        raise ValueError("expected 0 or more")
    assert field.validator is not None
    field.validator(None, field, value)
    return value
