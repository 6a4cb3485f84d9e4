# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Workers that have about as many sessions as the others.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.task import Clock

from tests.loopback import Peer, Place, inReactor
from tests.test_workers import descriptorsOf, ready
from twisted_socks5.server.accepting import Accepting
from twisted_socks5.service.workers.balance import Comparing, Shares

if TYPE_CHECKING:
    from tests.conftest import Server


def test_mean() -> None:
    """
    A worker that has ended has no share.
    """
    shares = Shares()
    assert shares.told(1, 90) == 90
    assert shares.told(2, 10) == 50
    assert shares.told(2, 30) == 60
    shares.forget(1)
    assert shares.told(2, 30) == 30
    shares.forget(3)


def test_ahead() -> None:
    """
    A few more than the mean are of no matter; where nobody answers, nothing is.
    """
    clock, counts, mean = Clock(), [0], 100
    isBroken = False

    async def ask(sessions: int) -> int:
        assert sessions == counts[0]
        if isBroken:
            raise OSError
        return mean

    comparing = Comparing(clock, lambda: counts[0], ask)
    assert not comparing.isAhead()
    comparing.start()
    for counts[0], isAhead in ((0, False), (108, False), (109, True)):
        assert comparing.isAhead() is isAhead
    mean = 1600
    clock.advance(0.2)
    for counts[0], isAhead in ((1700, False), (1701, True)):
        assert comparing.isAhead() is isAhead
    isBroken = True
    clock.advance(0.2)
    assert not comparing.isAhead()


@inReactor
async def test_leftToOthers(place: Place) -> None:
    """
    Whoever is ahead leaves a client to another process, if there is one that accepts
    at once; else the client is served after all.
    """
    reactor = place.reactor
    number = await place.serve(Peer)
    (port,) = place.ports
    others: list[socket.socket] = []

    def isAhead() -> bool:
        if not others:  # it comes a moment later
            reactor.callLater(0, lambda: others.append(port.socket.accept()[0]))
        return True

    accepting = Accepting(reactor, lambda: 0)
    accepting.isAhead = isAhead
    accepting.watch(port)
    first = socket.create_connection(("127.0.0.1", number))
    await place.until(lambda: others)
    await place.pause(0.01)
    assert not place.protocols
    second = socket.create_connection(("127.0.0.1", number))
    await place.until(lambda: place.protocols)
    accepting.stop()
    for each in (first, second, *others):
        each.close()


def test_idleClients(start: Callable[..., Server]) -> None:
    """
    Those who come one by one, and stay, are shared among the workers.
    """
    server = start("--workers", "2", "--set", "timeout.handshake=600")
    pids = ready(server)
    before = [descriptorsOf(pid) for pid in pids]

    def shares() -> list[int]:
        return [descriptorsOf(pid) - old for pid, old in zip(pids, before, strict=True)]

    clients: list[socket.socket] = []
    end = time.monotonic() + 60
    while sum(shares()) < 300:
        clients.append(server.connect())
        time.sleep(0.005)  # the one that is the fastest is so every time
        assert time.monotonic() < end
    assert min(shares()) >= 100, shares()
    for client in clients:
        client.close()
