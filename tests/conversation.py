# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What tests say to a started server and hear from it.
"""

from __future__ import annotations

import hashlib
import os
import random
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import pytest

GREET = bytes.fromhex("050100")
LOGIN = b"\x05\x01\x02\x01\x04user\x08password"


def loopback6() -> socket.socket:
    """
    A destination on ::1, where there is IPv6.
    """
    try:
        return socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError as error:
        assert os.environ.get("CI") != "true", f"no IPv6 here: {error}"
        pytest.skip(f"no IPv6 here: {error}")


def readExactly(client: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = client.recv(count - len(data))
        assert piece, f"closed after {bytes(data)!r}"
        data += piece
    return bytes(data)


def readAll(client: socket.socket) -> bytes:
    data = bytearray()
    while piece := client.recv(65536):
        data += piece
    return bytes(data)


class Listening(Protocol):
    """
    A server that can be connected to.
    """

    def connect(self) -> socket.socket: ...


def connectTo(port: int, host: str = "127.0.0.1") -> bytes:
    return b"\x05\x01\x00\x01" + socket.inet_aton(host) + port.to_bytes(2, "big")


def connectToName(name: bytes, port: int) -> bytes:
    return b"\x05\x01\x00\x03" + bytes((len(name),)) + name + port.to_bytes(2, "big")


def connectTo6(host: str, port: int) -> bytes:
    packed = socket.inet_pton(socket.AF_INET6, host)
    return b"\x05\x01\x00\x04" + packed + port.to_bytes(2, "big")


def packAddress(host: str, port: int) -> bytes:
    """
    ATYP, address and port; what is no IP address goes as a name.
    """
    for kind, family in ((1, socket.AF_INET), (4, socket.AF_INET6)):
        try:
            return bytes((kind,)) + socket.inet_pton(family, host) + port.to_bytes(2)
        except OSError:
            continue
    return bytes((3, len(host))) + host.encode() + port.to_bytes(2)


def request(command: int, host: str, port: int = 0) -> bytes:
    return bytes((5, command, 0)) + packAddress(host, port)


def readReply(client: socket.socket) -> tuple[int, tuple[str, int]]:
    """
    A reply's REP, and its BND.ADDR and BND.PORT.
    """
    version, reply, reserved, kind = readExactly(client, 4)
    assert (version, reserved) == (5, 0)
    family, size = {1: (socket.AF_INET, 4), 4: (socket.AF_INET6, 16)}[kind]
    host = socket.inet_ntop(family, readExactly(client, size))
    return reply, (host, int.from_bytes(readExactly(client, 2)))


def failure(reply: int) -> bytes:
    return bytes((5, reply)) + bytes.fromhex("0001 00000000 0000")


def reset(client: socket.socket) -> None:
    """
    Close it so that the other side gets a reset.
    """
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def tunnel(
    server: Listening, listener: socket.socket, client: socket.socket | None = None
) -> tuple[socket.socket, socket.socket]:
    """
    A client and the destination that it has been connected to.
    """
    client = client or server.connect()
    client.sendall(GREET + connectTo(listener.getsockname()[1]))
    assert readExactly(client, 2) == b"\x05\x00"
    reply = readExactly(client, 10)
    assert reply[:4] == b"\x05\x00\x00\x01"
    destination, peer = listener.accept()
    destination.settimeout(10)
    assert reply[4:] == socket.inet_aton(peer[0]) + peer[1].to_bytes(2, "big")
    return client, destination


def assertServes(server: Listening, listener: socket.socket) -> None:
    """
    A fresh client is served.
    """
    client, destination = tunnel(server, listener)
    with client, destination:
        client.sendall(b"ping")
        assert readExactly(destination, 4) == b"ping"
        destination.sendall(b"pong")
        assert readExactly(client, 4) == b"pong"


def pattern(seed: object, size: int) -> bytes:
    return hashlib.shake_128(str(seed).encode()).digest(size)


@contextmanager
def sending(one: socket.socket, data: bytes, thenEnd: bool = False) -> Iterator[None]:
    """
    Meanwhile, bytes are sent.
    """

    def send() -> None:
        one.sendall(data)
        if thenEnd:
            one.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def sendUntilBlocked(one: socket.socket, data: bytes) -> int:
    """
    Send until nothing more was taken for a while.

    @return: How many bytes were taken.
    """
    timeout = one.gettimeout()
    one.setblocking(False)
    sent = 0
    while sent < len(data) and select.select([], [one], [], 0.5)[1]:
        sent += one.send(data[sent : sent + 65536])
    one.settimeout(timeout)
    return sent


@contextmanager
def deaf() -> Iterator[socket.socket]:
    """
    A destination that lets connection requests go unanswered until it accepts:
    those that wait to be accepted are as many as it takes.
    """
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        listening.settimeout(30)
        waiting = []
        while True:
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
            waiting.append(one)
            if not select.select([], [one], [], 0.3)[1]:
                break
            assert len(waiting) < 100
        one.close()
        yield listening
        for one in waiting:
            one.close()


def freePort(host: str = "127.0.0.1") -> int:
    """
    A port that nobody listens at.
    """
    with socket.create_server((host, 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def freePorts(count: int) -> int:
    """
    The first of some ports in a row that nothing is bound to.
    """
    for _ in range(100):
        first = random.randrange(20000, 32000)
        held = []
        try:
            for port in range(first, first + count):
                held.append(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue
        finally:
            for one in held:
                one.close()
        return first
    raise AssertionError("no free ports")
