# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
How late the reactor does what is due: whatever takes long in it makes all wait.
"""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_socks5.observe.counts import Histogram

EVERY = 0.5
"""
How often it is measured, in seconds.
"""


class ReactorLag:
    """
    Measures by how much the reactor is late.
    """

    def __init__(self, reactor: IReactorTime, lag: Histogram) -> None:
        self._reactor = reactor
        self._lag = lag
        self._due = 0.0
        self._call: IDelayedCall | None = None

    def start(self) -> None:
        """
        Begin.
        """
        self._due = self._reactor.seconds() + EVERY
        self._call = self._reactor.callLater(EVERY, self._measure)

    def stop(self) -> None:
        """
        Stop it.
        """
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _measure(self) -> None:
        self._lag.add(max(0.0, self._reactor.seconds() - self._due))
        self.start()
