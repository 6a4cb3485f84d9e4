# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
When a tunnel in which nothing moves is to end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_socks5.settings import Timeouts

_LOOKS = 8
"""
How often to look, until a side has stalled for too long, whether it takes
something after all.
"""


def _nothing(reason: str) -> None: ...


class Side(Protocol):
    """
    A side of a tunnel.
    """

    def queued(self) -> int:
        """
        How many bytes the kernel holds for it.  While they become fewer, it takes
        some.
        """


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
        "_stalled",
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
        # Since when, and how many bytes the kernel held for it then.
        self._stalled: dict[Side, tuple[float, int]] | None = None
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

    def stalled(self, side: Side) -> None:
        """
        Bytes wait for a side that does not take them.
        """
        if self._stalled is None:
            self._stalled = {}
        if side not in self._stalled:
            self._stalled[side] = self._reactor.seconds(), side.queued()
        self._arm()

    def taken(self, side: Side) -> None:
        """
        A side that had stalled has taken some bytes.
        """
        if self._stalled is not None:
            self._stalled.pop(side, None)

    def closing(self, side: Side) -> None:
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
        if self._stalled:
            first = min(since for since, _ in self._stalled.values())
            due.append((first + timeouts.writeStall, "write stalled"))
        return min(due, default=None)

    def _arm(self) -> None:
        due = self._next()
        if due is None or self._stopped:
            return
        now, when = self._reactor.seconds(), due[0]
        if self._stalled:
            when = min(when, now + self._timeouts.writeStall / _LOOKS)
        delay = max(0.0, when - now)
        if self._timer is None:
            self._timer = self._reactor.callLater(delay, self._check)
        elif when < self._timer.getTime():
            self._timer.reset(delay)

    def _check(self) -> None:
        self._timer = None
        now = self._reactor.seconds()
        if self._stalled:
            self._noteWhatIsTaken(self._stalled, now)
        due = self._next()
        if due is not None and due[0] <= now:
            self._expired(due[1])
        else:
            self._arm()

    def _noteWhatIsTaken(
        self, stalled: dict[Side, tuple[float, int]], now: float
    ) -> None:
        """
        A side that takes some of what the kernel holds for it, but not enough for
        the kernel to take more of us, has not stalled.
        """
        for side, (_, before) in stalled.items():
            queued = side.queued()
            if queued != before:
                stalled[side] = now, queued
                self.lastMoved = now
