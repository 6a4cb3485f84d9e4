# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What workers log, in the log of the supervisor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogPublisher,
    eventAsJSON,
    eventFromJSON,
)
from zope.interface import implementer

from twisted_socks5.service.workers.messages import PART

_ROOM = 10000
"""
How many events wait at most for the supervisor to take them.
"""


@implementer(ILogObserver)
class Forwarder:
    """
    Passes the events of a worker on, as long as there is room for them.

    @ivar dropped: How many there was no room for so far.
    """

    def __init__(self, number: int) -> None:
        """
        @param number: The worker's.
        """
        self._number = number
        self._send: Callable[[bytes, int], Deferred[Any]] | None = None
        self._lines: deque[bytes] = deque()
        self.dropped = self._toldDropped = 0
        self._sending: Deferred[Any] | None = None
        self._emptied: list[Deferred[None]] = []

    def __call__(self, event: LogEvent) -> None:
        """
        Take an event.
        """
        if len(self._lines) >= _ROOM:
            self.dropped += 1
            return
        try:
            line = eventAsJSON(event).encode()
        except Exception:  # it cannot be told to others
            line = b""
        if not 0 < len(line) < PART:
            self.dropped += 1
            return
        self._lines.append(line)
        self._next()

    def begin(self, send: Callable[[bytes, int], Deferred[Any]]) -> None:
        """
        Pass on what has come, and what comes.

        @param send: Takes lines, and how many were dropped; its result fires when
            more of them can be taken.
        """
        self._send = send
        self._next()

    def whenEmpty(self) -> Deferred[None]:
        """
        Wait until everything was passed on.
        """
        waiting: Deferred[None] = Deferred(lambda it: self._emptied.remove(it))
        self._emptied.append(waiting)
        self._next()
        return waiting

    def _next(self) -> None:
        if self._send is None or self._sending is not None:
            return
        if not self._lines:
            waiting, self._emptied = self._emptied, []
            for each in waiting:
                each.callback(None)
            return
        dropped, self._toldDropped = self.dropped - self._toldDropped, self.dropped
        self._sending = self._send(b"\n".join(self._batch()), dropped)
        self._sending.addCallbacks(self._sent, self._lost)

    def _batch(self) -> Iterator[bytes]:
        size = 0
        while self._lines and size + len(self._lines[0]) < PART:
            size += len(self._lines[0]) + 1
            yield self._lines.popleft()

    def _sent(self, result: object) -> None:
        self._sending = None
        self._next()

    def _lost(self, failure: object) -> None:
        self._send = None  # there is nobody who would take them


def logForwarded(publisher: LogPublisher, number: int, lines: bytes) -> None:
    """
    Log what a worker has passed on.

    @param number: The worker's.
    """
    for line in lines.split(b"\n"):
        event = eventFromJSON(line.decode())
        event["worker"] = number
        event["log_system"] = f"{_system(event)} worker {number}"
        publisher(event)


def _system(event: LogEvent) -> str:
    """
    What the log calls the part of the program that an event is from.
    """
    system: str | None = event.get("log_system")
    if system is not None:
        return system
    level = getattr(event.get("log_level"), "name", "-")
    return f"{event.get('log_namespace', '-')}#{level}"
