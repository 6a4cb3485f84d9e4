# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Deadlines, and how many there may be.

That a deadline is kept shows by the connection's end: nothing else would end
it.  How long it took is not measured.
"""

from __future__ import annotations

import select
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conversation import (
    GREET,
    assertServes,
    connectTo,
    readAll,
    readExactly,
    tunnel,
)

if TYPE_CHECKING:
    from tests.conftest import Server


def test_handshakeDeadlineInEachPhase(
    start: Callable[..., Server], listener: socket.socket
) -> None:
    server = start("--auth", "memory:user:password", "--set", "timeout.handshake=2")
    logIn = b"\x05\x01\x02\x01\x04user\x08password"
    cases = [
        (b"", b""),
        (b"\x05", b""),
        (b"\x05\x02\x00", b""),
        (b"\x05\x01\x02", b"\x05\x02"),
        (b"\x05\x01\x02\x01\x04u", b"\x05\x02"),
        (logIn[:-1], b"\x05\x02"),
        (logIn, b"\x05\x02\x01\x00"),
        (logIn + b"\x05\x01\x00", b"\x05\x02\x01\x00"),
        (logIn + b"\x05\x01\x00\x03\xffa", b"\x05\x02\x01\x00"),
    ]
    clients = []
    for sent, _ in cases:
        client = server.connect()
        client.sendall(sent)
        clients.append(client)
    for client, (_, answer) in zip(clients, cases, strict=True):
        with client:
            assert readAll(client) == answer
    server.waitForLog("handshake timed out", len(cases))


def test_handshakeDeadlineIsAbsolute(start: Callable[..., Server]) -> None:
    """
    Bytes that trickle in do not put it off: a name of 255 bytes would take
    half a minute.
    """
    server = start("--set", "timeout.handshake=1")
    with server.connect() as client:
        client.sendall(GREET + b"\x05\x01\x00\x03\xff")
        assert readExactly(client, 2) == b"\x05\x00"
        sent = 0
        while not select.select([client], [], [], 0.1)[0]:
            client.sendall(b"a")
            sent += 1
        assert sent < 255
        assert client.recv(1) == b""


def test_handshakeDeadlineEndsWithTheRequest(
    start: Callable[..., Server], listener: socket.socket
) -> None:
    server = start("--set", "timeout.handshake=1")
    client, destination = tunnel(server, listener)
    with client, destination, server.connect() as another:
        assert readAll(another) == b""  # whose time began later
        client.sendall(b"still here")
        assert readExactly(destination, 10) == b"still here"


def served(server: Server, source: str) -> bool:
    """
    Whether a client from an address gets an answer.
    """
    try:
        with socket.create_connection(
            ("127.0.0.1", server.port), 10, source_address=(source, 0)
        ) as client:
            client.sendall(GREET)
            return client.recv(2) == b"\x05\x00"
    except ConnectionError:  # even while it connects
        return False


def test_sessionsInAll(start: Callable[..., Server], listener: socket.socket) -> None:
    server = start("--set", "limit.sessions=3")
    pairs = [tunnel(server, listener) for _ in range(3)]
    for _ in range(5):
        assert not served(server, "127.0.0.1")
    server.waitForLog("over limit.sessions", 5)
    for client, destination in pairs:
        client.sendall(b"works")
        assert readExactly(destination, 5) == b"works"
    for client, destination in pairs:
        client.close()
        destination.close()
    server.waitForDescriptors(0)
    assertServes(server, listener)


def test_sessionsOfOneClient(start: Callable[..., Server]) -> None:
    server = start("--set", "limit.sessions-per-client=2")

    def come(source: str) -> socket.socket:
        client = socket.create_connection(
            ("127.0.0.1", server.port), 10, source_address=(source, 0)
        )
        client.sendall(GREET)
        assert readExactly(client, 2) == b"\x05\x00"
        return client

    first, second = come("127.0.0.7"), come("127.0.0.7")
    assert not served(server, "127.0.0.7")
    assert not served(server, "127.0.0.7")
    with come("127.0.0.8"):
        assert not served(server, "127.0.0.7")
    server.waitForLog("client=127.0.0.7", 3)
    server.waitForLog('reason="over limit.sessions-per-client"', 3)
    first.close()
    server.waitForDescriptors(1)
    with come("127.0.0.7"):
        assert not served(server, "127.0.0.7")
    second.close()


def test_idle(start: Callable[..., Server], listener: socket.socket) -> None:
    """
    A byte now and then keeps a tunnel, in whichever direction; silence ends
    it on both sides.
    """
    server = start("--set", "timeout.idle=3")
    client, destination = tunnel(server, listener)
    with client, destination:
        end = time.monotonic() + 4
        one, other = client, destination
        while time.monotonic() < end:
            one.sendall(b"x")
            assert other.recv(1) == b"x"
            one, other = other, one
            assert not select.select([client, destination], [], [], 0.2)[0]
        assert client.recv(1) == b""
        assert destination.recv(1) == b""
        server.waitForLog("reason=idle")


@pytest.mark.parametrize("byClient", [True, False])
def test_halfClosedAndSilent(
    start: Callable[..., Server], listener: socket.socket, byClient: bool
) -> None:
    server = start("--set", "timeout.half-closed=1")
    client, destination = tunnel(server, listener)
    whole, wholeEnd = tunnel(server, listener)
    one, other = (client, destination) if byClient else (destination, client)
    with client, destination, whole, wholeEnd:
        one.shutdown(socket.SHUT_WR)
        assert other.recv(1) == b""
        assert one.recv(1) == b""
        server.waitForLog("half-closed and silent")
        # One that is not half-closed has no such deadline.
        whole.sendall(b"hello")
        assert readExactly(wholeEnd, 5) == b"hello"


def test_halfClosedButNotSilent(
    start: Callable[..., Server], listener: socket.socket
) -> None:
    server = start("--set", "timeout.half-closed=3")
    client, destination = tunnel(server, listener)
    with client, destination:
        client.shutdown(socket.SHUT_WR)
        assert destination.recv(1) == b""
        end = time.monotonic() + 4
        while time.monotonic() < end:
            destination.sendall(b"x")
            assert client.recv(1) == b"x"
            assert not select.select([client], [], [], 0.2)[0]
        destination.close()
        assert client.recv(1) == b""


def test_lateRequest(start: Callable[..., Server], listener: socket.socket) -> None:
    """
    A request that is completed too late is not served.
    """
    server = start("--set", "timeout.handshake=1")
    request = connectTo(listener.getsockname()[1])
    with server.connect() as client:
        client.sendall(GREET + request[:-1])
        assert readAll(client) == b"\x05\x00"
        try:
            client.sendall(request[-1:])
        except ConnectionError:
            pass
    assertServes(server, listener)
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_rulesLimits(
    start: Callable[..., Server], listener: socket.socket, tmp_path: Path
) -> None:
    """
    Those of a rule are told that it is not allowed, and others are not among them.
    """
    port = listener.getsockname()[1]
    rules = tmp_path / "rules.toml"
    rules.write_text(
        '[[rule]]\naction = "allow"\nuser = "alice"\nlimit = { sessions = 1 }\n'
        '[[rule]]\naction = "allow"\n'
    )
    accounts = ("--auth", "memory:alice:a", "--auth", "memory:bob:b")
    server = start(*accounts, "--rules", str(rules))

    def ask(user: str) -> tuple[socket.socket, int]:
        client = server.connect()
        login = (
            b"\x01" + bytes((len(user),)) + user.encode() + b"\x01" + user[:1].encode()
        )
        client.sendall(b"\x05\x01\x02" + login + connectTo(port))
        return client, readExactly(client, 14)[5]

    first, reply = ask("alice")
    assert reply == 0
    destination, _ = listener.accept()
    over, reply = ask("alice")
    assert (reply, readAll(over)) == (2, b"")
    reason = 'reason="over limit.sessions of rule allow user=alice"'
    server.waitForLog(reason)
    bob, reply = ask("bob")
    assert reply == 0
    over.close()
    first.close()
    destination.close()
    server.waitForDescriptors(2)  # of the other's tunnel
    again, reply = ask("alice")
    assert reply == 0
    for one in (bob, again):
        one.close()


def test_clientsAreNetworks(start: Callable[..., Server]) -> None:
    server = start(
        "--set", "limit.sessions-per-client=1", "--set", "limit.client-prefix-ipv4=24"
    )
    with socket.create_connection(
        ("127.0.0.1", server.port), 10, source_address=("127.0.7.7", 0)
    ):
        assert not served(server, "127.0.7.8")
        assert served(server, "127.0.8.7")


def test_newSessions(start: Callable[..., Server]) -> None:
    """
    After those that may come at once, one is refused; and later others may come.
    """
    server = start("--set", "limit.new-sessions-per-client=3")
    answers = [served(server, "127.0.0.7") for _ in range(20)]
    assert answers[:3] == [True] * 3
    assert not all(answers)
    assert served(server, "127.0.0.8")
    server.waitForLog('reason="over limit.new-sessions-per-client"')
    server.waitUntil(lambda: served(server, "127.0.0.7"))


def test_listenersLimits(
    start: Callable[..., Server], listener: socket.socket, tmp_path: Path
) -> None:
    """
    They are for those who come there, and change with the file; whoever is there
    already stays counted.
    """
    path = tmp_path / "server.toml"

    def write(limits: str) -> None:
        path.write_text(
            'port = 0\n[[listener]]\nendpoint = "tcp:0:interface=127.0.0.2"\n' + limits
        )

    def come() -> socket.socket | None:
        client = None
        try:  # it may be refused before it has connected
            client = socket.create_connection(own, 10)
            client.sendall(GREET)
            if client.recv(2) == b"\x05\x00":
                return client
        except ConnectionError:
            pass
        if client is not None:
            client.close()
        return None

    write("limit = { sessions = 1 }\n")
    server = start("--config", str(path), port=())
    more: list[socket.socket] = []

    def anotherCame() -> bool:
        more.extend(filter(None, [come()]))
        return len(more) == expected

    own = server.address("tcp:0:interface=127.0.0.2")
    first = come()
    assert first is not None
    assert come() is None
    reason = "over limit.sessions of listener tcp:0:interface=127.0.0.2"
    server.waitForLog(f'reason="{reason}"')
    assert served(server, "127.0.0.1")
    write("limit = { sessions = 2 }\n")
    server.process.send_signal(signal.SIGHUP)
    expected = 1
    server.waitUntil(anotherCame)
    assert come() is None
    write("")
    server.process.send_signal(signal.SIGHUP)
    expected = 2
    server.waitUntil(anotherCame)
    for client in (first, *more):
        client.close()
