# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The portable relay and its deadlines, in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from twisted_socks5.relay import PortableRelay
from twisted_socks5.settings import Timeouts
from twisted_socks5.stream import ByteStream


class Transport(StringTransport):
    """
    One that can close half, and remembers how it was ended.
    """

    halfClosed = False
    aborted = False

    def __init__(self) -> None:
        StringTransport.__init__(self)

    def written(self) -> bytes:
        value: bytes = StringTransport.value(self)
        return value

    def loseWriteConnection(self) -> None:
        self.halfClosed = True

    def abortConnection(self) -> None:
        self.aborted = True
        StringTransport.abortConnection(self)


class Outbound:
    """
    A destination that was connected to.
    """

    def __init__(self, problem: OSError | None = None) -> None:
        self.transport = Transport()
        self.problem = problem
        self.protocol: Any = None

    def attach(self, protocol: IProtocol) -> Transport:
        if self.problem is not None:
            raise self.problem
        self.protocol = protocol
        protocol.makeConnection(self.transport)
        return self.transport


class Joined:
    """
    A client and a destination, joined.
    """

    def __init__(
        self, timeouts: Timeouts | None = None, problem: OSError | None = None
    ) -> None:
        self.clock = Clock()
        self.client = Transport()
        self.stream = ByteStream(self.client)
        self.stream.dataReceived(b"early ")
        self.outbound = Outbound(problem)
        self.destination = self.outbound.transport
        self.reasons: list[str] = []
        relay = PortableRelay(self.clock, timeouts or Timeouts())
        outbound: Any = self.outbound
        self.tunnel = relay.join(
            self.client, self.stream, outbound, self.reasons.append
        )

    def lose(self, reason: type[Exception] = ConnectionDone) -> None:
        """
        Both sides report that they are gone.
        """
        self.stream.connectionLost(Failure(reason()))
        if self.outbound.protocol is not None:
            self.outbound.protocol.connectionLost(Failure(reason()))


def test_earlyBytesGoFirst() -> None:
    joined = Joined()
    joined.stream.dataReceived(b"later")
    joined.outbound.protocol.dataReceived(b"answer")
    assert joined.destination.written() == b"early later"
    assert joined.client.written() == b"answer"
    assert (joined.tunnel.bytesUp, joined.tunnel.bytesDown) == (11, 6)


def test_destinationResetBeforeItIsJoined() -> None:
    joined = Joined(problem=OSError(107, "not connected"))
    assert joined.client.aborted
    joined.lose()
    assert joined.reasons == ["destination reset"]


def test_resetPasses() -> None:
    joined = Joined()
    joined.outbound.protocol.connectionLost(Failure(ConnectionLost()))
    assert joined.client.aborted
    joined.stream.connectionLost(Failure(ConnectionDone()))
    assert joined.reasons == ["destination reset"]
    assert joined.clock.getDelayedCalls() == []


def test_halfClosePassesAndBothCloseAll() -> None:
    joined = Joined()
    joined.stream.readConnectionLost()
    assert joined.destination.halfClosed
    assert not joined.destination.disconnecting
    joined.outbound.protocol.readConnectionLost()
    assert joined.destination.disconnecting
    assert joined.client.disconnecting
    joined.lose()
    assert joined.reasons == ["client closed"]
    assert joined.clock.getDelayedCalls() == []


def test_backPressure() -> None:
    joined = Joined()
    producer: Any = joined.client.producer
    producer.pauseProducing()
    assert joined.destination.producerState == "paused"
    producer.resumeProducing()
    assert joined.destination.producerState == "producing"


def test_lossWhilePausedUnregisters() -> None:
    """
    A transport with a producer that is paused for ever never closes.
    """
    joined = Joined()
    producer: Any = joined.destination.producer
    producer.pauseProducing()
    joined.stream.connectionLost(Failure(ConnectionDone()))
    assert joined.destination.producer is None
    assert joined.destination.disconnecting


def stall(joined: Joined) -> None:
    producer: Any = joined.client.producer
    producer.pauseProducing()


def closeHalf(joined: Joined) -> None:
    joined.stream.readConnectionLost()


def nothing(joined: Joined) -> None:
    """
    Only the time passes.
    """


@pytest.mark.parametrize(
    ("event", "timeouts", "reason", "isCut"),
    [
        (stall, Timeouts(writeStall=5), "write stalled", True),
        (closeHalf, Timeouts(halfClosed=5), "half-closed and silent", False),
        (nothing, Timeouts(idle=5), "idle", False),
    ],
)
def test_deadlines(
    event: Callable[[Joined], None],
    timeouts: Timeouts,
    reason: str,
    isCut: bool,
) -> None:
    joined = Joined(timeouts)
    event(joined)
    joined.clock.advance(4.9)
    assert not (joined.client.disconnecting or joined.client.aborted)
    joined.clock.advance(0.2)
    assert joined.client.aborted is joined.destination.aborted is isCut
    assert joined.client.disconnecting
    joined.lose()
    assert joined.reasons == [reason]
    assert joined.clock.getDelayedCalls() == []


def test_movingKeepsAlive() -> None:
    joined = Joined(Timeouts(idle=5))
    for _ in range(10):
        joined.clock.advance(4)
        joined.stream.dataReceived(b"x")
    assert not joined.client.disconnecting
    joined.clock.advance(5)
    assert joined.client.disconnecting


def test_closingIsNotWaitedForForEver() -> None:
    joined = Joined(Timeouts(writeStall=5))
    joined.stream.connectionLost(Failure(ConnectionDone()))
    assert joined.destination.disconnecting
    joined.clock.advance(5)
    assert joined.destination.aborted
