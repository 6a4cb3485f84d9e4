# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Workers that do nothing any more.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from twisted.internet.task import Clock

from tests.conversation import GREET, request, tunnel
from tests.test_metrics import samples
from tests.test_stop import assertCarries, waitUntilClosed
from tests.test_workers import GRACE, isAlive, ready, serving
from twisted_socks5.service.workers.watching import Watch

if TYPE_CHECKING:
    from tests.conftest import Server


class Watched:
    """
    A worker.
    """

    def __init__(self) -> None:
        self.isReady = True
        self.silence = 0.0
        self.givenUp = 0

    def giveUp(self) -> None:
        self.givenUp += 1
        self.isReady = False


@pytest.fixture
def clock() -> Clock:
    return Clock()


def watching(clock: Clock, timeout: float, *workers: Watched) -> Watch:
    watch = Watch(clock, lambda: workers, timeout)
    watch.start()
    return watch


def test_silent(clock: Clock) -> None:
    """
    One that says something from time to time is kept; one that says nothing is given
    up, once; one that does not serve yet has its time.
    """
    speaks, silent, starts = Watched(), Watched(), Watched()
    starts.isReady = False
    watch = watching(clock, 30, speaks, silent, starts)
    clock.pump([1] * 29)
    speaks.silence = 0
    clock.advance(1)
    assert silent.givenUp == 0
    clock.pump([1] * 2)
    assert silent.givenUp == watch.givenUp == 1
    clock.pump([1] * 27)
    assert speaks.givenUp == starts.givenUp == 0
    clock.pump([1] * 2)
    assert speaks.givenUp == 1
    watch.stop()
    assert not clock.getDelayedCalls()


def test_suspended(clock: Clock) -> None:
    """
    While the supervisor does not look, nobody is silent.
    """
    worker = Watched()
    watching(clock, 30, worker)
    for _ in range(20):
        clock.advance(3600)
    assert worker.givenUp == 0


def test_hasty(clock: Clock) -> None:
    """
    However short the time is, one that has spoken since the last look is kept.
    """
    speaks, silent = Watched(), Watched()
    watch = watching(clock, 0.2, speaks, silent)
    for _ in range(10):
        speaks.silence = 0
        clock.advance(1)
    assert speaks.givenUp == 0
    assert silent.givenUp == watch.givenUp == 1


def test_never(clock: Clock) -> None:
    worker = Watched()
    watch = watching(clock, 0, worker)
    clock.pump([1] * 1000)
    assert worker.givenUp == 0
    watch.timeout = 30
    clock.advance(1)
    assert worker.givenUp == 1


def test_stopped(start: Callable[..., Server], listener: socket.socket) -> None:
    """
    A worker that is stopped is replaced, and counted; others serve on.
    """
    server = start(
        *("--workers", "2", "--set", "timeout.worker=3", "--metrics", "0"),
    )
    first, second = ready(server)
    os.kill(first, signal.SIGSTOP)
    for _ in range(5):
        for end in tunnel(server, listener):
            end.close()
    server.waitForLog("worker 1 has not answered for 4 s, and is killed")
    serving(server, 3)
    assert not isAlive(first)
    assert isAlive(second)
    assert samples(server)["socks5_workers_killed_total"] == 1
    assert server.output().count("worker 1 ") == 2, server.output()
    server.defects = 1


@pytest.mark.usefixtures("inWorker")
def test_looping(start: Callable[..., Server], listener: socket.socket) -> None:
    """
    So is one in which a plugin does not come to an end.
    """
    server = start(
        *("--workers", "2", "--policy", "inworker:looping"),
        *("--set", "timeout.worker=3"),
    )
    ready(server)
    with server.connect() as client:
        client.sendall(GREET + request(2, "127.0.0.1"))
        server.waitForLog("has not answered for 4 s, and is killed")
    serving(server, 3)
    server.defects = 1


def test_nobodyWaits(
    start: Callable[..., Server], listener: socket.socket, tmp_path: Path
) -> None:
    """
    Metrics are told without it, a configuration is loaded, and a server that is told
    to stop finishes the sessions of others, and ends.
    """
    path = tmp_path / "socks5.toml"
    path.write_text("[timeout]\nhandshake = 20\n")
    server = start(
        *("--workers", "2", "--set", "timeout.worker=0", "--config", str(path)),
        *("--metrics", "0", *GRACE),
    )
    first, second = ready(server)
    os.kill(first, signal.SIGSTOP)
    client, destination = tunnel(server, listener)
    assert samples(server)["socks5_workers"] == 1
    path.write_text("[timeout]\nhandshake = 21\n")
    server.process.send_signal(signal.SIGHUP)
    server.waitForLog("the configuration was loaded")
    server.process.send_signal(signal.SIGTERM)
    waitUntilClosed(server)
    assertCarries(client, destination)
    client.close()
    destination.close()
    assert server.process.wait(30) in (0, -signal.SIGTERM)
    assert not isAlive(first)
    assert not isAlive(second)
    assert "worker 2 has ended" in server.output()


def test_allAreStuck(start: Callable[..., Server], listener: socket.socket) -> None:
    """
    Then the server ends, whatever its grace time.
    """
    server = start("--workers", "2", *GRACE)
    for pid in ready(server):
        os.kill(pid, signal.SIGSTOP)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(30) in (0, -signal.SIGTERM)
