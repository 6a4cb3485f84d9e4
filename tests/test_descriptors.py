# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A started server that runs out of descriptors.
"""

from __future__ import annotations

import os
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from tests.conversation import (
    GREET,
    assertServes,
    connectTo,
    connectToName,
    failure,
    readAll,
    readExactly,
    request,
    tunnel,
)

if TYPE_CHECKING:
    from tests.conftest import Server

BIND = 2
ASSOCIATE = 3


@contextmanager
def descriptorsLeft(server: Server, count: int) -> Iterator[None]:
    """
    Meanwhile, a server can open so many more descriptors.
    """
    pid, kind = server.process.pid, resource.RLIMIT_NOFILE
    before = resource.prlimit(pid, kind)
    used = {int(each) for each in os.listdir(f"/proc/{pid}/fd")}
    free = (each for each in range(len(used) + count + 1) if each not in used)
    limit = next(islice(free, count, None))  # the first that it cannot have
    resource.prlimit(pid, kind, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, kind, before)


def isClosed(client: socket.socket) -> bool:
    """
    Whether a client that has sent nothing was turned away.
    """
    if not select.select([client], [], [], 0)[0]:
        return False
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def processorSeconds(server: Server) -> float:
    """
    How long a server has run on a processor so far.
    """
    with open(f"/proc/{server.process.pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("isBusy", [False, True])
def test_crowd(
    startEach: Callable[..., Server], listener: socket.socket, isBusy: bool
) -> None:
    """
    Many clients that nothing is left for are closed; those who were there are
    served as before, and new ones as soon as the crowd is gone.
    """
    server = startEach()
    with ExitStack() as stack:
        old = [tunnel(server, listener) for _ in range(5)]
        for pair in old:
            for one in pair:
                stack.enter_context(one)
        stack.enter_context(descriptorsLeft(server, 20))
        lines = server.output().count("\n")
        began, processor = time.monotonic(), processorSeconds(server)
        crowd = [server.connect() for _ in range(500)]
        if isBusy:
            for client in crowd:
                try:
                    client.sendall(GREET + connectTo(listener.getsockname()[1]))
                except ConnectionError:
                    continue
        server.waitUntil(lambda: sum(map(isClosed, crowd)) >= 480, 5)
        for client, destination in old:
            client.sendall(b"still")
            assert readExactly(destination, 5) == b"still"
            destination.sendall(b"there")
            assert readExactly(client, 5) == b"there"
        time.sleep(2)  # what it does meanwhile is to be seen
        passed = time.monotonic() - began
        assert processorSeconds(server) - processor < 0.1 * passed + 0.3
        assert server.output().count("\n") - lines <= 10 * passed
        assert "EMFILE" not in server.output()
        assert "clients turned away" in server.output()
        for client in crowd:
            client.close()
        while select.select([listener], [], [], 0)[0]:
            listener.accept()[0].close()
        server.waitForDescriptors(10)
        server.waitUntil(lambda: canBeServed(server, listener), 2)
        assertServes(server, listener)


def test_fullAllTheTime(start: Callable[..., Server], listener: socket.socket) -> None:
    """
    With none left at all, clients are still closed instead of being left
    waiting, and nothing is logged for each.
    """
    server = start()
    client, destination = tunnel(server, listener)
    with client, destination, descriptorsLeft(server, 0):
        for _ in range(30):
            with server.connect() as late:
                select.select([late], [], [], 10)
                assert isClosed(late)
        client.sendall(b"still")
        assert readExactly(destination, 5) == b"still"
        assert "EMFILE" not in server.output()
    server.waitUntil(lambda: canBeServed(server, listener))


def canBeServed(server: Server, listener: socket.socket) -> bool:
    with server.connect() as client:
        try:
            client.sendall(GREET)
            if not client.recv(1):
                return False
        except ConnectionError:
            return False
    assertServes(server, listener)
    return True


def test_nothingToConnectWith(
    startEach: Callable[..., Server], listener: socket.socket
) -> None:
    """
    A client that was accepted while there were some is told 01, whatever it asks
    for.
    """
    server = startEach()
    port = listener.getsockname()[1]
    for asked in (
        connectTo(port),
        connectToName(b"localhost", port),
        connectToName(b"nosuch.example", port),
        request(BIND, "0.0.0.0"),
        request(ASSOCIATE, "0.0.0.0"),
    ):
        with server.connect() as client:
            client.sendall(GREET)
            assert readExactly(client, 2) == b"\x05\x00"
            with descriptorsLeft(server, 0):
                client.sendall(asked)
                assert readAll(client) == failure(1), asked
