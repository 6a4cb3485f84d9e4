# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What the relays have in common and what not, with a started server: counts,
those who pause them, pipes, reactors.
"""

from __future__ import annotations

import hashlib
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conversation import (
    GREET,
    connectTo,
    pattern,
    readAll,
    readExactly,
    sending,
    sendUntilBlocked,
    tunnel,
)
from tests.relaying import FLOOD
from tests.test_layer import flip

if TYPE_CHECKING:
    from tests.conftest import Server

HAPROXY = "haproxy:tcp:0:interface=127.0.0.1"
MIB = 1024 * 1024
PAYLOAD = pattern("relays", MIB) * 32


def readSoFar(one: socket.socket) -> bytes:
    """
    Read until nothing more came for a while.
    """
    data = bytearray()
    while select.select([one], [], [], 0.5)[0]:
        data += one.recv(262144)
    return bytes(data)


def digest(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()


def test_byteCounts(startEach: Callable[..., Server], listener: socket.socket) -> None:
    """
    Those that came with the request count as well.
    """
    server = startEach()
    up, down = PAYLOAD[:3000001], PAYLOAD[:2000003]
    with server.connect() as client:
        client.sendall(GREET + connectTo(listener.getsockname()[1]) + b"early")
        readExactly(client, 12)
        destination, _ = listener.accept()
        with destination:
            destination.settimeout(30)
            with sending(client, up, thenEnd=True):
                assert digest(readAll(destination)) == digest(b"early" + up)
            with sending(destination, down, thenEnd=True):
                assert digest(readAll(client)) == digest(down)
            server.waitForLog("up=3000006 down=2000003 ")


@pytest.mark.parametrize("toClient", [True, False])
def test_idleWhileBytesWait(
    startEach: Callable[..., Server], listener: socket.socket, toClient: bool
) -> None:
    """
    All that were taken are still delivered.
    """
    server = startEach("--set", "timeout.idle=3")
    client, destination = tunnel(server, listener)
    writer, reader = (destination, client) if toClient else (client, destination)
    with client, destination:
        sent = sendUntilBlocked(writer, PAYLOAD)
        try:
            assert writer.recv(1) == b""
        except ConnectionResetError:
            pass  # since it has sent more than was read
        got = readAll(reader)
        assert 0 < len(got) <= sent
        assert digest(got) == digest(PAYLOAD[: len(got)])
        server.waitForLog(f"{'down' if toClient else 'up'}={len(got)} ")
        server.waitForLog("reason=idle")


# -- pipes --------------------------------------------------------------------


def throughTCP(server: Server, path: str) -> socket.socket:
    return server.connect()


def throughPROXY(server: Server, path: str) -> socket.socket:
    client = socket.create_connection(server.address(HAPROXY), 10)
    client.sendall(b"PROXY TCP4 127.0.0.7 192.0.2.1 4711 1080\r\n")
    return client


def throughUNIX(server: Server, path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(path)
    return client


@pytest.mark.parametrize(
    ("relay", "come", "pipes", "toClient"),
    [
        ("auto", throughTCP, 1, True),
        ("auto", throughTCP, 1, False),
        ("auto", throughPROXY, 1, True),
        ("auto", throughUNIX, 0, True),
        ("portable", throughTCP, 0, True),
    ],
)
def test_muchGoesThroughAPipe(
    start: Callable[..., Server],
    listener: socket.socket,
    tmp_path: Path,
    relay: str,
    come: Callable[[Server, str], socket.socket],
    pipes: int,
    toClient: bool,
) -> None:
    """
    On plain sockets only; and a tunnel that is idle again has none.
    """
    path = str(tmp_path / "socks")
    server = start(
        "--relay", relay, "--open", "--port", HAPROXY, "--port", f"unix:{path}"
    )
    client, destination = tunnel(server, listener, come(server, path))
    writer, reader = (destination, client) if toClient else (client, destination)
    with client, destination:
        writer.sendall(b"little")
        assert readExactly(reader, 6) == b"little"
        assert server.descriptors() == server.baseline + 2
        sent = sendUntilBlocked(writer, PAYLOAD)
        assert server.descriptors() == server.baseline + 2 + 2 * pipes
        with sending(writer, PAYLOAD[sent:]):
            reader.settimeout(30)
            assert digest(readExactly(reader, len(PAYLOAD))) == digest(PAYLOAD)
        server.waitForDescriptors(2)
        writer.sendall(b"little")
        assert readExactly(reader, 6) == b"little"


def test_noDescriptorsLeftForPipes(
    start: Callable[..., Server], listener: socket.socket
) -> None:
    server = start()
    client, destination = tunnel(server, listener)
    process = server.process.pid
    taken = max(map(int, os.listdir(f"/proc/{process}/fd"))) + 1
    soft, hard = resource.prlimit(process, resource.RLIMIT_NOFILE)
    resource.prlimit(process, resource.RLIMIT_NOFILE, (taken, hard))
    with client, destination:
        for writer, reader in ((client, destination), (destination, client)):
            reader.settimeout(30)
            sent = sendUntilBlocked(writer, PAYLOAD)
            assert server.descriptors() == server.baseline + 2
            with sending(writer, PAYLOAD[sent:], thenEnd=True):
                assert digest(readAll(reader)) == digest(PAYLOAD)
    server.waitForDescriptors(0)
    resource.prlimit(process, resource.RLIMIT_NOFILE, (soft, hard))


# -- in somebody else's application --------------------------------------------


class Embedded:
    """
    L{tests.relaying} in a process of its own.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.port = int(self.says())

    def connect(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), 10)
        client.settimeout(30)
        return client

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def pipes(self) -> int:
        """
        How many ends of pipes it has.
        """
        folder = f"/proc/{self.process.pid}/fd"
        links = [os.readlink(f"{folder}/{one}") for one in os.listdir(folder)]
        return sum(link.startswith("pipe:") for link in links)

    def toggle(self) -> str:
        self.process.send_signal(signal.SIGUSR1)
        return self.says()


