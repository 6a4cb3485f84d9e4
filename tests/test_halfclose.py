# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
How a tunnel's ends are closed, one direction at a time or at once.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.conversation import (
    pattern,
    readAll,
    readExactly,
    reset,
    sending,
    sendUntilBlocked,
    tunnel,
)

if TYPE_CHECKING:
    from tests.conftest import Server


def test_everyByteBeforeTheEnd(
    startEach: Callable[..., Server], listener: socket.socket
) -> None:
    """
    A client closes its direction while megabytes wait for a destination that
    does not read yet.
    """
    client, destination = tunnel(startEach(), listener)
    payload = pattern("slow", 10 * 1024 * 1024)
    with client, destination:
        sent = sendUntilBlocked(client, payload)
        with sending(client, payload[sent:], thenEnd=True):
            assert readAll(destination) == payload
        destination.sendall(b"later")
        destination.shutdown(socket.SHUT_WR)
        assert readAll(client) == b"later"


@pytest.mark.parametrize("byClient", [True, False])
def test_endInTheSegmentOfTheLastData(
    startEach: Callable[..., Server], listener: socket.socket, byClient: bool
) -> None:
    client, destination = tunnel(startEach(), listener)
    one, other = (client, destination) if byClient else (destination, client)
    with client, destination:
        one.send(b"last words", socket.MSG_MORE)
        one.shutdown(socket.SHUT_WR)
        assert readAll(other) == b"last words"
        other.sendall(b"answer")
        other.close()
        assert readAll(one) == b"answer"


def test_bothSidesEnd(
    startEach: Callable[..., Server], listener: socket.socket
) -> None:
    """
    Then nothing is left, although neither has closed its socket.
    """
    server = startEach()
    client, destination = tunnel(server, listener)
    with client, destination:
        server.waitForDescriptors(2)
        client.shutdown(socket.SHUT_WR)
        assert readAll(destination) == b""
        destination.shutdown(socket.SHUT_WR)
        assert readAll(client) == b""
        server.waitForDescriptors(0)


def test_bothSidesEndAtOnce(
    startEach: Callable[..., Server], listener: socket.socket
) -> None:
    server = startEach()
    for _ in range(50):
        client, destination = tunnel(server, listener)
        with client, destination:
            client.sendall(b"up")
            destination.sendall(b"down")
            client.shutdown(socket.SHUT_WR)
            destination.shutdown(socket.SHUT_WR)
            assert readAll(destination) == b"up"
            assert readAll(client) == b"down"
    server.waitForDescriptors(0)


@pytest.mark.parametrize("byClient", [True, False])
def test_resetAfterHalfClose(
    startEach: Callable[..., Server], listener: socket.socket, byClient: bool
) -> None:
    server = startEach()
    client, destination = tunnel(server, listener)
    one, other = (client, destination) if byClient else (destination, client)
    with other:
        other.shutdown(socket.SHUT_WR)
        assert readAll(one) == b""
        reset(one)
        with pytest.raises(ConnectionResetError):
            other.recv(1)
        server.waitForDescriptors(0)


@pytest.mark.parametrize("byClient", [True, False])
def test_resetByASideThatIsNotRead(
    startEach: Callable[..., Server], listener: socket.socket, byClient: bool
) -> None:
    """
    A side from which nothing is taken, since the other takes nothing, cannot
    be seen to reset: the stall deadline ends both, with a reset.
    """
    server = startEach("--set", "timeout.write-stall=3")
    client, destination = tunnel(server, listener)
    one, other = (client, destination) if byClient else (destination, client)
    with other:
        sendUntilBlocked(one, bytes(256 * 1024 * 1024))
        reset(one)
        server.waitForDescriptors(0)
        with pytest.raises(ConnectionResetError):
            readAll(other)


def test_resetWhileBytesMove(
    startEach: Callable[..., Server], listener: socket.socket
) -> None:
    server = startEach()
    for byClient in (True, False) * 10:
        client, destination = tunnel(server, listener)
        one, other = (client, destination) if byClient else (destination, client)
        with other:
            one.sendall(bytes(300000))
            other.sendall(bytes(300000))
            readExactly(other, 1)
            reset(one)
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                readAll(other)
    server.waitForDescriptors(0)
