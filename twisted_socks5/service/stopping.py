# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The signals that stop a server: one gently, a second one at once.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.logger import Logger

_log = Logger(namespace="twisted_socks5")


class StopSignals:
    """
    SIGTERM and SIGINT.  The first one does what it did before, which is to stop the
    reactor; the reactor cannot be stopped twice.

    @ivar isStopping: Whether the next one is the second one.
    """

    def __init__(self, reactor: Any, hurry: Callable[[], None]) -> None:
        """
        @param hurry: Called when a second one comes.
        """
        self._reactor = reactor
        self._hurry = hurry
        self._before: dict[int, Callable[[int, FrameType | None], object]] = {}
        self.isStopping = False

    def take(self) -> None:
        """
        Take them, after the reactor has taken them.  One that is ignored stays so.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)
            if callable(before):
                self._before[number] = before
                signal.signal(number, self._came)

    def leave(self) -> None:
        """
        Leave them to whoever had them before.
        """
        while self._before:
            signal.signal(*self._before.popitem())

    def _came(self, number: int, frame: FrameType | None) -> None:
        if self.isStopping:
            self._reactor.callFromThread(self._again)
        else:
            self.isStopping = True
            self._before[number](number, frame)

    def _again(self) -> None:
        _log.info("told to stop once more: at once, then")
        self._hurry()
