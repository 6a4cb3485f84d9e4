# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Sides that take nothing, or much: memory stays bounded, and no byte is lost.
"""

from __future__ import annotations

import hashlib
import resource
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.conversation import pattern, readAll, sendUntilBlocked, tunnel

if TYPE_CHECKING:
    from tests.conftest import Server

MIB = 1024 * 1024
BLOCK = pattern("block", MIB)


def sink(one: socket.socket, size: int) -> str:
    """
    The digest of so many bytes.
    """
    digest = hashlib.sha256()
    one.settimeout(60)
    while size:
        piece = one.recv(min(size, 262144))
        assert piece, f"{size} bytes are missing"
        size -= len(piece)
        digest.update(piece)
    return digest.hexdigest()


@pytest.mark.parametrize("toClient", [True, False])
def test_readerThatDoesNotRead(
    startEach: Callable[..., Server], listener: socket.socket, toClient: bool
) -> None:
    """
    Its peer is held up, with the proxy's memory as it was; when it reads at
    last, everything comes.
    """
    server = startEach()
    client, destination = tunnel(server, listener)
    writer, reader = (destination, client) if toClient else (client, destination)
    payload = BLOCK * 64
    with client, destination:
        before = server.memory()
        sent = sendUntilBlocked(writer, payload)
        assert sent < len(payload)  # the kernel's buffers, and little of ours
        assert server.memory() - before < 4 * MIB
        writer.settimeout(60)
        rest = threading.Thread(target=writer.sendall, args=(payload[sent:],))
        rest.start()
        assert sink(reader, len(payload)) == hashlib.sha256(payload).hexdigest()
        rest.join()
        assert server.memory() - before < 8 * MIB


@pytest.mark.parametrize("byClient", [True, False])
def test_writerClosesOnAReaderThatDoesNotRead(
    startEach: Callable[..., Server], listener: socket.socket, byClient: bool
) -> None:
    server = startEach("--set", "timeout.write-stall=3")
    client, destination = tunnel(server, listener)
    writer, reader = (client, destination) if byClient else (destination, client)
    with client, destination:
        sendUntilBlocked(writer, BLOCK * 64)
        writer.close()
        server.waitForDescriptors(0)
        with pytest.raises(ConnectionResetError):
            readAll(reader)


def test_slowReaderIsNotStalled(
    startEach: Callable[..., Server], listener: socket.socket
) -> None:
    """
    Who takes something now and then has not stalled, however long it takes.
    """
    server = startEach("--set", "timeout.write-stall=3")
    client, destination = tunnel(server, listener)
    payload = BLOCK * 16
    with client, destination:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        destination.settimeout(60)
        thread = threading.Thread(target=destination.sendall, args=(payload,))
        thread.start()
        pause = threading.Event()
        got = bytearray()
        while len(got) < len(payload):
            got += client.recv(2 * MIB)
            pause.wait(0.02)  # what is slow about it
        thread.join()
        assert got == payload


def test_muchAmidManySessions(
    startEach: Callable[..., Server], listener: socket.socket
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    server = startEach()
    others = [tunnel(server, listener) for _ in range(500)]
    client, destination = tunnel(server, listener)
    expected = hashlib.sha256(BLOCK * 64).hexdigest()
    with client, destination:
        digests: list[str] = []

        def send(one: socket.socket) -> None:
            one.settimeout(60)
            for _ in range(64):
                one.sendall(BLOCK)

        def receive(one: socket.socket) -> None:
            digests.append(sink(one, 64 * MIB))

        threads = [
            threading.Thread(target=run, args=(one,))
            for run in (send, receive)
            for one in (client, destination)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert digests == [expected] * 2
    for number, (one, other) in enumerate(others):
        one.sendall(number.to_bytes(2, "big"))
        assert other.recv(9) == number.to_bytes(2, "big")
        one.close()
        other.close()
    server.waitForDescriptors(0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
