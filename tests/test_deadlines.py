# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
When a tunnel is ended in which little moves.
"""

from __future__ import annotations

import select
import socket
from typing import Any

import pytest
from twisted.internet.task import Clock

from twisted_socks5.relay.deadlines import TunnelDeadlines
from twisted_socks5.relay.sendqueue import queuedAt, queuedIn
from twisted_socks5.settings import Timeouts


class Side:
    """
    A side that takes what the test says.
    """

    held = 1000

    def queued(self) -> int:
        return self.held


class Watched:
    """
    Deadlines that are watched.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        self.clock = Clock()
        self.reasons: list[str] = []
        self.deadlines = TunnelDeadlines(
            self.clock, timeouts, lambda reason: self.reasons.append(reason)
        )

    def pass_(self, seconds: float) -> None:
        """
        Let time pass, bit by bit.
        """
        self.clock.pump([0.25] * int(seconds / 0.25))


def test_sideThatTakesNothing() -> None:
    watched = Watched(Timeouts(writeStall=8))
    watched.deadlines.stalled(Side())
    watched.pass_(7.75)
    assert watched.reasons == []
    watched.pass_(0.25)
    assert watched.reasons == ["write stalled"]
    assert watched.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("timeouts", "reason"),
    [
        (Timeouts(writeStall=8), "write stalled"),
        (Timeouts(halfClosed=8, writeStall=80), "half-closed and silent"),
        (Timeouts(idle=8, writeStall=80), "idle"),
    ],
)
def test_sideThatTakesLittle(timeouts: Timeouts, reason: str) -> None:
    """
    Less than what makes a socket writable again, so that the reactor tells
    nothing of it.
    """
    watched, side = Watched(timeouts), Side()
    watched.deadlines.halfClosed()
    watched.deadlines.stalled(side)
    for _ in range(10):
        watched.pass_(7)
        side.held -= 1
    assert watched.reasons == []
    watched.pass_(7)
    assert watched.reasons == []  # since it took something
    watched.pass_(11)
    assert watched.reasons == [reason]


def test_whatWasOnItsWayIsSoonForgotten() -> None:
    """
    The peer's kernel takes some after we have given up: that costs little time.
    """
    watched, side = Watched(Timeouts(writeStall=8)), Side()
    watched.deadlines.stalled(side)
    side.held -= 500
    watched.pass_(9)
    assert watched.reasons == ["write stalled"]


def test_whatTheKernelHolds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    with one, other:
        assert queuedAt(one.fileno()) == 0
        one.setblocking(False)
        sent = 0
        while select.select([], [one], [], 0.2)[1]:
            sent += one.send(bytes(65536))
        before = queuedAt(one.fileno())
        assert 0 < before < sent
        other.settimeout(10)
        while sent:
            sent -= len(other.recv(1 << 20))
        other.sendall(b"x")  # with it comes that all has come
        assert select.select([one], [], [], 10)[0]
        assert queuedAt(one.fileno()) == 0
        closed = one.fileno()
    assert queuedAt(-1) == queuedAt(closed) == 0


def test_transportOfAnotherKind() -> None:
    transport: Any = object()
    assert queuedIn(transport) == 0
