# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Noticing resets of sockets that nothing is expected of.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from twisted.internet.task import Clock

from tests.conversation import reset
from twisted_socks5.resets import Resets


class Watched:
    """
    A connection that may be reset, by the other end of it.

    @ivar times: How often it was said to be.
    """

    def __init__(self, resets: Resets) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.peer = socket.create_connection(listener.getsockname(), 10)
            self.socket, _ = listener.accept()
        self.times = 0
        self.then: Callable[[], object] = lambda: None
        self.resets = resets
        self.watch()

    def watch(self) -> None:
        self.resets.watch(self.socket.fileno(), self)

    def wasReset(self) -> None:
        self.times += 1
        self.then()

    def close(self) -> None:
        self.resets.forget(self.socket.fileno())
        self.socket.close()
        self.peer.close()


def test_onlyResets() -> None:
    """
    Bytes, the end of one direction and of both are none; each is told of once, and
    whoever is told may watch on, or have others forgotten.
    """
    clock = Clock()
    resets = Resets(clock)
    idle, ended, closed, one, other, again = (Watched(resets) for _ in range(6))
    idle.peer.sendall(b"hello")
    for each in (ended, closed):
        each.peer.shutdown(socket.SHUT_WR)
    closed.socket.shutdown(socket.SHUT_WR)
    for each in (one, other, again):
        reset(each.peer)
    one.then, other.then, again.then = other.close, one.close, again.watch
    assert one.times == 0
    for number in range(1, 4):
        clock.advance(1)
        assert (idle.times, ended.times, closed.times) == (0, 0, 0)
        assert one.times + other.times == 1
        assert again.times == number
    for each in (idle, ended, closed, one, other, again):
        each.close()
    assert clock.getDelayedCalls()
    resets.rest()
    assert not clock.getDelayedCalls()


def test_itLooksNoMoreWhenThereIsNothing() -> None:
    clock = Clock()
    watched = Watched(Resets(clock))
    watched.resets.rest()
    assert clock.getDelayedCalls()
    watched.close()
    clock.advance(1)
    assert not clock.getDelayedCalls()
