# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
CONNECT with a started server: requests of all spellings, destinations that do
not answer, clients that leave.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.conversation import (
    GREET,
    LOGIN,
    assertServes,
    connectTo,
    connectTo6,
    connectToName,
    deaf,
    failure,
    loopback6,
    pattern,
    readAll,
    readExactly,
    reset,
    sending,
    sendUntilBlocked,
    tunnel,
)

if TYPE_CHECKING:
    from tests.conftest import Server

Leave = Callable[[socket.socket], object]


def test_IPv6(start: Callable[..., Server]) -> None:
    server = start()
    listening = loopback6()
    with listening, server.connect() as client:
        listening.settimeout(10)
        client.sendall(GREET + connectTo6("::1", listening.getsockname()[1]) + b"data")
        assert readExactly(client, 2) == b"\x05\x00"
        reply = readExactly(client, 22)
        destination, peer = listening.accept()
        with destination:
            assert reply[:4] == b"\x05\x00\x00\x04"
            assert reply[4:20] == socket.inet_pton(socket.AF_INET6, peer[0])
            assert reply[20:] == peer[1].to_bytes(2, "big")
            assert readExactly(destination, 4) == b"data"


@pytest.mark.parametrize("name", [b"localhost", b"LocalHost.", b"127.0.0.1"])
def test_name(
    start: Callable[..., Server], listener: socket.socket, name: bytes
) -> None:
    with start().connect() as client:
        client.sendall(GREET + connectToName(name, listener.getsockname()[1]))
        assert readExactly(client, 12)[2:6] == b"\x05\x00\x00\x01"
        listener.accept()[0].close()


def test_reservedOctetIsIgnored(
    start: Callable[..., Server], listener: socket.socket
) -> None:
    with start().connect() as client:
        request = connectTo(listener.getsockname()[1])
        client.sendall(GREET + request[:2] + b"\xff" + request[3:])
        assert readExactly(client, 12)[2:6] == b"\x05\x00\x00\x01"
        listener.accept()[0].close()


def test_secondRequestIsPayload(
    start: Callable[..., Server], listener: socket.socket
) -> None:
    request = connectTo(listener.getsockname()[1])
    with start().connect() as client:
        client.sendall(GREET + request + request)
        readExactly(client, 12)
        destination, _ = listener.accept()
        with destination:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            assert readAll(destination) == request * 2
        assert readAll(client) == b""


@pytest.mark.parametrize(
    "name",
    [
        b"localhost",
        b"LOCALHOST.",
        b"127.0.0.1",
        b"127.0.0.1.",
        b"127.1",
        b"0177.0.0.1",
        b"0x7f.1",
        b"0x7f000001",
        b"2130706433",
        b"0",
        b"0.0.0.0",
        b"::1",
        b"[::1]",
        b"::",
        b"::ffff:127.0.0.1",
        b"0:0:0:0:0:ffff:7f00:1",
        b"::127.0.0.1",
        b"::1%lo",
        b"127.0.0.1%lo",
        b" 127.0.0.1",
        b"127.0.0.1 ",
        b"127.0.0.1\x00",
        b"127.0.0.1\x00.example",
        "１２７.0.0.1".encode(),
        "127。0。0。1".encode(),
        "ⓛocalhost".encode(),
        b"\xff\xfe",
    ],
)
def test_loopbackHoweverSpelt(start: Callable[..., Server], name: bytes) -> None:
    """
    Who may not get to loopback does not get there by another spelling.
    """
    server = start("--policy", "guard:local=elsewhere")
    with socket.create_server(
        ("", 0), family=socket.AF_INET6, dualstack_ipv6=True
    ) as anywhere:
        with server.connect() as client:
            client.sendall(GREET + connectToName(name, anywhere.getsockname()[1]))
            answer = readAll(client)
        assert answer in (b"\x05\x00" + failure(2), b"\x05\x00" + failure(4))
        if name.lower().startswith(b"localhost"):
            assert answer[3] == 2
        anywhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            anywhere.accept()


@pytest.mark.parametrize(
    "host",
    [
        "::1",
        "::",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
    ],
)
def test_loopbackInIPv6(start: Callable[..., Server], host: str) -> None:
    server = start("--policy", "guard:local=elsewhere")
    with socket.create_server(
        ("", 0), family=socket.AF_INET6, dualstack_ipv6=True
    ) as anywhere:
        with server.connect() as client:
            client.sendall(GREET + connectTo6(host, anywhere.getsockname()[1]))
            assert readAll(client) == b"\x05\x00" + failure(2)
        anywhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            anywhere.accept()


def test_connectTimesOut(start: Callable[..., Server], listener: socket.socket) -> None:
    server = start("--set", "timeout.connect=1")
    with deaf() as listening, server.connect() as client:
        client.sendall(GREET + connectTo(listening.getsockname()[1]) + b"data")
        assert readAll(client) == b"\x05\x00" + failure(6)
    assertServes(server, listener)


@pytest.mark.parametrize(
    "leave", [socket.socket.close, reset, lambda client: client.shutdown(1)]
)
def test_clientLeavesWhileConnecting(
    start: Callable[..., Server], leave: Leave
) -> None:
    """
    The attempt is given up long before its own deadline.
    """
    server = start("--set", "timeout.connect=300")
    with deaf() as listening, server.connect() as client:
        client.sendall(GREET + connectTo(listening.getsockname()[1]))
        assert readExactly(client, 2) == b"\x05\x00"
        server.waitForDescriptors(2)
        leave(client)
        server.waitForDescriptors(0)


