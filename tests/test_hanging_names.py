# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Names whose name servers do not answer hold up nobody but those who ask for them.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.conversation import (
    GREET,
    assertServes,
    connectToName,
    failure,
    readExactly,
    tunnel,
)
from tests.dnsserver import DNSServer
from tests.loopback import inReactor

if TYPE_CHECKING:
    from tests.conftest import Server

WITH_NAMESERVER = os.path.join(os.path.dirname(__file__), "withnameserver.py")
HANGING = 200
RESOLVE = 8
NAME = b"good.test"


@inReactor
async def test_hangingNames(
    start: Callable[..., Server], listener: socket.socket
) -> None:
    names = DNSServer(reactor)
    names.has(NAME.decode(), "127.0.0.1")
    for number in range(HANGING):
        names.hush(f"hangs{number}.test")
    server = start(
        *("--set", f"timeout.resolve={RESOLVE}"),
        command=(WITH_NAMESERVER, str(names.port)),
    )
    try:
        before = len(names.asked)
        hanging = await deferToThread(askForAll, server)
        await names.whenAsked(before + 2 * HANGING)
        await deferToThread(othersAreServed, server, listener)
        await deferToThread(hangingFail, hanging)
    finally:
        await names.stop()


def askForAll(server: Server) -> list[socket.socket]:
    hanging = []
    for number in range(HANGING):
        client = server.connect()
        client.sendall(GREET + connectToName(f"hangs{number}.test".encode(), 80))
        assert readExactly(client, 2) == b"\x05\x00"
        hanging.append(client)
    return hanging


def othersAreServed(server: Server, listener: socket.socket) -> None:
    """
    By address and by name, many times before the first of those who hang has run
    out of time.
    """
    end = time.monotonic() + RESOLVE / 2
    for _ in range(50):
        client, destination = tunnel(server, listener)
        client.close()
        destination.close()
    for _ in range(20):
        with server.connect() as client:
            port = listener.getsockname()[1]
            client.sendall(GREET + connectToName(NAME, port))
            assert readExactly(client, 4) == b"\x05\x00\x05\x00"
            listener.accept()[0].close()
    assert time.monotonic() < end
    assertServes(server, listener)


def hangingFail(hanging: list[socket.socket]) -> None:
    for client in hanging:
        with client:
            client.settimeout(RESOLVE + 10)
            assert readExactly(client, 10) == failure(6)
