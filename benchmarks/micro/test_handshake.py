# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The handshake: from a client's greeting to its tunnel, and to its end.
"""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from benchmarks.micro.conversation import GREETING, REQUEST, Client, factoryOf
from twisted_socks5 import NoAuthentication, UsernamePasswordAuthenticator

CLOSED = Failure(ConnectionDone())
SUCCESS = b"\x05\x00\x00\x01"


def test_greeting(benchmark: Any) -> None:
    """
    A client that is accepted and greets, no more.
    """
    factory = factoryOf(NoAuthentication())

    def converse() -> bytes:
        client = Client(factory)
        answer = client.say(GREETING)
        client.protocol.connectionLost(CLOSED)
        return answer

    assert benchmark(converse) == b"\x05\x00"


def test_connect(benchmark: Any) -> None:
    """
    A whole session, without a password.
    """
    factory = factoryOf(NoAuthentication())

    def converse() -> bytes:
        client = Client(factory)
        answer = client.say(GREETING, REQUEST)
        client.protocol.connectionLost(CLOSED)
        return answer

    assert benchmark(converse)[:6] == b"\x05\x00" + SUCCESS


def test_connectWithPassword(benchmark: Any) -> None:
    """
    A whole session, with one.
    """
    users = InMemoryUsernamePasswordDatabaseDontUse(alice=b"wonderland")
    factory = factoryOf(UsernamePasswordAuthenticator.withCheckers(users))
    login = b"\x01\x05alice\x0awonderland"

    def converse() -> bytes:
        client = Client(factory)
        answer = client.say(b"\x05\x01\x02", login, REQUEST)
        client.protocol.connectionLost(CLOSED)
        return answer

    assert benchmark(converse)[:8] == b"\x05\x02\x01\x00" + SUCCESS
