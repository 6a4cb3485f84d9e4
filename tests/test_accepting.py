# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Accepting clients where the system refuses to.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from errno import ECONNABORTED, EHOSTUNREACH, EMFILE, ENFILE, ENOBUFS, ENOMEM
from os import strerror
from typing import Any

import pytest
from twisted.internet.endpoints import connectProtocol
from twisted.logger import LogLevel, capturedLogs, formatEvent

from tests.conversation import GREET
from tests.loopback import Peer, Place, inReactor

SHORTAGES = {EMFILE: "too few descriptors are left (ulimit -n)"}


class Refusing:
    """
    A listening socket that nobody can be accepted from, as the test says.
    """

    error = 0

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listening, name)

    def accept(self) -> Any:
        self.asked += 1
        if self.error:
            raise OSError(self.error, strerror(self.error))
        return self._listening.accept()


async def serving(place: Place) -> tuple[Any, Refusing]:
    """
    A server, and the socket that it listens at.
    """
    factory: Any = await place.proxy()
    port = place.ports[-1]
    refusing = port.socket = Refusing(port.socket)
    factory.accepting.watch(port)
    return factory, refusing


async def come(place: Place, factory: Any) -> Peer:
    peer: Peer = await connectProtocol(place.to(factory.port), Peer())
    peer.transport.write(GREET)
    return peer


def warnings(events: Sequence[dict[str, Any]]) -> list[str]:
    """
    What is more than information.
    """
    return [formatEvent(one) for one in events if one["log_level"] >= LogLevel.warn]


async def leave(place: Place, *peers: Peer) -> None:
    for peer in peers:
        peer.transport.abortConnection()
        await place.until(lambda: peer.reason)  # noqa: B023  # awaited at once


@pytest.mark.parametrize("error", [EMFILE, ENFILE, ENOBUFS, ENOMEM])
@inReactor
async def test_shortage(place: Place, error: int) -> None:
    """
    It is told, seldom, and tried again now and then; those who wait are served in the
    end, and those who are served meanwhile notice nothing.
    """
    factory, refusing = await serving(place)
    old = await come(place, factory)
    await place.until(lambda: old.received == b"\x05\x00")
    refusing.error, refusing.asked = error, 0
    with capturedLogs() as events:
        new = await come(place, factory)
        await place.until(lambda: refusing.asked >= 6)
        began, asked = place.reactor.seconds(), refusing.asked
        await place.pause(0.5)
        passed = place.reactor.seconds() - began
    # Two a tenth of a second: one to let in, one to turn away.
    assert refusing.asked - asked <= 20 * passed + 4
    lines = warnings(events)
    assert lines
    what = SHORTAGES.get(error) or strerror(error)
    assert set(lines) == {f"{what}: 0 clients turned away"}
    assert len(lines) <= 2 + passed
    assert (new.received, new.reason) == (b"", None)
    refusing.error = 0
    await place.until(lambda: new.received == b"\x05\x00")
    await leave(place, old, new)
    await place.until(lambda: not len(factory.registry))
    factory.accepting.stop()


@pytest.mark.parametrize("error", [ECONNABORTED, EHOSTUNREACH])
@inReactor
async def test_clientThatHasGone(place: Place, error: int) -> None:
    """
    It keeps nobody else from being accepted at once, and is nothing to tell.
    """
    factory, refusing = await serving(place)
    refusing.error = error
    with capturedLogs() as events:
        new = await come(place, factory)
        await place.until(lambda: refusing.asked)
        refusing.error = 0
        await place.until(lambda: new.received == b"\x05\x00")
    assert warnings(events) == []
    assert not factory.accepting.isShort
    await leave(place, new)
    await place.until(lambda: not len(factory.registry))
    factory.accepting.stop()
