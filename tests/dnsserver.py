# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A name server on loopback that answers as a test tells it to.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.names import dns

Question = tuple[str, int]


class _Silence:
    """
    What is set as the answer to a question that is to have none.
    """


SILENCE = _Silence()


class DNSServer:
    """
    A name server over UDP and TCP at one port of an address.

    @ivar answers: By name and record type: the records, the RCODE to fail
        with, or L{SILENCE}.  All other questions get NXDOMAIN.
    @ivar asked: The questions that came, in their order; those over TCP also
        in C{askedOverTCP}.
    """

    def __init__(self, reactor: Any, host: str = "127.0.0.1", port: int = 0) -> None:
        self._reactor = reactor
        self.host = host
        self.answers: dict[Question, list[Any] | int | _Silence] = {}
        self.asked: list[Question] = []
        self.askedOverTCP: list[Question] = []
        self.isSilentOverTCP = False
        self._kept: list[tuple[dns.Message, Any, tuple[str, int] | None]] = []
        self._expected: tuple[int, Deferred[None]] | None = None
        self._disconnected: Deferred[None] | None = None
        self._connections: list[Any] = []
        self._waiting: socket.socket | None = None

        factory: Factory[Any] = Factory.forProtocol(
            lambda: dns.DNSProtocol(self, reactor)
        )
        self._tcp = reactor.listenTCP(port, factory, interface=host)
        self.port: int = self._tcp.getHost().port
        datagrams = dns.DNSDatagramProtocol(self, reactor)
        self._udp = reactor.listenUDP(self.port, datagrams, interface=host)

    @property
    def address(self) -> tuple[str, int]:
        """
        Where it listens.
        """
        return self.host, self.port

    def has(self, name: str, *addresses: str) -> None:
        """
        Give a name these addresses, and no other.
        """
        ipv6 = [self.aaaa(name, ip) for ip in addresses if ":" in ip]
        ipv4 = [self.a(name, ip) for ip in addresses if ":" not in ip]
        self.answers[name, dns.AAAA] = ipv6
        self.answers[name, dns.A] = ipv4

    @staticmethod
    def a(name: str, address: str) -> dns.RRHeader:
        """
        A record with an IPv4 address.
        """
        return dns.RRHeader(name, dns.A, payload=dns.Record_A(address))

    @staticmethod
    def aaaa(name: str, address: str) -> dns.RRHeader:
        """
        A record with an IPv6 address.
        """
        return dns.RRHeader(name, dns.AAAA, payload=dns.Record_AAAA(address))

    @staticmethod
    def cname(name: str, target: str) -> dns.RRHeader:
        """
        A record that makes a name an alias.
        """
        return dns.RRHeader(name, dns.CNAME, payload=dns.Record_CNAME(target))

    def hush(self, name: str) -> None:
        """
        Do not answer any question about a name.
        """
        self.answers[name, dns.A] = self.answers[name, dns.AAAA] = SILENCE

    def speak(self) -> None:
        """
        Answer the questions that were met with silence, as C{answers} has it
        now.
        """
        kept, self._kept = self._kept, []
        for message, protocol, address in kept:
            self._answer(message, protocol, address)

    def whenAsked(self, count: int) -> Deferred[None]:
        """
        Wait until that many questions have come in all.
        """
        expected: Deferred[None] = Deferred()
        self._expected = (count, expected)
        self._checkExpected()
        return expected

    def whenDisconnected(self) -> Deferred[None]:
        """
        Wait until there is no TCP connection any more.
        """
        disconnected: Deferred[None] = Deferred()
        if self._connections:
            self._disconnected = disconnected
        else:
            disconnected.callback(None)
        return disconnected

    def hangUp(self) -> None:
        """
        Close all TCP connections.
        """
        for connection in self._connections:
            connection.transport.abortConnection()

    async def refuseTCP(self) -> None:
        """
        Go on over UDP only.
        """
        await maybeDeferred(self._tcp.stopListening)

    def jamTCP(self) -> None:
        """
        Go on over UDP; over TCP nobody gets connected, nor is refused.
        """
        self._tcp.stopReading()
        self._tcp.socket.listen(0)  # there is room for one who waits
        self._waiting = socket.create_connection(self.address)

    async def stop(self) -> None:
        """
        Free the port.
        """
        if self._waiting is not None:
            self._waiting.close()
        self.hangUp()
        await self.whenDisconnected()
        await self._udp.stopListening()
        await self.refuseTCP()

    # What Twisted's protocols call.

    def connectionMade(self, protocol: Any) -> None:
        """
        A TCP connection has come.
        """
        self._connections.append(protocol)

    def connectionLost(self, protocol: Any) -> None:
        """
        A TCP connection has gone.
        """
        self._connections.remove(protocol)
        if not self._connections and self._disconnected is not None:
            disconnected, self._disconnected = self._disconnected, None
            disconnected.callback(None)

    def messageReceived(
        self,
        message: dns.Message,
        protocol: Any,
        address: tuple[str, int] | None = None,
    ) -> None:
        """
        A question has come.
        """
        question = _question(message)
        self.asked.append(question)
        if address is None:
            self.askedOverTCP.append(question)
        if address is not None or not self.isSilentOverTCP:
            self._answer(message, protocol, address)
        self._checkExpected()

    def _answer(
        self, message: dns.Message, protocol: Any, address: tuple[str, int] | None
    ) -> None:
        answer = self.answers.get(_question(message), dns.ENAME)
        if isinstance(answer, _Silence):
            self._kept.append((message, protocol, address))
            return
        response = dns.Message(
            message.id,
            answer=1,
            recDes=1,
            recAv=1,
            rCode=answer if isinstance(answer, int) else dns.OK,
            maxSize=512 if address else 0,
        )
        response.queries = message.queries
        if not isinstance(answer, int):
            response.answers = answer
        if address is None:
            protocol.writeMessage(response)
        else:
            protocol.writeMessage(response, address)

    def _checkExpected(self) -> None:
        if self._expected is not None and len(self.asked) >= self._expected[0]:
            _, expected = self._expected
            self._expected = None
            expected.callback(None)


def _question(message: dns.Message) -> Question:
    query = message.queries[0]
    return query.name.name.decode("ascii").lower(), query.type
