# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Workers that live, and do nothing any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from twisted.internet.task import LoopingCall

_EACH = 1.0
"""
How many seconds pass from one look to the next.
"""


class IsWatched(Protocol):
    """
    A worker.

    @ivar isReady: Whether it serves, so that it has to be heard of.
    @ivar silence: For how many seconds it was not; whoever hears of it says 0.
    """

    isReady: bool
    silence: float

    def giveUp(self) -> None:
        """
        It is stuck: end it.
        """


class Watch:
    """
    Gives workers up that have not been heard of for too long.  They tell how many
    sessions they have, several times a second.

    Time is what has passed while we have looked ourselves: workers of a machine
    that was suspended, or of a supervisor that was, have done nothing wrong.

    @ivar timeout: For how many seconds a worker may be silent; 0 is for ever.  Less than
        from one look to the next cannot be told from one that is well.
    @ivar givenUp: How many were given up so far.
    """

    def __init__(
        self, reactor: Any, workers: Callable[[], Iterable[IsWatched]], timeout: float
    ) -> None:
        """
        @param workers: Tells which there are.
        """
        self._workers = workers
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor
        self.timeout = timeout
        self.givenUp = 0

    def start(self) -> None:
        """
        Begin to look.
        """
        self._looking.start(_EACH, now=False)

    def stop(self) -> None:
        """
        Look no more.
        """
        if self._looking.running:
            self._looking.stop()

    def _look(self) -> None:
        for worker in self._workers():
            if not worker.isReady:
                continue
            worker.silence += _EACH
            if self.timeout and worker.silence > max(self.timeout, _EACH):
                self.givenUp += 1
                worker.giveUp()
