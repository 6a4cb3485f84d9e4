# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The pipes of the fast relay, and how many of them there are.
"""

from __future__ import annotations

import os
import socket

import pytest
from twisted.internet.task import Clock

from twisted_socks5.relay import pipes
from twisted_socks5.relay.pipes import Pipe, PipePool


def isOpen(pipe: Pipe) -> bool:
    return all(
        os.path.exists(f"/proc/self/fd/{one}") for one in (pipe.source, pipe.sink)
    )


def take(pool: PipePool) -> Pipe:
    pipe = pool.take()
    assert pipe is not None
    return pipe


def test_bytesPass() -> None:
    one, near = socket.socketpair()
    far, other = socket.socketpair()
    pipe = Pipe()
    with one, near, far, other:
        near.setblocking(False)
        far.setblocking(False)
        with pytest.raises(BlockingIOError):
            pipe.fill(near.fileno())
        one.sendall(b"bytes")
        assert pipe.fill(near.fileno()) == pipe.held == 5
        pipe.drain(far.fileno())
        assert pipe.held == 0
        assert other.recv(9) == b"bytes"
        one.close()
        assert pipe.fill(near.fileno()) == 0
    pipe.close()


def test_smallerWhereNotPermitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "SIZES", (2**30 * 3, 65536))
    pipe = Pipe()
    assert pipe.size == 65536
    pipe.close()


def test_noneWhereAllSizesAreRefused(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patched:
        patched.setattr(pipes, "SIZES", (2**30 * 3,))
        clock = Clock()
        pool = PipePool(clock)
        assert pool.take() is None
        assert os.listdir("/proc/self/fd") == before
    # It does not try again at once, but after a while.
    assert pool.take() is None
    clock.advance(1)
    pool.drop(take(pool))


def test_bounded() -> None:
    pool = PipePool(Clock(), most=2)
    first, second = take(pool), take(pool)
    assert pool.take() is None
    pool.give(first)
    assert pool.take() is first
    pool.drop(second)
    assert not isOpen(second)
    third = take(pool)
    for pipe in (first, third):
        pool.drop(pipe)


def test_closedWhenNobodyNeedsThem() -> None:
    clock = Clock()
    pool = PipePool(clock)
    busy, spare = take(pool), take(pool)
    pool.give(spare)
    pool.give(busy)
    for _ in range(5):  # one of them is used all the time
        clock.advance(0.2)
        pool.give(take(pool))
    assert isOpen(busy)
    assert not isOpen(spare)
    clock.advance(0.5)
    clock.advance(0.5)
    assert not isOpen(busy)
    assert clock.getDelayedCalls() == []


def test_clear() -> None:
    clock = Clock()
    pool = PipePool(clock)
    pipe = take(pool)
    pool.give(pipe)
    pool.clear()
    assert not isOpen(pipe)
    assert clock.getDelayedCalls() == []
