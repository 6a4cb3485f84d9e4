# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
When a tunnel in which nothing moves is to end.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_socks5.settings import Timeouts


def _nothing(reason: str) -> None: ...


class TunnelDeadlines:
    """
    The deadlines of one tunnel.  There is no timer while none of them can
    run out, and one at most: bytes that move only leave the time behind.

    @ivar lastMoved: When bytes were last seen to move, by the reactor's clock.
    """

    __slots__ = (
        "_expired",
        "_halfClosed",
        "_isClosing",
        "_reactor",
        "_stalledSince",
        "_stopped",
        "_timeouts",
        "_timer",
        "lastMoved",
    )

    def __init__(
        self,
        reactor: IReactorTime,
        timeouts: Timeouts,
        expired: Callable[[str], None],
    ) -> None:
        """
        @param expired: Called with the reason when the tunnel is to end.
        """
        self._reactor = reactor
        self._timeouts = timeouts
        self._expired = expired
        self._timer: IDelayedCall | None = None
        self._stalledSince: dict[object, float] | None = None
        self._halfClosed = False
        self._isClosing = False
        self._stopped = False
        self.lastMoved = reactor.seconds()
        if timeouts.idle:
            self._arm()

    def halfClosed(self) -> None:
        """
        One side has closed its direction.
        """
        self._halfClosed = True
        self.lastMoved = self._reactor.seconds()
        self._arm()

    def stalled(self, side: object) -> None:
        """
        Bytes wait for a side that does not take them.
        """
        if self._stalledSince is None:
            self._stalledSince = {}
        self._stalledSince.setdefault(side, self._reactor.seconds())
        self._arm()

    def taken(self, side: object) -> None:
        """
        A side that had stalled has taken some bytes.
        """
        if self._stalledSince is not None:
            self._stalledSince.pop(side, None)

    def closing(self, side: object) -> None:
        """
        The tunnel has ended, but for the bytes that a side is still to take:
        only how long that takes counts from now on.
        """
        self._isClosing = True
        self.taken(side)
        self.stalled(side)

    def stop(self) -> None:
        """
        The tunnel has ended.
        """
        self._stopped = True
        self._expired = _nothing  # lest it and the tunnel keep each other
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next(self) -> tuple[float, str] | None:
        """
        Which of the deadlines comes first, and when.
        """
        timeouts = self._timeouts
        due = []
        if timeouts.idle and not self._isClosing:
            due.append((self.lastMoved + timeouts.idle, "idle"))
        if self._halfClosed and not self._isClosing:
            due.append((self.lastMoved + timeouts.halfClosed, "half-closed and silent"))
        if self._stalledSince:
            first = min(self._stalledSince.values())
            due.append((first + timeouts.writeStall, "write stalled"))
        return min(due, default=None)

    def _arm(self) -> None:
        due = self._next()
        if due is None or self._stopped:
            return
        delay = max(0.0, due[0] - self._reactor.seconds())
        if self._timer is None:
            self._timer = self._reactor.callLater(delay, self._check)
        elif due[0] < self._timer.getTime():
            self._timer.reset(delay)

    def _check(self) -> None:
        self._timer = None
        due = self._next()
        if due is not None and due[0] <= self._reactor.seconds():
            self._expired(due[1])
        else:
            self._arm()
