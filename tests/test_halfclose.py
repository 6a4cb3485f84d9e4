# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
How a tunnel's ends are closed, one direction at a time or at once.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from errno import ECONNRESET, EPIPE
from pathlib import Path
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
from tests.test_bind import bind, come

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


@pytest.mark.parametrize("byClient", [True, False])
def test_endAndReset(
    start: Callable[..., Server], listener: socket.socket, byClient: bool
) -> None:
    """
    Of a side that has closed its direction nothing is expected, but that it resets is
    noticed, when the other side has got everything.
    """
    server = start()
    client, destination = tunnel(server, listener)
    one, other = (client, destination) if byClient else (destination, client)
    one.sendall(b"last words")
    one.shutdown(socket.SHUT_WR)
    assert readAll(other) == b"last words"
    reset(one)
    with other:
        polled = select.poll()
        polled.register(other, 0)
        assert polled.poll(20_000)
        error = other.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        assert error in (ECONNRESET, EPIPE)
    server.waitForDescriptors(0)
    server.waitForLog(f'reason="{"client" if byClient else "destination"} closed"')


def _state(client: socket.socket) -> str:
    """
    The state of the server's socket for a client.
    """
    ends = [client.getpeername()[1], client.getsockname()[1]]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if [int(name.partition(":")[2], 16) for name in fields[1:3]] == ends:
            return {"01": "ESTABLISHED", "04": "FIN_WAIT1"}.get(fields[3], fields[3])
    return "none"


def test_whatIsOnItsWayIsNotCutOff(
    start: Callable[..., Server], listener: socket.socket
) -> None:
    """
    A destination has closed, and then resets, while the client has not read all.
    """
    server = start()
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", server.port))
    slow.settimeout(10)
    client, destination = tunnel(server, listener, slow)
    payload = pattern("much", 48 * 1024)
    with client:
        destination.sendall(payload)
        destination.shutdown(socket.SHUT_WR)
        server.waitUntil(lambda: _state(client) == "FIN_WAIT1")
        reset(destination)
        time.sleep(2.5)  # in which the client must not be told
        assert readExactly(client, len(payload)) == payload
        assert client.recv(1) == b""
        server.waitForDescriptors(0)


@pytest.mark.parametrize("hasEnded", [True, False])
def test_aResetOfWhatIsNotRead(
    startEach: Callable[..., Server], hasEnded: bool
) -> None:
    """
    Of a client that waits for a peer (BIND), after more than is kept of it, or after
    it has closed its direction.
    """
    server = startEach()
    client, bound = bind(server)
    client.sendall(b"ahead" if hasEnded else bytes(512 * 1024))
    if hasEnded:
        client.shutdown(socket.SHUT_WR)
    server.waitForDescriptors(2)
    reset(client)
    server.waitForDescriptors(0)
    server.waitForLog('reason="client reset"')
    with pytest.raises(ConnectionRefusedError):
        come(bound)
