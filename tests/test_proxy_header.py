# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Clients behind a balancer that tells of them by a PROXY header.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from tests.conftest import Server

V2 = b"\r\n\r\n\0\r\nQUIT\n"


def behind(start: Callable[..., Server]) -> tuple[Server, int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = start("--open", "--port", f"haproxy:tcp:{port}:interface=127.0.0.1")
    return server, port


def test_clientOfTheHeader(start: Callable[..., Server]) -> None:
    """
    It is judged by where the header says that it is, and its half-close gets
    through Twisted's wrapper.
    """
    server, port = behind(start)
    with server.connect(port) as client:
        client.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.1 5555 1080\r\n\x05\x01\x00")
        client.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50")
        answer = b""
        while piece := client.recv(100):
            answer += piece
    assert answer[:4] == b"\x05\x00\x05\x02"
    server.waitFor("client=192.0.2.7:5555")


def test_headerWithoutAddress(start: Callable[..., Server]) -> None:
    """
    A UNIX socket of the balancer's host does not make a client one of this
    host's.
    """
    server, port = behind(start)
    with server.connect(port) as client:
        client.sendall(V2 + b"\x21\x31" + (216).to_bytes(2, "big") + bytes(216))
        client.sendall(b"\x05\x01\x00")
        try:
            assert client.recv(100) == b""
        except ConnectionResetError:
            pass
    server.waitFor("the PROXY header tells no address")
