# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Beginning again what has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

FIRST = 0.1
"""
How many seconds after its end something is begun again.
"""

MOST = 30.0
"""
How many seconds pass at most; each time that it ends soon, they double.
"""

LONG = 60.0
"""
What has lasted so many seconds has not ended soon.
"""


class KeptAlive:
    """
    Something that is begun again whenever it has ended, later and later if it ends
    soon.
    """

    def __init__(self, reactor: Any, begin: Callable[[], Deferred[Any]]) -> None:
        """
        @param begin: Begins it; the result fires when it has ended.
        """
        self._reactor = reactor
        self._begin = begin
        self._delay = FIRST
        self._waiting: IDelayedCall | None = None
        self._isStopped = False

    def start(self) -> None:
        """
        Begin it.
        """
        self._waiting = None
        began = self._reactor.seconds()
        self._begin().addBoth(lambda _: self._ended(self._reactor.seconds() - began))

    def stop(self) -> None:
        """
        Do not begin it any more.
        """
        self._isStopped = True
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _ended(self, lasted: float) -> None:
        if self._isStopped:
            return
        if lasted >= LONG:
            self._delay = FIRST
        self._waiting = self._reactor.callLater(self._delay, self.start)
        self._delay = min(2 * self._delay, MOST)
