# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A client and a proxy that the test plays, in memory.
"""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

Result = TypeVar("Result")

PROXY = IPv4Address("TCP", "192.0.2.1", 1080)
TARGET = ("example.org", 443)
CHOSEN = b"\x05\x00"
REPLY = bytes.fromhex("05000001 c6336401 1f90")
REQUEST = b"\x05\x01\x00\x03\x0bexample.org\x01\xbb"


def resultOf(deferred: Deferred[Result]) -> Result:
    """
    What has come.
    """
    results: list[Result] = []
    deferred.addCallback(results.append)
    (result,) = results
    return result


def errorOf(deferred: Deferred[Any]) -> BaseException:
    """
    What it has failed with.
    """
    failures: list[Failure] = []
    deferred.addErrback(failures.append)
    (failure,) = failures
    assert failure.value is not None
    return failure.value


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """
    Connects when it is told to.

    @ivar transports: One for each connection.
    @ivar cancelled: How many attempts were cancelled.
    """

    def __init__(self, isReady: bool = True) -> None:
        self.isReady = isReady
        self.transports: list[StringTransport] = []
        self.cancelled = 0
        self.factory: Any = None
        self.connected: Deferred[Any] = Deferred()

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        self.factory = protocolFactory
        self.factory.doStart()
        self.connected = Deferred(self._cancel)
        if self.isReady:
            self.accept()
        return self.connected

    def _cancel(self, deferred: Deferred[Any]) -> None:
        self.cancelled += 1

    def accept(self) -> None:
        self.protocol = self.factory.buildProtocol(PROXY)
        transport = StringTransport(peerAddress=PROXY)
        self.transports.append(transport)
        self.protocol.makeConnection(transport)
        self.connected.callback(self.protocol)

    @property
    def transport(self) -> StringTransport:
        return self.transports[-1]

    def say(self, data: bytes, *, byOctets: bool = False) -> None:
        """
        The proxy sends something.
        """
        for piece in (bytes((each,)) for each in data) if byOctets else [data]:
            self.protocol.dataReceived(piece)

    def heard(self) -> bytes:
        """
        What the proxy has got since it was asked last.
        """
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def lose(self, reason: Exception | None = None) -> None:
        """
        The connection is gone.
        """
        self.protocol.connectionLost(Failure(reason or ConnectionDone()))
        self.factory.doStop()


class Seen(Protocol):
    """
    Takes down what happens to it.
    """

    def __init__(self) -> None:
        self.events: list[object] = []

    def connectionMade(self) -> None:
        self.events.append("made")

    def dataReceived(self, data: bytes) -> None:
        self.events.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.events.append(reason.type)


@implementer(IHalfCloseableProtocol)
class HalfCloseableSeen(Seen):
    def readConnectionLost(self) -> None:
        self.events.append("read closed")

    def writeConnectionLost(self) -> None:
        self.events.append("write closed")


class SeenFactory(Factory[Seen]):
    """
    Takes down what it is told.
    """

    noisy = False
    protocol = Seen

    def __init__(self) -> None:
        self.events: list[object] = []

    def startFactory(self) -> None:
        self.events.append("start")

    def stopFactory(self) -> None:
        self.events.append("stop")

    def buildProtocol(self, addr: Any) -> Seen | None:
        self.events.append(addr)
        return super().buildProtocol(addr)
