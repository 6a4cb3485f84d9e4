# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
How late the reactor does what is due: whatever takes long in it makes all wait.
"""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_socks5.observe.counts import Histogram

EVERY = 0.5
"""
How often it is measured, in seconds.
"""


class ReactorLag(Service):
    """
    Measures by how much the reactor is late.
    """

    def __init__(self, reactor: IReactorTime, lag: Histogram) -> None:
        self._reactor = reactor
        self._lag = lag
        self._due = 0.0
        self._call: IDelayedCall | None = None

    def startService(self) -> None:
        """
        Begin.
        """
        Service.startService(self)
        self._await()

    def stopService(self) -> None:
        """
        Stop it.
        """
        Service.stopService(self)
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _await(self) -> None:
        self._due = self._reactor.seconds() + EVERY
        self._call = self._reactor.callLater(EVERY, self._measure)

    def _measure(self) -> None:
        self._lag.add(max(0.0, self._reactor.seconds() - self._due))
        self._await()
