# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A client of SOCKS5's GSSAPI method, written from RFC 1961 alone, on
python-gssapi and blocking sockets.  It shares no code with the server.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.conversation import readExactly

try:
    import gssapi as gssapi  # for tests: where it is missing, all are skipped
except ImportError as error:
    assert os.environ.get("CI") != "true", f"no python-gssapi: {error}"
    pytest.skip(f"no python-gssapi: {error}", allow_module_level=True)

CONTEXT, LEVEL, DATA = 1, 2, 3
SEQUENCE = gssapi.RequirementFlag.out_of_sequence_detection
KERBEROS = gssapi.MechType.kerberos
SPNEGO = gssapi.OID.from_int_seq("1.3.6.1.5.5.2")
FLAGS = (
    gssapi.RequirementFlag.mutual_authentication,
    gssapi.RequirementFlag.replay_detection,
    SEQUENCE,
)
UNORDERED = FLAGS[:2]


def frame(kind: int, token: bytes) -> bytes:
    return struct.pack("!BBH", 1, kind, len(token)) + token


def readFrame(connection: socket.socket, kind: int) -> bytes:
    version, got, size = struct.unpack("!BBH", readExactly(connection, 4))
    assert (version, got) == (1, kind)
    return readExactly(connection, size)


def initiator(
    tickets: Path,
    service: str = "rcmd@localhost",
    flags: Any = FLAGS,
    mech: Any = KERBEROS,
) -> Any:
    """
    A context that a client with these tickets is about to establish.
    """
    return gssapi.SecurityContext(
        name=gssapi.Name(service, gssapi.NameType.hostbased_service),
        creds=gssapi.Credentials(usage="initiate", store={"ccache": f"FILE:{tickets}"}),
        mech=mech,
        flags=flags,
        usage="initiate",
    )


class Client:
    """
    A connection to a proxy.

    @ivar level: What was agreed on.
    """

    level = 0

    def __init__(self, connection: socket.socket, context: Any) -> None:
        self.connection = connection
        self.context = context
        self.unread = b""

    def establish(self) -> list[bytes]:
        """
        Offer GSSAPI, and establish the context (section 3).

        @return: The tokens that the server sent.
        """
        self.connection.sendall(b"\x05\x01\x01")
        assert readExactly(self.connection, 2) == b"\x05\x01"
        tokens = []
        token = self.context.step()
        while token:
            self.connection.sendall(frame(CONTEXT, token))
            answer = readFrame(self.connection, CONTEXT)
            tokens.append(answer)
            token = None if self.context.complete else self.context.step(answer)
        assert self.context.complete
        return tokens

    def levelToken(self, level: int) -> bytes:
        message: bytes = self.context.wrap(bytes((level,)), False).message
        return frame(LEVEL, message)

    def agree(self, level: int) -> int:
        """
        Ask for a protection level (section 4).
        """
        self.connection.sendall(self.levelToken(level))
        answer = self.context.unwrap(readFrame(self.connection, LEVEL))
        assert not answer.encrypted
        (self.level,) = answer.message
        return self.level

    def protect(self, data: bytes) -> bytes:
        """
        One token (section 5).
        """
        return frame(DATA, self.context.wrap(data, self.level == 2).message)

    def send(self, data: bytes) -> None:
        self.connection.sendall(self.protect(data) if self.level else data)

    def receive(self) -> bytes:
        """
        What the next token holds, or nothing at the end.
        """
        if not self.level:
            return self.connection.recv(65536)
        if not self.connection.recv(1, socket.MSG_PEEK):
            return b""
        opened = self.context.unwrap(readFrame(self.connection, DATA))
        assert opened.encrypted == (self.level == 2)
        message: bytes = opened.message
        return message

    def read(self, count: int) -> bytes:
        while len(self.unread) < count:
            piece = self.receive()
            assert piece, f"closed after {self.unread!r}"
            self.unread += piece
        data, self.unread = self.unread[:count], self.unread[count:]
        return data

    def readAll(self) -> bytes:
        data, self.unread = self.unread, b""
        while piece := self.receive():
            data += piece
        return data
