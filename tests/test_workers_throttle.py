# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Failed logins, counted in all workers together.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.task import Clock

from tests.test_throttle import USERS, isLetIn
from tests.test_workers import ready, serving
from twisted_socks5.server.throttle import Failures, Throttle
from twisted_socks5.service.workers.failures import SharedFailures, decode, encode
from twisted_socks5.service.workers.messages import PART
from twisted_socks5.settings import Throttling

if TYPE_CHECKING:
    from tests.conftest import Server


class Worker:
    """
    Is told.
    """

    def __init__(self, isReady: bool = True) -> None:
        self.isReady = isReady
        self.told: list[bytes] = []

    def tellFailures(self, encoded: bytes) -> None:
        assert len(encoded) < PART
        self.told.append(encoded)

    @property
    def known(self) -> list[tuple[tuple[str, str], int]]:
        return [each for encoded in self.told for each in decode(encoded)]


def test_othersAreTold() -> None:
    """
    Those that serve, but for the one where it was; and a new one is told of all that
    is not forgotten.
    """
    clock = Clock()
    source, other, starts = Worker(), Worker(), Worker(False)
    workers = [source, other, starts]
    throttle = Throttle(clock, Throttling(memory=300))
    shared = SharedFailures(throttle, lambda: workers)
    old: Failures = [(("user", "carol"), 1)]
    shared.failed(source, encode(old))
    clock.advance(299)
    failures: Failures = [(("user", "alice"), 1), (("client", "192.0.2.1"), 2)]
    shared.failed(source, encode(failures))
    shared.failed(other, encode(failures))
    assert other.known == [*old, *failures]
    assert source.known == failures
    assert starts.known == []
    clock.advance(1)
    shared.tellAll(starts)
    assert starts.known == [(("user", "alice"), 2), (("client", "192.0.2.1"), 4)]


def test_manyLongNames() -> None:
    """
    They have room in messages.
    """
    throttle = Throttle(Clock(), Throttling())
    shared = SharedFailures(throttle, list)
    names = [f"{number:04}" + "\\x00" * 255 for number in range(1000)]
    for name in names:
        throttle.failed(("user", name), 1)
    new = Worker()
    shared.tellAll(new)
    assert [name for (_, name), _ in new.known] == names


def test_guessing(start: Callable[..., Server]) -> None:
    """
    Who has failed in one worker too often is refused in another one, and in one that
    is started later; the log tells once.
    """
    server = start(
        *("--workers", "2", "--auth", USERS, "--set", "timeout.worker=0"),
        *("--set", "throttle.refuse-after=4", "--set", "throttle.slow-after=0"),
    )
    first, second = ready(server)
    assert isLetIn(server, b"alice", b"wonderland", "127.0.0.5")
    os.kill(second, signal.SIGSTOP)
    for _ in range(4):
        assert not isLetIn(server, b"alice", b"guess", "127.0.0.5")
    os.kill(second, signal.SIGCONT)
    os.kill(first, signal.SIGSTOP)
    server.waitUntil(lambda: not isLetIn(server, b"alice", b"wonderland", "127.0.0.6"))
    assert not isLetIn(server, b"bob", b"builder", "127.0.0.5")
    assert isLetIn(server, b"bob", b"builder", "127.0.0.6")
    os.kill(second, signal.SIGKILL)
    serving(server, 3)
    server.waitUntil(lambda: not isLetIn(server, b"bob", b"builder", "127.0.0.5"))
    os.kill(first, signal.SIGCONT)
    server.waitForLog("throttle=refused", 2)
    assert server.output().count("throttle=refused") == 2
    server.defects = 1
