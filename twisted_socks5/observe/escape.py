# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Text of unknown origin, for a log of one line an event.
"""

from __future__ import annotations

from collections.abc import Mapping


def escape(text: str | bytes) -> str:
    """
    The same in printable ASCII, on one line, without quotes: anything else
    becomes C{\\xNN}, C{\\uNNNN} or C{\\UNNNNNNNN}.
    """
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(
        character
        if " " <= character <= "~" and character not in '"\\'
        else _escaped(ord(character))
        for character in text
    )


def _escaped(code: int) -> str:
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def onOneLine(problem: object) -> str:
    """
    What is told of something, on one line: what cannot be printed is written as
    Python does.
    """
    return "".join(
        each if each.isprintable() else repr(each)[1:-1] for each in str(problem)
    )


def pairs(fields: Mapping[str, object]) -> str:
    """
    C{key=value} pairs with blanks between them, a text with blanks, or without
    anything, in double quotes.

    @param fields: Texts that came from elsewhere must be escaped.
    """
    return " ".join(
        f'{key}="{value}"'
        if isinstance(value, str) and (" " in value or not value)
        else f"{key}={value}"
        for key, value in fields.items()
    )
