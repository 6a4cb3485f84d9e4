# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A layer that an authenticator slides under the conversation, in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_socks5 import Authenticated, Identity, SOCKS5ServerFactory
from twisted_socks5.interfaces import IAuthenticator, IExchange, IStreamLayer

GREET = b"\x05\x01\x80"
UNKNOWN_COMMAND = b"\x05\xf0\x00\x01\x7f\x00\x00\x01\x00\x50"


def flip(data: bytes) -> bytes:
    return bytes(octet ^ 0xFF for octet in data)


@implementer(IStreamLayer)
class Flipping:
    """
    Flips every bit; an octet of 00 on the wire is not good.
    """

    def wrap(self, data: bytes) -> bytes:
        return flip(data)

    def unwrap(self, data: bytes) -> Iterator[bytes]:
        good, bad, _ = data.partition(b"\x00")
        yield flip(good)
        if bad:
            raise ValueError("00 came")

    def eof(self) -> None: ...

    def wrapDatagram(self, data: bytes) -> bytes:
        return flip(data)

    def unwrapDatagram(self, data: bytes) -> bytes:
        return flip(data)


class Strict(Flipping):
    """
    A layer for which every end comes too early.
    """

    def eof(self) -> None:
        raise LookupError("too early")


class Broken(Flipping):
    """
    A layer that can protect nothing, and tells why.
    """

    def wrap(self, data: bytes) -> bytes:
        raise LookupError("hush-hush")


class Silent(Flipping):
    """
    A layer whose answer is none.
    """

    def wrap(self, data: bytes) -> Any: ...


@implementer(IAuthenticator)
class Layered:
    method = 0x80
    strength = 1
    failureReply = b""

    def __init__(self, layer: type[Flipping]) -> None:
        self.layer = layer

    def isAvailable(self, exchange: IExchange) -> bool:
        return True

    def authenticate(self, exchange: IExchange) -> Authenticated:
        return Authenticated(Identity("alice"), self.layer())


class Conversation:
    def __init__(self, layer: type[Flipping] = Flipping) -> None:
        factory: Any = SOCKS5ServerFactory(Clock(), [Layered(layer)])
        self.protocol = factory.buildProtocol(None)
        self.transport: Any = StringTransport()
        self.protocol.makeConnection(self.transport)


@pytest.fixture
def events() -> Iterator[Any]:
    """
    What is logged meanwhile.
    """
    with capturedLogs() as captured:
        yield captured


def errors(events: Any) -> list[Any]:
    return [event for event in events if event["log_level"] >= LogLevel.error]


@pytest.mark.parametrize("isAhead", [True, False])
def test_everythingAfterGoesThrough(events: Any, isAhead: bool) -> None:
    """
    What was sent ahead, in the clear's segment, is no exception.
    """
    conversation = Conversation()
    request = flip(UNKNOWN_COMMAND)
    for piece in [GREET + request] if isAhead else [GREET, *map(_octet, request)]:
        conversation.protocol.dataReceived(piece)
    answer = conversation.transport.value()
    assert answer[:2] == b"\x05\x80"
    assert flip(answer[2:]) == b"\x05\x07\x00\x01" + bytes(6)
    assert conversation.transport.disconnecting
    assert errors(events) == []


def _octet(value: int) -> bytes:
    return bytes((value,))


@pytest.mark.parametrize("isAhead", [True, False])
def test_whatIsNotGoodEndsIt(events: Any, isAhead: bool) -> None:
    """
    It is the client's fault: no defect is logged, and nothing is answered.
    """
    conversation = Conversation()
    for piece in [GREET + b"\x00"] if isAhead else [GREET, b"\x00"]:
        conversation.protocol.dataReceived(piece)
    assert conversation.transport.value() == b"\x05\x80"
    assert conversation.transport.disconnecting
    assert conversation.protocol.session.reason == "protection failed: ValueError"
    assert errors(events) == []


def test_anEndThatComesTooEarly(events: Any) -> None:
    conversation = Conversation(Strict)
    conversation.protocol.dataReceived(GREET + flip(b"\x05\x01"))
    conversation.protocol.readConnectionLost()
    assert conversation.transport.value() == b"\x05\x80"
    assert conversation.transport.disconnecting
    assert conversation.protocol.session.reason == "protection failed: LookupError"
    assert errors(events) == []


def test_afterTheEndNothingMatters(events: Any) -> None:
    """
    What comes once the client has its last reply is dropped as it is.
    """
    conversation = Conversation()
    conversation.protocol.dataReceived(GREET + flip(UNKNOWN_COMMAND))
    conversation.protocol.dataReceived(b"\x00")
    assert conversation.protocol.session.reason == "no command f0"
    assert errors(events) == []


@pytest.mark.parametrize("layer", [Broken, Silent])
def test_oneThatProtectsNothingCutsTheConnection(
    events: Any, layer: type[Flipping]
) -> None:
    """
    It is a defect, which is told once, and nothing goes out unprotected.
    """
    conversation = Conversation(layer)
    conversation.protocol.dataReceived(GREET + flip(UNKNOWN_COMMAND))
    assert conversation.transport.value() == b"\x05\x80"
    assert conversation.transport.disconnected
    conversation.protocol.connectionLost(Failure(ConnectionDone()))
    assert conversation.protocol.session.reason == "no command f0"
    [event] = errors(events)
    text = formatEvent(event)
    assert text.startswith(f"{layer.__name__} failed in wrap: ")
    assert "hush" not in text