def test_halfCloseWhileConnecting(startEach: Callable[..., Server]) -> None:
    """
    A client that has sent all of its payload waits for the answer.
    """
    server = startEach()
    with deaf() as listening, server.connect() as client:
        client.settimeout(30)
        client.sendall(GREET + connectTo(listening.getsockname()[1]) + b"data")
        client.shutdown(socket.SHUT_WR)
        server.waitForDescriptors(2)
        destination = acceptLast(listening)
        with destination:
            assert readAll(destination) == b"data"
            destination.sendall(b"answer")
        assert readAll(client)[12:] == b"answer"


def acceptLast(listening: socket.socket) -> socket.socket:
    """
    Let in who waits, until the proxy's own try comes through.
    """
    while True:
        destination, _ = listening.accept()
        destination.setblocking(False)
        try:
            destination.settimeout(3)
            if destination.recv(1, socket.MSG_PEEK):
                destination.settimeout(30)
                return destination
        except TimeoutError:
            pass
        destination.close()


def test_payloadBeforeTheReply(startEach: Callable[..., Server]) -> None:
    """
    It is not lost, and what the proxy keeps of it is bounded.
    """
    server = startEach()
    payload = pattern("early", 10 * 1024 * 1024)
    with deaf() as listening, server.connect() as client:
        client.settimeout(30)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        client.sendall(GREET + connectTo(listening.getsockname()[1]))
        assert readExactly(client, 2) == b"\x05\x00"
        server.waitForDescriptors(2)
        before = server.memory()
        sent = sendUntilBlocked(client, payload)
        assert sent < len(payload)
        assert server.memory() - before < 2 * 1024 * 1024
        with sending(client, payload[sent:], thenEnd=True):
            destination = acceptLast(listening)
            with destination:
                assert readAll(destination) == payload
                destination.sendall(b"got it")
        assert readAll(client)[10:] == b"got it"


def test_bannerComesAfterTheReply(
    startEach: Callable[..., Server], listener: socket.socket
) -> None:
    def greet() -> None:
        for _ in range(20):
            destination, _ = listener.accept()
            destination.sendall(b"220 hello")
            destination.close()

    greeting = threading.Thread(target=greet)
    greeting.start()
    server = startEach()
    for _ in range(20):
        with server.connect() as client:
            client.sendall(GREET + connectTo(listener.getsockname()[1]))
            answer = readAll(client)
            assert answer[:6] == b"\x05\x00\x05\x00\x00\x01"
            assert answer[12:] == b"220 hello"
    greeting.join()


def test_pingPong(start: Callable[..., Server], listener: socket.socket) -> None:
    client, destination = tunnel(start(), listener)
    with client, destination:
        for number in range(64):
            byte = bytes((number,))
            client.sendall(byte)
            assert destination.recv(9) == byte
            destination.sendall(byte)
            assert client.recv(9) == byte


def test_sessionsAreKeptApart(
    start: Callable[..., Server], listener: socket.socket
) -> None:
    server = start()
    size = 65536
    pairs = [tunnel(server, listener) for _ in range(150)]
    for number, (client, _) in enumerate(pairs):
        client.sendall(pattern(number, size))
    for number, (_, destination) in enumerate(pairs):
        assert readExactly(destination, size) == pattern(number, size)
        destination.sendall(pattern(-number, size))
    for number, (client, destination) in enumerate(pairs):
        assert readExactly(client, size) == pattern(-number, size)
        client.close()
        assert destination.recv(1) == b""
        destination.close()


def test_manyConnectAndReset(
    start: Callable[..., Server], listener: socket.socket
) -> None:
    server = start()
    for _ in range(50):
        for _ in range(40):
            reset(server.connect())
        with server.connect() as last:  # lest more wait than the kernel keeps
            last.sendall(GREET)
            assert readExactly(last, 2) == b"\x05\x00"
    assertServes(server, listener)
    server.waitForDescriptors(0)


@pytest.mark.parametrize("leave", [socket.socket.close, reset])
def test_clientVanishesInEachPhase(
    start: Callable[..., Server], listener: socket.socket, leave: Leave
) -> None:
    """
    After any byte of the conversation, with and without having read the
    answers.
    """
    server = start("--auth", "memory:user:password")
    whole = LOGIN + connectTo(listener.getsockname()[1])
    answers = {3: b"\x05\x02", len(LOGIN): b"\x01\x00"}
    for length in range(len(whole)):
        for reads in (False, True):
            client = server.connect()
            client.sendall(whole[:length])
            if reads:
                for after, answer in answers.items():
                    if length >= after:
                        assert readExactly(client, 2) == answer
            leave(client)
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.settimeout(10)
    with socket.create_server(("127.0.0.1", 0)) as other:
        request = connectTo(other.getsockname()[1])
        for _ in range(20):
            client = server.connect()
            client.sendall(LOGIN + request + b"data")
            leave(client)
    # Whom the client's end has reached by then ends, too, by being gone.
    server.waitForDescriptors(0)
    with server.connect() as client:
        client.sendall(whole + b"data")
        assert readExactly(client, 14)[:6] == b"\x05\x02\x01\x00\x05\x00"
