# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A server that is told to stop.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.association import Association
from tests.conftest import TWIST, twistdIn
from tests.conversation import (
    GREET,
    readAll,
    readExactly,
    readReply,
    request,
    sendUntilBlocked,
    tunnel,
)

if TYPE_CHECKING:
    from tests.conftest import Server

BIND = 2


def test_everySessionIsLogged(
    startEach: Callable[..., Server], listener: socket.socket
) -> None:
    """
    Whatever it is doing; and why it has ended.
    """
    server = startEach()
    waiting = server.connect()
    waiting.sendall(b"\x05")
    binding = server.connect()
    binding.sendall(GREET + request(BIND, "127.0.0.1", 21))
    assert readExactly(binding, 2) == b"\x05\x00"
    assert readReply(binding)[0] == 0
    idle = tunnel(server, listener)
    full = tunnel(server, listener)
    for one in full:
        sendUntilBlocked(one, bytes(32 * 1024 * 1024))
    with Association(server):
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(5)
    output = server.output()
    assert output.count('reason="the server stops"') == 5, output
    for one in (waiting, binding, *idle, *full):
        one.close()


def waitUntilClosed(server: Server) -> None:
    """
    Wait until nobody listens at its port any more.
    """
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            server.connect().close()
        except ConnectionRefusedError:
            return
        time.sleep(0.01)  # another process: there is nothing to wait for
    raise AssertionError(server.output())


def assertCarries(client: socket.socket, destination: socket.socket) -> None:
    client.sendall(b"ping")
    assert readExactly(destination, 4) == b"ping"
    destination.sendall(b"pong")
    assert readExactly(client, 4) == b"pong"


@pytest.mark.parametrize("runner", ["twist", "twistd"])
def test_idle(start: Callable[..., Server], tmp_path: object, runner: str) -> None:
    """
    A server without sessions waits for none.
    """
    command = TWIST if runner == "twist" else twistdIn(tmp_path)
    server = start("--set", "timeout.grace=30", command=command, started="SOCKS5 at")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(5) in (0, -signal.SIGTERM)
    socket.create_server(("127.0.0.1", server.port)).close()


def test_grace(start: Callable[..., Server], listener: socket.socket) -> None:
    """
    Nobody is let in any more; sessions may finish, and are cut when the time
    is over.
    """
    server = start("--set", "timeout.grace=5")
    tunnels = [tunnel(server, listener) for _ in range(100)]
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    waitUntilClosed(server)
    for client, destination in tunnels:
        assertCarries(client, destination)
    for client, destination in tunnels[:50]:
        client.close()
        assert readAll(destination) == b""
        destination.close()
    server.process.wait(15)
    assert time.monotonic() - began >= 5
    output = server.output()
    assert "100 sessions have 5 s to finish" in output
    cut = [line for line in output.splitlines() if "the server stops" in line]
    assert sum("command=CONNECT" in line for line in cut) == 50, output
    for client, destination in tunnels[50:]:
        client.close()
        destination.close()


def test_lastSessionEnds(start: Callable[..., Server], listener: socket.socket) -> None:
    """
    It is not waited for longer than needed; whoever has not asked for anything is
    not waited for.
    """
    server = start("--set", "timeout.grace=600", "--set", "timeout.handshake=600")
    with server.connect() as asking:
        asking.sendall(GREET)
        assert readExactly(asking, 2) == b"\x05\x00"
        client, destination = tunnel(server, listener)
        server.process.send_signal(signal.SIGTERM)
        assert readAll(asking) == b""
    assertCarries(client, destination)
    client.close()
    destination.close()
    server.process.wait(10)


@pytest.mark.parametrize("workers", [1, 2])
def test_hangupWhileItStops(
    start: Callable[..., Server], listener: socket.socket, workers: int
) -> None:
    """
    What is about to end is not reloaded, and is not disturbed.
    """
    server = start("--set", "timeout.grace=600", "--workers", str(workers))
    client, destination = tunnel(server, listener)
    server.process.send_signal(signal.SIGTERM)
    waitUntilClosed(server)
    server.process.send_signal(signal.SIGHUP)
    assertCarries(client, destination)
    client.close()
    destination.close()
    server.process.wait(10)
    assert "configuration" not in server.output()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("runner", ["twist", "twistd"])
def test_secondSignal(
    start: Callable[..., Server],
    listener: socket.socket,
    tmp_path: object,
    runner: str,
    number: signal.Signals,
) -> None:
    """
    It ends everything at once.
    """
    command = TWIST if runner == "twist" else twistdIn(tmp_path)
    server = start("--set", "timeout.grace=600", command=command, started="SOCKS5 at")
    client, destination = tunnel(server, listener)
    server.process.send_signal(number)
    waitUntilClosed(server)
    assertCarries(client, destination)
    server.process.send_signal(number)
    assert server.process.wait(5) in (0, -number)
    assert "told to stop once more" in server.output()
    client.close()
    destination.close()
