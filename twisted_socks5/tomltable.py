# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Files that people write in TOML, read so that whatever is not exactly as expected
is an error, which tells the line.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from difflib import get_close_matches
from os.path import abspath, dirname
from typing import Any, NoReturn, TypeVar

import attrs

from twisted_socks5.elsewhere import EXPECTED, NOT_AS_EXPECTED, textFrom
from twisted_socks5.observe.escape import onOneLine
from twisted_socks5.tomllines import TOMLLines

_Value = TypeVar("_Value")


class TOMLFileError(ValueError):
    """
    A file is not as expected.  Its text is one line, with the file, the line, and
    what was expected.
    """


class NoTOMLFile(TOMLFileError):
    """
    There is no such file, or it cannot be read.
    """


@attrs.frozen
class TOMLFile:
    """
    A file.

    @ivar path: What to call it in errors.
    @ivar lines: Where things are in it.
    @ivar content: What C{tomllib} has made of it.
    """

    path: str
    lines: TOMLLines
    content: dict[str, Any]

    @classmethod
    def load(cls, path: str) -> TOMLFile:
        """
        Read a file.

        @raise TOMLFileError: It cannot be read, or is no TOML.
        """
        try:
            with open(path, "rb") as file:
                text = file.read().decode("utf-8")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise TOMLFileError(f"{path}:{line}: expected UTF-8") from None
        except (OSError, ValueError) as error:  # of a path with a NUL
            problem = getattr(error, "strerror", None) or error
            raise NoTOMLFile(f"{path}: {problem}") from None
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: str, path: str) -> TOMLFile:
        """
        Read the text of a file.

        @raise TOMLFileError: It is no TOML.
        """
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = re.fullmatch(
                r"(.*) \(at (?:line (\d+), .*|end of document)\)", str(error)
            )
            what, line = found.groups() if found else (str(error), None)
            raise TOMLFileError(
                f"{path}:{line or text.count(chr(10)) + 1}: no TOML: {what}"
            ) from None
        except RecursionError:
            raise TOMLFileError(f"{path}:1: no TOML that is known: too deep") from None
        return cls(path, TOMLLines(text.replace("\r\n", "\n")), content)

    @property
    def folder(self) -> str:
        """
        Where relative paths in it begin.
        """
        return dirname(abspath(self.path))

    def top(self, known: tuple[str, ...]) -> Table:
        """
        What stands above all tables, and the tables as its keys.

        @param known: The keys that it may have.
        """
        return Table(self, "", 0, self.content, known)