@contextmanager
def embedded(
    relay: str = "auto", reactor: str = "epoll", way: str = "plain"
) -> Iterator[Embedded]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.relaying", reactor, relay, way],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Embedded(process)
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("relay", "toClient"), [("auto", True), ("auto", False), ("portable", True)]
)
def test_pausedByAThirdParty(
    listener: socket.socket, relay: str, toClient: bool
) -> None:
    """
    Neither little nor much passes until it lets them; that the other side takes
    bytes does not change it.
    """
    with embedded(relay) as server:
        client, destination = tunnel(server, listener)
        writer, reader = (destination, client) if toClient else (client, destination)
        with client, destination:
            reader.settimeout(30)
            assert server.toggle() == "paused"
            writer.sendall(b"held")
            assert readSoFar(reader) == b""
            assert server.toggle() == "resumed"
            assert readExactly(reader, 4) == b"held"
            sent = sendUntilBlocked(writer, PAYLOAD)
            assert server.toggle() == "paused"
            got = readSoFar(reader)
            assert len(got) < sent
            assert server.toggle() == "resumed"
            with sending(writer, PAYLOAD[sent:], thenEnd=True):
                assert digest(got + readAll(reader)) == digest(PAYLOAD)


@pytest.mark.parametrize(("way", "pipes"), [("plain", 2), ("wrapped", 0)])
def test_wrapperSeesAllBytes(listener: socket.socket, way: str, pipes: int) -> None:
    """
    The kernel moves bytes only where nobody else is to see them.
    """
    with embedded(way=way) as server:
        client, destination = tunnel(server, listener)
        before = server.pipes()
        with client, destination:
            sent = sendUntilBlocked(client, PAYLOAD)
            assert server.pipes() == before + pipes
            with sending(client, PAYLOAD[sent:], thenEnd=True):
                assert digest(readAll(destination)) == digest(PAYLOAD)


def test_layerProtectsAllBytes(listener: socket.socket) -> None:
    with embedded(way="layered") as server, server.connect() as client:
        client.sendall(b"\x05\x01\x80")
        assert readExactly(client, 2) == b"\x05\x80"
        client.sendall(flip(connectTo(listener.getsockname()[1])))
        assert flip(readExactly(client, 10))[:4] == b"\x05\x00\x00\x01"
        destination, _ = listener.accept()
        with destination:
            client.sendall(flip(b"up"))
            assert readExactly(destination, 2) == b"up"
            destination.sendall(b"down")
            assert flip(readExactly(client, 4)) == b"down"


def test_whatIsQueuedForTheClientGoesFirst(listener: socket.socket) -> None:
    """
    Bytes of the handshake that the client was slow to take.
    """
    with embedded(way="talkative") as server, server.connect() as client:
        client.sendall(b"\x05\x01\x80" + connectTo(listener.getsockname()[1]))
        destination, _ = listener.accept()
        with destination, sending(destination, PAYLOAD, thenEnd=True):
            assert readExactly(client, 2) == b"\x05\x80"
            assert readExactly(client, len(FLOOD)) == FLOOD
            assert readExactly(client, 10)[:4] == b"\x05\x00\x00\x01"
            assert digest(readAll(client)) == digest(PAYLOAD)


@pytest.mark.parametrize(
    ("reactor", "relay"),
    [
        ("epoll", "auto"),
        ("poll", "auto"),
        ("select", "auto"),
        ("asyncio", "auto"),
        ("epoll", "portable"),
    ],
)
def test_reactors(listener: socket.socket, reactor: str, relay: str) -> None:
    """
    Each carries what there is, and closes everything when it stops: tunnels
    that are idle, that are stalled, that are paused.
    """
    with embedded(relay, reactor) as server:
        client, destination = tunnel(server, listener)
        with client, destination:
            destination.settimeout(30)
            with sending(client, PAYLOAD, thenEnd=True):
                assert digest(readAll(destination)) == digest(PAYLOAD)
            with sending(destination, PAYLOAD, thenEnd=True):
                assert digest(readAll(client)) == digest(PAYLOAD)
        paused = tunnel(server, listener)
        if relay == "auto":  # a reactor forgets Twisted's own that are paused
            assert server.toggle() == "paused"
        stalled = tunnel(server, listener)
        sendUntilBlocked(stalled[0], PAYLOAD)
        sendUntilBlocked(stalled[1], PAYLOAD)
        idle = tunnel(server, listener)
        server.process.terminate()
        assert server.says() == "0 left open"
        assert server.process.communicate()[1] == ""
        for one in (*paused, *stalled, *idle):
            with one:
                try:
                    readAll(one)
                except ConnectionResetError:
                    pass


@pytest.mark.parametrize("fromClient", [True, False])
def test_urgentByte(
    listener: socket.socket, start: Callable[..., Server], fromClient: bool
) -> None:
    """
    Amid much that moves: what is behind it arrives, and so does the deadline.
    """
    server = start("--set", "timeout.idle=2")
    client, destination = tunnel(server, listener)
    writer, reader = (client, destination) if fromClient else (destination, client)
    with client, destination:
        with sending(writer, PAYLOAD):
            assert digest(readExactly(reader, len(PAYLOAD))) == digest(PAYLOAD)
        writer.send(b"!", socket.MSG_OOB)
        writer.sendall(b"behind it")
        assert readExactly(reader, 9) == b"behind it"
        server.waitForLog("reason=idle")
