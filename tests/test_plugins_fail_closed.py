# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A server whose plugins raise, answer nonsense or never answer: each time the
client is not let through, the log has one event without a secret, and the
server lives.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.broken import SECRET, WAYS
from tests.conversation import GREET, connectTo, failure, readAll, readExactly

if TYPE_CHECKING:
    from tests.conftest import Server

BROKEN = os.path.join(os.path.dirname(__file__), "broken.py")
RAISE = ["raises", "raisesLater", "fails"]
NONSENSE = ["none", "true", "nonsense", "nonsenseLater", "nothingLater"]
PASSWORD = b"swordfish"


def startBroken(
    start: Callable[..., Server], where: str, way: str, defects: int = 1
) -> Server:
    # It takes the command line for its own: what is broken, and --port 0.
    server = start(command=(BROKEN, where, way))
    server.defects = defects
    return server


def logIn(user: bytes, password: bytes = PASSWORD) -> bytes:
    return (
        b"\x05\x01\x02\x01"
        + bytes((len(user),))
        + user
        + bytes((len(password),))
        + password
    )


def assertNoSecret(server: Server) -> None:
    assert SECRET not in server.output()
    assert PASSWORD.decode() not in server.output()


def assertCounted(
    server: Server,
    ended: dict[str, dict[str, int]],
    authentications: dict[str, dict[str, int]],
    sessions: int = 2,
) -> None:
    """
    What there was besides the one client that has sent nothing.
    """
    server.waitForLog("counts=", sessions)
    counts = json.loads(server.output().rpartition("counts=")[2].splitlines()[0])
    assert not any(counts["sessions"].values())
    assert counts["ended"].pop("none", {}).get("none", 0) >= 1
    assert counts["ended"] == ended
    assert counts["authentications"] == authentications


def assertUntouched(listener: socket.socket) -> None:
    """
    Nobody has connected to it.
    """
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.settimeout(10)


@pytest.mark.parametrize("way", RAISE + NONSENSE)
def test_checker(
    start: Callable[..., Server], listener: socket.socket, way: str
) -> None:
    server = startBroken(start, "checker", way)
    request = connectTo(listener.getsockname()[1])
    with server.connect() as client:
        client.sendall(logIn(b"user") + request)
        assert readAll(client) == b"\x05\x02\x01\x01"
    assertUntouched(listener)
    server.waitForLog("Checker failed in requestAvatarId")
    assertNoSecret(server)
    assertCounted(server, {}, {"02": {"failed": 1}})
    with server.connect() as client:
        client.sendall(logIn(b"good") + request)
        assert readExactly(client, 14)[:6] == b"\x05\x02\x01\x00\x05\x00"


def test_checkerThatNeverAnswers(
    start: Callable[..., Server], listener: socket.socket
) -> None:
    """
    The deadline of the handshake ends it; others are served meanwhile.
    """
    server = startBroken(start, "checker", "never", defects=0)
    request = connectTo(listener.getsockname()[1])
    with server.connect() as client:
        client.sendall(logIn(b"user") + request)
        assert readExactly(client, 2) == b"\x05\x02"
        with server.connect() as another:
            another.sendall(logIn(b"good") + request)
            assert readExactly(another, 14)[:6] == b"\x05\x02\x01\x00\x05\x00"
        listener.accept()[0].close()
        assert readAll(client) == b"\x01\x01"
    assertUntouched(listener)
    for leave in (socket.socket.close, lambda client: client.shutdown(1)):
        with server.connect() as client:
            client.sendall(logIn(b"user"))
            assert readExactly(client, 2) == b"\x05\x02"
            leave(client)
            server.waitForDescriptors(0)
    assertNoSecret(server)


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"\x05\x04user\x09swordfish", b"\x01\x01"),
        (b"\x00\x04user\x09swordfish", b"\x01\x01"),
        (b"\x01\x04user\x00", b"\x01\x01"),
        (b"\x01\x00\x09swordfish", b"\x01\x01"),
    ],
)
def test_loginThatIsWrong(
    start: Callable[..., Server],
    listener: socket.socket,
    sent: bytes,
    answer: bytes,
) -> None:
    """
    RFC 1929, with another version or empty fields.
    """
    server = start("--auth", "memory:user:swordfish")
    with server.connect() as client:
        client.sendall(b"\x05\x01\x02" + sent + connectTo(listener.getsockname()[1]))
        assert readAll(client) == b"\x05\x02" + answer
    assertUntouched(listener)
    assertNoSecret(server)


