# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A PROXY header that does not tell where the client is.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from tests.conftest import Server

V2 = b"\r\n\r\n\0\r\nQUIT\n"


def test_UNIXSocketOfTheBalancer(start: Callable[..., Server]) -> None:
    """
    It does not make a client one of this host's, which may go anywhere.
    """
    endpoint = "haproxy:tcp:0:interface=127.0.0.1"
    server = start("--open", "--port", endpoint)
    with socket.create_connection(server.address(endpoint), 10) as client:
        client.sendall(V2 + b"\x21\x31" + (216).to_bytes(2, "big") + bytes(216))
        client.sendall(b"\x05\x01\x00")
        try:
            assert client.recv(100) == b""
        except ConnectionResetError:
            pass
    server.waitForLog("the PROXY header tells no address")
