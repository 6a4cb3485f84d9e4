# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Noticing that a peer has reset a connection of which nothing is expected, so that
the reactor watches its socket for nothing.
"""

from __future__ import annotations

import select
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

_INTERVAL = 1.0
"""
How long a reset may go unnoticed, in seconds.
"""


class Resettable(Protocol):
    """
    Whose connection may be reset.
    """

    def wasReset(self) -> object:
        """
        It was, or has failed in another way.
        """


class Resets:
    """
    Looks after sockets once a second, as long as there are any.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._watched: dict[int, Resettable] = {}
        self._timer: IDelayedCall | None = None

    def watch(self, descriptor: int, whose: Resettable) -> None:
        """
        Look after a socket until it is reset, or L{forgotten<forget>}, as it must be
        before it is closed.
        """
        self._watched[descriptor] = whose
        if self._timer is None:
            self._timer = self._reactor.callLater(_INTERVAL, self._look)

    def forget(self, descriptor: int) -> None:
        """
        Look after a socket no more.
        """
        self._watched.pop(descriptor, None)

    def rest(self) -> None:
        """
        Leave no timer behind if there is nothing to look after.
        """
        if not self._watched and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        polled = select.poll()
        for descriptor in self._watched:
            polled.register(descriptor, 0)  # errors are told of in any case
        for descriptor, events in polled.poll(0):
            # What one does may have others forgotten.
            whose = self._watched.pop(descriptor, None)
            # Without an error, both directions have been closed in good order.
            if whose is not None and events & select.POLLERR:
                whose.wasReset()
        if self._watched and self._timer is None:
            self._timer = self._reactor.callLater(_INTERVAL, self._look)
