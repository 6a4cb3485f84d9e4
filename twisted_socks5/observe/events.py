# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Events as lines, text or JSON, each on one line whatever is in it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    eventAsText,
    formatTime,
)
from zope.interface import implementer

from twisted_socks5.observe.writer import Line, LogWriter

_OURS = "twisted_socks5"
_READY = "{line}"  # the text was made by whoever has logged it

_SEVERITIES = {
    LogLevel.debug: 7,
    LogLevel.info: 6,
    LogLevel.warn: 4,
    LogLevel.error: 3,
    LogLevel.critical: 2,
}

# Whatever might end a line, or change a terminal's mood.
_FOLDED = {
    code: f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
} | {ord("\n"): "\\n", ord("\t"): "\\t"}


class Stamp:
    """
    Times as the log has them: whole seconds, each made only once.
    """

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(self, when: float | None) -> str:
        """
        A time of the epoch, as local time with its offset.
        """
        second = int(time.time() if when is None else when)
        if second != self._second:
            self._text = formatTime(second)
            self._second = second
        return self._text


def describeAsText(isTimed: bool) -> Callable[[LogEvent], Line | None]:
    """
    Events as C{twistd} writes them, on one line.

    @param isTimed: Whether the destination adds the time by itself; then there is
        no namespace or level either, and the fields go beside the text.
    """
    formatTime = Stamp()

    def describe(event: LogEvent) -> Line | None:
        text = _textOf(event)
        if not text:
            return None
        level = event.get("log_level") or LogLevel.info
        if isTimed:
            return Line(text, _SEVERITIES[level], _fieldsOf(event))
        system = event.get("log_system")
        if system is None:
            system = f"{event.get('log_namespace', '-')}#{level.name}"
        when = formatTime(event.get("log_time"))
        return Line(f"{when} [{_fold(str(system))}] {text}", _SEVERITIES[level])

    return describe


def describeAsJSON(isTimed: bool) -> Callable[[LogEvent], Line | None]:
    """
    Events as JSON objects, with the fields of ours.

    @param isTimed: Whether the destination adds the time by itself.
    """
    formatTime = Stamp()

    def describe(event: LogEvent) -> Line | None:
        text = _textOf(event)
        if not text:
            return None
        level = event.get("log_level") or LogLevel.info
        fields = _fieldsOf(event)
        described: dict[str, Any] = {}
        if not isTimed:
            described["time"] = formatTime(event.get("log_time"))
        described["level"] = level.name
        described["namespace"] = str(event.get("log_namespace", "-"))
        system = event.get("log_system", "-")
        if system != "-":  # that of a worker, or of an old way to log
            described["system"] = str(system)
        if event.get("log_format") != _READY:  # else the fields say it all
            described["text"] = text
        described |= fields
        line = json.dumps(described, separators=(",", ":"))
        return Line(line, _SEVERITIES[level], fields)

    return describe


def _textOf(event: LogEvent) -> str:
    if event.get("log_format") == _READY:
        return str(event["line"])
    text = eventAsText(event, includeTimestamp=False, includeSystem=False)
    return _fold(text.rstrip("\n"))


def _fold(text: str) -> str:
    return text if text.isascii() and text.isprintable() else text.translate(_FOLDED)


def _fieldsOf(event: LogEvent) -> dict[str, object]:
    """
    What ours say beside their text.  Of others it is not known what is in theirs.
    """
    if not str(event.get("log_namespace", "")).startswith(_OURS):
        return {}
    return {
        key: value
        for key, value in event.items()
        if isinstance(value, str | int | float)
        and not key.startswith("log_")
        and key != "line"
    }


@implementer(ILogObserver)
class WritingObserver:
    """
    Has events written.
    """

    def __init__(
        self, writer: LogWriter, describe: Callable[[LogEvent], Line | None]
    ) -> None:
        self._writer = writer
        self._describe = describe

    def __call__(self, event: LogEvent) -> None:
        """
        Have an event written, if there is anything to say of it.
        """
        line = self._describe(event)
        if line is not None:
            self._writer.put(line)
