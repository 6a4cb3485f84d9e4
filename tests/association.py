# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A client's side of UDP ASSOCIATE, byte by byte.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from tests.conversation import GREET, packAddress, readExactly, readReply, request

if TYPE_CHECKING:
    from tests.conftest import Server

    Name = tuple[str, int]

ASSOCIATE = 3
MOST = 65535


def datagramSocket(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """
    A socket for datagrams, that is patient and has room for many.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_DGRAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    opened.bind((host, port))
    opened.settimeout(10)
    return opened


def frame(payload: bytes, name: Name, fragment: int = 0) -> bytes:
    """
    A datagram with its header (RFC 1928, section 7).
    """
    return bytes((0, 0, fragment)) + packAddress(*name) + payload


class Association:
    """
    A client that has been associated.

    @ivar control: Its connection to the server.
    @ivar relay: Where its datagrams are to go.
    @ivar socket: Where it sends them from.
    """

    def __init__(
        self,
        server: Server,
        control: socket.socket | None = None,
        asked: Name | str = "0.0.0.0",
        isGreeted: bool = False,
    ) -> None:
        """
        @param isGreeted: The client has been let in already.
        """
        self.control = control or server.connect()
        self.control.settimeout(10)
        host, port = (asked, 0) if isinstance(asked, str) else asked
        if not isGreeted:
            self.control.sendall(GREET)
            assert readExactly(self.control, 2) == b"\x05\x00"
        self.control.sendall(request(ASSOCIATE, host, port))
        reply, self.relay = readReply(self.control)
        assert reply == 0
        assert self.relay[1] != 0
        self.socket = datagramSocket("::1" if ":" in self.relay[0] else "127.0.0.1")

    def __enter__(self) -> Association:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self.control.close()

    def send(self, payload: bytes, name: Name, fragment: int = 0) -> None:
        """
        Send a payload to a destination.
        """
        self.socket.sendto(frame(payload, name, fragment), self.relay)

    def receive(self) -> tuple[bytes, Name]:
        """
        What came, and from whom.
        """
        datagram, source = self.socket.recvfrom(MOST)
        assert source[:2] == self.relay
        assert datagram[:3] == bytes(3)
        family, size = {1: (socket.AF_INET, 4), 4: (socket.AF_INET6, 16)}[datagram[3]]
        end = 4 + size
        host = socket.inet_ntop(family, datagram[4:end])
        port = int.from_bytes(datagram[end : end + 2])
        return datagram[end + 2 :], (host, port)

    def assertServed(self, target: socket.socket, host: str | None = None) -> Name:
        """
        A datagram goes to a target and back, and it is the next one that
        either gets: those that were sent before, and that have not come, were
        dropped.

        @return: Where it reached the target from.
        """
        name = target.getsockname()[:2]
        self.send(b"ping", (host or name[0], name[1]))
        payload, source = target.recvfrom(MOST)
        assert payload == b"ping"
        target.sendto(b"pong", source)
        assert self.receive() == (b"pong", name)
        return source[0], source[1]
