# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The client, through SOCKS5 servers that others wrote.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import blockon
from twisted.internet import reactor as theReactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.protocol import DatagramProtocol, Factory

from tests.conversation import pattern
from tests.interop import otherservers
from tests.interop.otherservers import PASSWORD, USER
from tests.loopback import Echo, HalfClosingPeer, Peer, Place, inReactor
from twisted_socks5 import (
    Login,
    SOCKS5ClientEndpoint,
    SOCKS5DatagramEndpoint,
    SOCKS5ServerEndpoint,
    errors,
)


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place(theReactor)
    yield place
    blockon(Deferred.fromCoroutine(place.close()))


SERVERS = ["dante", "dante-password", "microsocks", "microsocks-password", "ssh"]


class Other:
    """
    A server of others.
    """

    def __init__(self, name: str, program: otherservers.Program) -> None:
        self.name = name
        self.program = program
        self.logins = [Login(USER, PASSWORD)] if "password" in name else []

    def endpoint(self, place: Place, host: str, port: int) -> SOCKS5ClientEndpoint:
        return SOCKS5ClientEndpoint(
            place.to(self.program.port), host, port, *self.logins
        )


@pytest.fixture
def other(
    request: pytest.FixtureRequest, program: Callable[..., str], tmp_path: Path
) -> Iterator[Other]:
    name: str = request.param
    hasPassword = name.endswith("-password")
    if name == "ssh":
        sshd = request.getfixturevalue("sshd")
        started = otherservers.ssh(program, tmp_path, sshd.arguments)
    else:
        start = getattr(otherservers, name.removesuffix("-password"))
        started = start(program, tmp_path, password=hasPassword)
    try:
        started.waitForIt()
        yield Other(name, started)
    finally:
        started.stop()


async def connect(endpoint: SOCKS5ClientEndpoint, kind: Any = Peer) -> Any:
    factory: Any = Factory.forProtocol(kind)
    factory.noisy = False
    return await endpoint.connect(factory)


@pytest.mark.parametrize("other", SERVERS, indirect=True)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@inReactor
async def test_echo(place: Place, other: Other, host: str) -> None:
    port = await place.serve(Echo)
    peer = await connect(other.endpoint(place, host, port))
    data = pattern(4, 1 << 20)
    peer.transport.write(data)
    await place.until(lambda: len(peer.received) == len(data), 30)
    assert peer.received == data
    peer.transport.loseConnection()
    await place.until(lambda: peer.reason)


@pytest.mark.parametrize("other", SERVERS, indirect=True)
@inReactor
async def test_refused(place: Place, other: Other) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        endpoint = other.endpoint(place, "127.0.0.1", bound.getsockname()[1])
        if other.name == "ssh":
            # It says that it has connected before it has, if that gets out
            # before it closes.
            with suppress(errors.StreamEnded):
                peer = await connect(endpoint)
                await place.until(lambda: peer.reason)
            return
        with pytest.raises(errors.ConnectionRefused, match="through 127.0.0.1"):
            await connect(endpoint)


@pytest.mark.parametrize(
    "other", ["dante-password", "microsocks-password"], indirect=True
)
@inReactor
async def test_wrongPassword(place: Place, other: Other) -> None:
    other.logins = [Login(USER, "looking-glass")]
    with pytest.raises(errors.AuthenticationFailed):
        await connect(other.endpoint(place, "127.0.0.1", 9))
    other.logins = []
    with pytest.raises(errors.NoAcceptableMethod):
        await connect(other.endpoint(place, "127.0.0.1", 9))


@pytest.mark.parametrize("other", ["dante", "ssh"], indirect=True)
@inReactor
async def test_halfClose(place: Place, other: Other) -> None:
    port = await place.serve(HalfClosingPeer)
    peer = await connect(other.endpoint(place, "127.0.0.1", port), HalfClosingPeer)
    await place.until(lambda: place.protocols)
    destination = place.protocols[0]
    peer.transport.write(b"question")
    peer.transport.loseWriteConnection()
    await place.until(lambda: destination.isReadClosed)
    destination.transport.write(b"answer")
    destination.transport.loseConnection()
    await place.until(lambda: peer.isReadClosed)
    assert (destination.received, peer.received) == (b"question", b"answer")
    peer.transport.loseConnection()
    await place.until(lambda: peer.reason and destination.reason)


@pytest.mark.parametrize("other", ["dante", "dante-password"], indirect=True)
@inReactor
async def test_BIND(place: Place, other: Other) -> None:
    factory: Any = Factory.forProtocol(Peer)
    factory.noisy = False
    endpoint = SOCKS5ServerEndpoint(
        place.to(other.program.port), "127.0.0.1", 0, *other.logins
    )
    port: Any = await endpoint.listen(factory)
    peer: Any = await connectProtocol(place.to(port.getHost().port), Peer())
    accepted: Any = await port.accepted
    peer.transport.write(b"question")
    await place.until(lambda: accepted.received == b"question")
    accepted.transport.write(b"answer")
    await place.until(lambda: peer.received == b"answer")
    accepted.transport.loseConnection()
    await place.until(lambda: peer.reason and accepted.reason)


class Answering(DatagramProtocol):
    """
    Sends back what it gets.
    """

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        transport: Any = self.transport
        transport.write(datagram, addr)


class Keeping(DatagramProtocol):
    """
    Keeps what it gets.
    """

    def __init__(self) -> None:
        self.received: list[object] = []

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        self.received.append((datagram, addr))


@pytest.mark.parametrize("other", ["dante", "dante-password"], indirect=True)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@inReactor
async def test_ASSOCIATE(place: Place, other: Other, host: str) -> None:
    reactor: Any = theReactor
    answering = reactor.listenUDP(0, Answering(), interface="127.0.0.1")
    place.ports.append(answering)
    endpoint = SOCKS5DatagramEndpoint(
        reactor, place.to(other.program.port), *other.logins
    )
    protocol = Keeping()
    port = await endpoint.listen(protocol)
    number = answering.getHost().port
    for _ in range(2):
        port.write(b"hello", (host, number))
    await place.until(lambda: len(protocol.received) == 2)
    assert protocol.received == [(b"hello", ("127.0.0.1", number))] * 2
    await port.stopListening()


@pytest.mark.parametrize("other", ["microsocks", "ssh"], indirect=True)
@inReactor
async def test_whatOthersDoNotDo(place: Place, other: Other) -> None:
    proxy = place.to(other.program.port)
    factory: Any = Factory.forProtocol(Peer)
    with pytest.raises(errors.SOCKSError):
        await SOCKS5ServerEndpoint(proxy, "127.0.0.1", 0).listen(factory)
    with pytest.raises(errors.SOCKSError):
        await SOCKS5DatagramEndpoint(theReactor, proxy).listen(Keeping())