@attrs.frozen
class Table:
    """
    A table, whose values are read with errors that tell where.

    @ivar file: The file that it is in.
    @ivar name: Its name as in its header; empty is the top.
    @ivar index: Counts from 0 among tables of the same name.
    @ivar content: What C{tomllib} has made of it.
    @ivar known: The keys that it may have.
    @ivar path: What errors put in front of its keys.
    """

    file: TOMLFile
    name: str
    index: int
    content: dict[str, Any]
    known: tuple[str, ...]
    path: str = ""

    @property
    def line(self) -> int:
        """
        Where it begins.
        """
        return self.file.lines.of(self.name, self.index)

    def where(self, key: str, item: int = -1) -> str:
        """
        How errors call a key.

        @param item: The place in a list, from 0; -1 is none.
        """
        line = self.file.lines.of(self.name, self.index, key, item)
        return f"{self.file.path}:{line}: {self.path}{key}"

    def fail(self, key: str, problem: object, item: int = -1) -> NoReturn:
        """
        Something is wrong with the value of a key; an empty one is the table.

        @param item: The place in a list, from 0; -1 is none.
        @raise TOMLFileError: Always.
        """
        line = self.file.lines.of(self.name, self.index, key, item)
        label = f"{self.path}{key}: " if key in self.known else ""
        raise TOMLFileError(f"{self.file.path}:{line}: {label}{onOneLine(problem)}")

    def inner(self, key: str, known: tuple[str, ...]) -> Table | None:
        """
        A table in this one.

        @param known: The keys that it may have.
        @raise TOMLFileError: It is none.
        """
        if key not in self.content:
            return None
        content = self.content[key]
        if not isinstance(content, dict):
            self.fail(key, f"expected a table, [{key}], not {shown(content)}")
        name = f"{self.name}.{key}" if self.name else key
        return Table(self.file, name, 0, content, known, f"{name}.")

    def checkKeys(self) -> None:
        """
        Find a key that is not known.

        @raise TOMLFileError: There is one.
        """
        for key in self.content:
            if key not in self.known:
                close = get_close_matches(key, self.known, 1)
                hint = f"did you mean {close[0]}? " if close else ""
                self.fail(
                    key, f"unknown key {key!r}: {hint}expected {', '.join(self.known)}"
                )

    def fetched(self, key: str, value: Any, item: int = -1) -> tuple[Any, bool]:
        """
        A value that may be a text elsewhere: C{{ env = "NAME" }},
        C{{ file = "PATH" }}.

        @param value: What the key, or the item of its list, has.
        @return: That, or the text, and whether it is one from elsewhere, which is not
            to be shown.
        @raise TOMLFileError: There is none.
        """
        if not isinstance(value, dict):
            return value, False
        try:
            return textFrom(value, self.file.folder), True
        except ValueError as error:
            self.fail(key, error, item)

    def oneFromAnywhere(self, key: str, read: Callable[[str], _Value]) -> _Value | None:
        """
        A text of which there is one, and which may be elsewhere.

        @param read: Takes it, and raises L{ValueError} if it is wrong.
        @raise TOMLFileError: It is not as expected.
        """
        if not isinstance(self.content.get(key), dict):
            return self.one(key, EXPECTED, read)
        text, _ = self.fetched(key, self.content[key])
        try:
            return read(text)
        except ValueError:
            self.fail(key, NOT_AS_EXPECTED)

    def one(
        self, key: str, expected: str, read: Callable[[Any], _Value]
    ) -> _Value | None:
        """
        A value of which there is one.

        @param expected: What to call it in errors; beginning with "a number", it
            is a number.
        @param read: Takes it, and raises L{ValueError} if it is wrong.
        @raise TOMLFileError: It is not as expected.
        """
        if key not in self.content:
            return None
        value = self.content[key]
        isNumber = expected.startswith("a number")
        if not isinstance(value, int if isNumber else str) or isinstance(value, bool):
            self.fail(key, f"expected {expected}, not {shown(value)}")
        try:
            return read(value)
        except ValueError as error:
            self.fail(key, error)

    def flag(self, key: str) -> bool | None:
        """
        Whether something is so.

        @raise TOMLFileError: It is neither C{true} nor C{false}.
        """
        value = self.content.get(key)
        if value is not None and not isinstance(value, bool):
            self.fail(key, f"expected true or false, not {shown(value)}")
        return value

    def several(
        self, key: str, expected: str, read: Callable[[Any], _Value]
    ) -> tuple[_Value, ...] | None:
        """
        A value, or a list of them.

        @raise TOMLFileError: It is not as expected.
        """
        if key not in self.content:
            return None
        content = self.content[key]
        values = content if isinstance(content, list) else [content]
        if not values:
            self.fail(key, "the list is empty; expected something, or no such key")
        found: dict[_Value, None] = {}
        for place, value in enumerate(values):
            item = place if isinstance(content, list) else -1
            mayBeNumber = expected.startswith("a number") and isinstance(value, int)
            if not (isinstance(value, str) or mayBeNumber) or isinstance(value, bool):
                self.fail(key, f"expected {expected}, not {shown(value)}", item)
            try:
                one = read(value)
            except ValueError as error:
                self.fail(key, error, item)
            if one in found:
                self.fail(key, f"{value} is there twice; expected it once", item)
            found[one] = None
        return tuple(found)


def shown(value: object) -> str:
    """
    A value as TOML has it; of what is made of several, only what that is, since it
    may have a secret inside.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a table"
    return repr(value) if isinstance(value, str) else str(value)