@pytest.mark.parametrize("way", ["raises", "never"])
def test_isAvailable(start: Callable[..., Server], way: str) -> None:
    server = startBroken(start, "isAvailable", way)
    with server.connect() as client:
        client.sendall(GREET + connectTo(1))
        assert readAll(client) == b"\x05\xff"
    assertNoSecret(server)
    assertCounted(server, {}, {"ff": {"failed": 1}})


@pytest.mark.parametrize("way", RAISE + NONSENSE)
def test_authenticate(
    start: Callable[..., Server], listener: socket.socket, way: str
) -> None:
    server = startBroken(start, "authenticate", way)
    with server.connect() as client:
        client.sendall(GREET + connectTo(listener.getsockname()[1]))
        assert readAll(client) == b"\x05\x00no"
    assertUntouched(listener)
    assertNoSecret(server)
    assertCounted(server, {}, {"00": {"broken": 1}})


def test_authenticateNeverAnswers(start: Callable[..., Server]) -> None:
    server = startBroken(start, "authenticate", "never", defects=0)
    with server.connect() as client:
        client.sendall(GREET)
        assert readAll(client) == b"\x05\x00no"
    assertCounted(server, {}, {"00": {"abandoned": 1}})


def test_logout(start: Callable[..., Server], listener: socket.socket) -> None:
    server = startBroken(start, "logout", "raises")
    with server.connect() as client:
        client.sendall(GREET + connectTo(listener.getsockname()[1]))
        assert readExactly(client, 12)[3] == 0
        listener.accept()[0].close()
    server.waitForDescriptors(0)
    server.waitForLog("session=2 ")  # the end of it is told all the same
    assertNoSecret(server)
    assertCounted(server, {"CONNECT": {"00": 1}}, {"00": {"succeeded": 1}})


@pytest.mark.parametrize("where", ["decide", "checkAddress"])
@pytest.mark.parametrize("way", [*WAYS])
def test_policy(
    start: Callable[..., Server], listener: socket.socket, where: str, way: str
) -> None:
    server = startBroken(start, where, way)
    with server.connect() as client:
        client.sendall(GREET + connectTo(listener.getsockname()[1]))
        assert readAll(client) == b"\x05\x00" + failure(2)
    assertUntouched(listener)
    server.waitForLog(f"Policy failed in {where}")
    assertCounted(server, {"CONNECT": {"02": 1}}, {"00": {"succeeded": 1}})


@pytest.mark.parametrize(
    ("where", "way"),
    [
        *((where, way) for where in ("route", "command") for way in RAISE),
        ("route", "nonsenseLater"),
        ("route", "nothingLater"),
    ],
)
def test_routeAndCommand(start: Callable[..., Server], where: str, way: str) -> None:
    server = startBroken(start, where, way)
    with server.connect() as client:
        client.sendall(GREET + connectTo(1))
        assert readAll(client) == b"\x05\x00" + failure(1)
    assertCounted(server, {"CONNECT": {"01": 1}}, {"00": {"succeeded": 1}})


def test_routeForDatagrams(start: Callable[..., Server]) -> None:
    """
    What it answers is no way for datagrams; the port for the client's is closed
    again.
    """
    server = startBroken(start, "route", "never")
    with server.connect() as client:
        client.sendall(GREET + b"\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00")
        assert readAll(client) == b"\x05\x00" + failure(1)
    server.waitForDescriptors(0)
    assertCounted(server, {"ASSOCIATE": {"01": 1}}, {"00": {"succeeded": 1}})


@pytest.mark.parametrize("where", ["decide", "checkAddress", "route", "command"])
def test_clientLeavesWhoWaitsForAnAnswer(
    start: Callable[..., Server], where: str
) -> None:
    """
    A question that nobody waits for any more is no defect.
    """
    server = startBroken(start, where, "never", defects=0)
    with server.connect() as client:
        client.sendall(GREET + connectTo(1))
        assert readExactly(client, 2) == b"\x05\x00"
        client.close()
        server.waitForDescriptors(0)
    server.waitForLog("session=2 ")


@pytest.mark.parametrize("way", RAISE)
def test_commandAfterItHasJoinedBothEnds(
    start: Callable[..., Server], listener: socket.socket, way: str
) -> None:
    """
    Both are cut.
    """
    server = startBroken(start, "afterwards", way)
    with server.connect() as client:
        client.sendall(GREET + connectTo(listener.getsockname()[1]))
        destination, _ = listener.accept()
        with destination, pytest.raises(ConnectionResetError):
            destination.recv(1)
        server.waitForDescriptors(0)
