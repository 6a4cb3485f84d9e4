# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The least that carries a CONNECT on Twisted, to measure against: C{bare.py PORT}.
It has no authentication, policy, names, deadlines, limits, errors or half-close.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.protocol import (
    ClientFactory,
    Factory,
    Protocol,
    connectionDone,
)
from twisted.python.failure import Failure

reactor: Any = installed


class Client(Protocol):
    """
    A client: its greeting, its request, and then its bytes.
    """

    transport: Any
    other: Destination | None = None

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.buffer = b""
        self.isGreeted = False

    def dataReceived(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)
            return
        self.buffer += data
        if not self.isGreeted and len(self.buffer) >= 3:
            self.isGreeted, self.buffer = True, self.buffer[2 + self.buffer[1] :]
            self.transport.write(b"\x05\x00")
        if self.isGreeted and len(self.buffer) >= 10:
            self.transport.pauseProducing()
            host, port = socket.inet_ntoa(self.buffer[4:8]), self.buffer[8:10]
            reactor.connectTCP(host, int.from_bytes(port), Connecting(self))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.other is not None:
            self.other.transport.unregisterProducer()
            self.other.transport.loseConnection()


class Destination(Protocol):
    """
    What a client is connected to.
    """

    transport: Any

    def __init__(self, client: Client) -> None:
        self.client = client

    def connectionMade(self) -> None:
        transport, client = self.transport, self.client
        transport.setTcpNoDelay(True)
        transport.registerProducer(client.transport, True)
        client.transport.registerProducer(transport, True)
        address = transport.getHost()
        bound = socket.inet_aton(address.host) + address.port.to_bytes(2)
        client.transport.write(b"\x05\x00\x00\x01" + bound)
        transport.write(client.buffer[10:])
        client.other = self
        client.transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        self.client.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.client.transport.unregisterProducer()
        self.client.transport.loseConnection()


class Connecting(ClientFactory[Destination]):
    """
    The way to a destination.
    """

    noisy = False

    def __init__(self, client: Client) -> None:
        self.client = client

    def buildProtocol(self, address: object) -> Destination:
        return Destination(self.client)

    def clientConnectionFailed(self, connector: object, reason: object) -> None:
        self.client.transport.loseConnection()


if __name__ == "__main__":
    factory = Factory.forProtocol(Client)
    factory.noisy = False
    reactor.listenTCP(int(sys.argv[1]), factory, 50, "127.0.0.1")
    reactor.run()
