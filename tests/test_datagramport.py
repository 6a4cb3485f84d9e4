# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Ports for datagrams, on loopback, with a reactor that does what it is told.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.testing import MemoryReactor
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure

from twisted_socks5.errors import CommandNotSupported, GeneralFailure
from twisted_socks5.relay.datagramport import openDatagramPort
from twisted_socks5.settings import Ports

HERE = ip_address("127.0.0.1")


class Receiving(DatagramProtocol):
    noisy = False
    transport: Any

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.isStopped = False

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if datagram == b"break":
            raise ZeroDivisionError
        self.received.append(datagram)

    def stopProtocol(self) -> None:
        self.isStopped = True


@pytest.fixture
def reactor() -> Any:
    return MemoryReactor()


@pytest.fixture
def receiving(reactor: Any) -> Iterator[Receiving]:
    protocol = Receiving()
    openDatagramPort(reactor, protocol, HERE, Ports())
    yield protocol
    if protocol.transport is not None:
        protocol.transport.stopListening()
    assert protocol.isStopped
    assert reactor.readers == set()


def send(protocol: Receiving, *datagrams: bytes) -> None:
    local = protocol.transport.local
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for datagram in datagrams:
            sender.sendto(datagram, (str(local.host), local.port))


def test_othersGetTheirTurn(receiving: Receiving) -> None:
    """
    However many there are, and however small.
    """
    send(receiving, *[b""] * 100)
    receiving.transport.doRead()
    assert len(receiving.received) == 64
    receiving.transport.doRead()
    assert len(receiving.received) == 100
    receiving.transport.doRead()
    assert len(receiving.received) == 100


def test_aDefectEndsNothing(receiving: Receiving) -> None:
    send(receiving, b"break", b"good")
    with capturedLogs() as events:
        receiving.transport.doRead()
    assert [e["log_level"] for e in events] == [LogLevel.error]
    assert receiving.received == [b"good"]


def test_theReactorEnds(reactor: Any, receiving: Receiving) -> None:
    reactor.removeReader(receiving.transport)
    receiving.transport.connectionLost(Failure(ZeroDivisionError()))


def test_portsInUse(reactor: Any, receiving: Receiving) -> None:
    used = receiving.transport.local.port
    with pytest.raises(GeneralFailure, match="is free"):
        openDatagramPort(reactor, Receiving(), HERE, Ports(used, used))


def test_otherReactors() -> None:
    with pytest.raises(CommandNotSupported):
        openDatagramPort(object(), Receiving(), HERE, Ports())
