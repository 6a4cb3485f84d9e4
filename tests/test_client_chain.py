# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A chain of three started servers, each with another method.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.defer import gatherResults
from twisted.protocols.basic import FileSender

from tests.conversation import pattern
from tests.kdc import Realm
from tests.loopback import Peer, Place, factoryOf, inReactor
from tests.test_client_gssapi import login
from twisted_socks5 import Login, SOCKS5ClientEndpoint

if TYPE_CHECKING:
    from tests.conftest import Server

MUCH = 64 << 20


class Digesting(Peer):
    """
    Counts and hashes what comes, so as not to keep it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.hash = hashlib.sha256()

    def dataReceived(self, data: bytes) -> None:
        self.count += len(data)
        self.hash.update(data)

    def send(self, payload: bytes) -> Any:
        return FileSender().beginFileTransfer(BytesIO(payload), self.transport)


async def connected(
    place: Place, realm: Realm, servers: list[Server]
) -> tuple[Digesting, Digesting]:
    """
    A client's and a destination's protocol, with the servers between.
    """
    ways = [
        (servers[1].port, ()),
        (servers[2].port, (Login("alice", "wonderland"),)),
        (
            await place.serve(Digesting),
            (login(realm),),
        ),
    ]
    endpoint: Any = place.to(servers[0].port)
    for port, methods in ways:
        endpoint = SOCKS5ClientEndpoint(endpoint, "127.0.0.1", port, *methods)
    client: Any = await endpoint.connect(factoryOf(Digesting))
    await place.until(lambda: place.protocols)
    (destination,) = place.protocols
    return client, destination


@pytest.fixture
def servers(start: Callable[..., Server], realm: Realm) -> list[Server]:
    """
    The chain, from the client's end.
    """
    return [
        start(),
        start("--auth", "memory:alice:wonderland"),
        start(f"--authenticator=gssapi:keytab={realm.keytab}"),
    ]


@inReactor
async def test_muchBothWays(place: Place, realm: Realm, servers: list[Server]) -> None:
    client, destination = await connected(place, realm, servers)
    there, back = pattern("there", MUCH), pattern("back", MUCH)
    await gatherResults([client.send(there), destination.send(back)])
    await place.until(lambda: client.count >= MUCH and destination.count >= MUCH, 120)
    assert destination.hash.digest() == hashlib.sha256(there).digest()
    assert client.hash.digest() == hashlib.sha256(back).digest()
    client.transport.loseConnection()
    await place.until(lambda: client.reason and destination.reason)
    servers[0].waitForLog("session=2 ")
    servers[1].waitForLog("user=alice command=CONNECT")
    servers[2].waitForLog("user=alice@SOCKS.TEST command=CONNECT")


@inReactor
async def test_theMiddleOneIsKilled(
    place: Place, realm: Realm, servers: list[Server]
) -> None:
    """
    Both ends hear of it, and the other two servers keep nothing.
    """
    client, destination = await connected(place, realm, servers)
    client.transport.write(b"question")
    destination.transport.write(b"answer")
    await place.until(lambda: client.count == 6 and destination.count == 8)
    first, middle, last = servers
    os.kill(middle.process.pid, signal.SIGKILL)
    await place.until(lambda: client.reason and destination.reason)
    middle.process.wait(10)
    for other in (first, last):
        other.waitForDescriptors(0)
        other.waitForLog("session=2 ")
