# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Conversations with a started server, byte by byte.
"""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.conversation import GREET, connectTo, readAll, readExactly, tunnel

if TYPE_CHECKING:
    from tests.conftest import Server


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        ("050100", "0500"),
        ("05020002", "0500"),
        ("05ff" + "".join(f"{n:02x}" for n in range(255)), "0500"),
    ],
)
def test_greeting(start: Callable[..., Server], sent: str, answer: str) -> None:
    with start().connect() as client:
        client.sendall(bytes.fromhex(sent))
        assert readExactly(client, 2).hex() == answer


@pytest.mark.parametrize("sent", [b"\x05\x01\x02", b"\x05\x00", b"GET / HTTP/1.1\r\n"])
def test_greetingRefused(start: Callable[..., Server], sent: bytes) -> None:
    with start().connect() as client:
        client.sendall(sent)
        assert readAll(client) == b"\x05\xff"


def test_passwordRequired(
    start: Callable[..., Server], listener: socket.socket
) -> None:
    server = start("--auth", "memory:user:password")
    with server.connect() as client:
        client.sendall(GREET)
        assert readAll(client) == b"\x05\xff"
    login = b"\x05\x02\x00\x02\x01\x04user\x08password"
    with server.connect() as client:
        client.sendall(login + connectTo(listener.getsockname()[1]))
        assert readExactly(client, 4) == b"\x05\x02\x01\x00"
        assert readExactly(client, 4) == b"\x05\x00\x00\x01"
    for user in (b"\x04user\x03bad", b"\x06nobody\x08password", b"\x00\x00"):
        with server.connect() as client:
            client.sendall(b"\x05\x01\x02\x01" + user + connectTo(1) + b"data")
            assert readAll(client) == b"\x05\x02\x01\x01"
    assert server.output().count("other users of this host") == 1
    assert "bad" not in server.output()


def test_wrongPasswordAndMore(
    start: Callable[..., Server], listener: socket.socket
) -> None:
    """
    What follows it is not looked at, and one failure is like the other.
    """
    server = start("--auth", "memory:user:password:empty:")
    more = connectTo(listener.getsockname()[1]) + b"data"
    for user in (b"\x04user\x03bad", b"\x06nobody\x03bad", b"\x05empty\x03bad"):
        for pieces in ([user + more], [user, more]):
            with server.connect() as client:
                client.sendall(b"\x05\x01\x02\x01" + pieces[0])
                if pieces[1:]:
                    client.sendall(pieces[1])
                assert readAll(client) == b"\x05\x02\x01\x01"
    with server.connect() as client:  # an empty password is one
        client.sendall(b"\x05\x01\x02\x01\x05empty\x00")
        assert readExactly(client, 4) == b"\x05\x02\x01\x00"
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_refusedClientThatStays(start: Callable[..., Server]) -> None:
    """
    It is cut off, and its session ends like any other.
    """
    server = start()
    with server.connect() as client:
        client.sendall(b"\x05\x01\x02")
        assert readAll(client) == b"\x05\xff"
        server.waitForLog("session=2 ")
        server.waitForDescriptors(0)


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        ("05000001 7f000001 0001", 0x07),
        ("05ff0001 7f000001 0001", 0x07),
        ("05f00003 03 610062 0050", 0x07),
        ("05f00003 00 0050", 0x07),
        ("05010005 7f000001 0001", 0x08),
        ("05ff0000 7f000001 0001", 0x08),
        ("04010001 7f000001 0001", 0x01),
        ("05010003 00 0050", 0x04),
        ("05010003 ff" + "61" * 255 + "0050", 0x04),
        ("05010003 03 610062 0050", 0x04),
        ("05010003 04 610d0a62 0050", 0x04),
        ("05010003 0c 6e6f7065 2e 696e76616c6964 0050", 0x04),
        ("05010001 7f000001 0000", 0x01),
    ],
)
def test_requestFails(start: Callable[..., Server], request_: str, reply: int) -> None:
    with start().connect() as client:
        client.sendall(GREET + bytes.fromhex(request_))
        assert readAll(client) == b"\x05\x00\x05" + bytes((reply,)) + bytes.fromhex(
            "0001 00000000 0000"
        )


def test_refusedPort(start: Callable[..., Server]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with start().connect() as client:
        client.sendall(GREET + connectTo(port))
        assert readAll(client)[2:4] == b"\x05\x05"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "0.0.0.0"])
def test_ownListener(start: Callable[..., Server], host: str) -> None:
    server = start()
    with server.connect() as client:
        client.sendall(GREET + connectTo(server.port, host))
        assert readAll(client)[2:4] in (b"\x05\x02", b"\x05\x05")


def test_everyPrefixWaits(start: Callable[..., Server]) -> None:
    server = start()
    whole = GREET + connectTo(1)
    clients = []
    for length in range(1, len(whole)):
        client = server.connect()
        client.sendall(whole[:length])
        clients.append((length, client))
    for length, client in clients:
        client.settimeout(0.3)
        expected = b"\x05\x00" if length >= len(GREET) else b""
        got = b""
        with pytest.raises(TimeoutError):
            while True:
                piece = client.recv(100)
                assert piece, "closed"
                got += piece
        assert got == expected
        client.close()


def test_oneByteASegment(start: Callable[..., Server], listener: socket.socket) -> None:
    with start().connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in GREET + connectTo(listener.getsockname()[1]) + b"hello":
            client.sendall(bytes((byte,)))
        assert readExactly(client, 12)[:4] == b"\x05\x00\x05\x00"
        destination, _ = listener.accept()
        with destination:
            assert readExactly(destination, 5) == b"hello"


def test_pipelined(start: Callable[..., Server], listener: socket.socket) -> None:
    with start().connect() as client:
        client.sendall(GREET + connectTo(listener.getsockname()[1]) + b"hello")
        client.shutdown(socket.SHUT_WR)
        destination, _ = listener.accept()
        with destination:
            assert readAll(destination) == b"hello"
            destination.sendall(b"later")
        assert readAll(client)[12:] == b"later"


def test_halfCloseByDestination(
    start: Callable[..., Server], listener: socket.socket
) -> None:
    client, destination = tunnel(start(), listener)
    with client, destination:
        destination.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
        client.sendall(b"still")
        assert readExactly(destination, 5) == b"still"


@pytest.mark.parametrize("byClient", [True, False])
def test_reset(
    start: Callable[..., Server], listener: socket.socket, byClient: bool
) -> None:
    client, destination = tunnel(start(), listener)
    one, other = (client, destination) if byClient else (destination, client)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()
    with other, pytest.raises(ConnectionResetError):
        other.recv(1)


def test_manyBytes(start: Callable[..., Server], listener: socket.socket) -> None:
    client, destination = tunnel(start(), listener)
    payload = hashlib.shake_128(b"seed").digest(8 * 1024 * 1024)
    with client, destination:

        def send() -> None:
            client.sendall(payload)
            client.shutdown(socket.SHUT_WR)

        sending = threading.Thread(target=send)
        sending.start()
        assert readAll(destination) == payload
        sending.join()
        back = threading.Thread(target=destination.sendall, args=(payload,))
        back.start()
        assert readExactly(client, len(payload)) == payload
        back.join()


def test_handshakeDeadline(start: Callable[..., Server]) -> None:
    server = start("--set", "timeout.handshake=1")
    for sent in (b"", b"\x05", b"\x05\x01\x00\x05\x01\x00\x03\xffa"):
        with server.connect() as client:
            client.sendall(sent)
            assert readAll(client) in (b"", b"\x05\x00")


def test_writeStall(start: Callable[..., Server], listener: socket.socket) -> None:
    server = start("--set", "timeout.write-stall=1")
    client, destination = tunnel(server, listener)
    with client, destination, pytest.raises((ConnectionResetError, BrokenPipeError)):
        while True:
            destination.sendall(bytes(65536))


def test_sessionLimit(start: Callable[..., Server]) -> None:
    server = start("--set", "limit.sessions=2")
    clients = []
    for _ in range(2):  # by turns, so that the server has seen who has left
        clients.append(server.connect())
        clients[-1].sendall(GREET)
        assert readExactly(clients[-1], 2) == b"\x05\x00"
    with pytest.raises(ConnectionResetError), server.connect() as third:
        third.sendall(GREET)
        assert third.recv(2) != b"\x05\x00"
        raise ConnectionResetError  # an orderly close will do, too
    for client in clients:
        client.close()


def test_descriptorsReturn(start: Callable[..., Server]) -> None:
    server = start()
    before = server.descriptors()
    for _ in range(300):
        client = server.connect()
        linger = struct.pack("ii", 1, 0)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        client.close()
    with server.connect() as client:
        client.sendall(b"\x05\x01\x02")
        assert readAll(client) == b"\x05\xff"
    assert server.descriptors() <= before + 1
