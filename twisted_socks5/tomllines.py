# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Where things are in a TOML file: C{tomllib} does not tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# Strings, comments, line ends, marks, anything else.
_WORD = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|\n"
    r"|[\[\]{},=]"
    r"|[^\S\n]+"
    r"|[^\s\[\]{},=\"'#]+",
    re.DOTALL,
)


class TOMLLines:
    """
    The lines, counted from 1, of a text that is TOML.
    """

    def __init__(self, text: str) -> None:
        self._headers: dict[tuple[str, int], int] = {}
        self._keys: dict[tuple[str, int, str], int] = {}
        self._items: dict[tuple[str, int, str], list[int]] = {}
        table, counts = "", {"": 0}
        self._headers["", 0] = 1
        for statement in _statements(text):
            line = statement[0][0]
            words = [word for _, word in statement]
            if words[0] == "[":
                table = "".join(words).strip("[]")
                counts[table] = counts.get(table, -1) + 1
                self._headers[table, counts[table]] = line
            elif "=" in words:
                end = words.index("=")
                place = (table, counts[table], "".join(words[:end]).strip("\"'"))
                self._keys[place] = line
                self._items[place] = list(_itemLines(statement[end + 1 :]))

    def of(self, table: str, index: int = 0, key: str = "", item: int = -1) -> int:
        """
        The line of a table, of one of its keys, or of an item in that key's list.

        @param table: Its name as in its header; empty is the top.
        @param index: Counts from 0 among tables of the same name.
        @param item: Counts from 0; -1 is none.
        """
        place = (table, index, key)
        items = self._items.get(place, [])
        if 0 <= item < len(items):
            return items[item]
        if place in self._keys:
            return self._keys[place]
        if (table, index) in self._headers or not table:
            return self._headers.get((table, index), 1)
        # A table without a header: with dots or braces in the one above.
        above, _, name = table.rpartition(".")
        dotted = self.of(above, 0, f"{name}.{key}") if key else 0
        return dotted if dotted > self.of(above) else self.of(above, 0, name)


def _statements(text: str) -> Iterator[list[tuple[int, str]]]:
    """
    Headers, and keys with their values: their words, with the line of each.
    """
    line, depth = 1, 0
    statement: list[tuple[int, str]] = []
    for found in _WORD.finditer(text):
        word = found[0]
        if word == "\n":
            if depth <= 0 and statement:
                yield statement
                statement, depth = [], 0
        elif not word.isspace() and not word.startswith("#"):
            statement.append((line, word))
            depth += (word in "[{") - (word in "]}")
        line += word.count("\n")
    if statement:
        yield statement


def _itemLines(words: list[tuple[int, str]]) -> Iterator[int]:
    depth = 0
    for line, word in words:
        if word in "]}":
            depth -= 1
        elif word in "[{":
            depth += 1
        elif depth == 1 and word != ",":
            yield line
