# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Asking name servers for the addresses of a name (RFC 1035), as a stub
resolver: over UDP, and over TCP when the answer does not fit (RFC 7766).

The messages are those of C{twisted.names.dns}.  Each question goes out from a
socket of its own, that the kernel binds to an unpredictable port (RFC 5452,
section 9.2) and connects to the server: answers from elsewhere are dropped
there, and a server that is not running is noticed at once.
"""

from __future__ import annotations

import os
import socket
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.names import dns
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_socks5.addresses import Address, IPAddress, isThisHost
from twisted_socks5.device import bindToDevice
from twisted_socks5.errors import GeneralFailure, ReplyError, TimedOut
from twisted_socks5.outcome import outcomeOf
from twisted_socks5.routes.dial import dial
from twisted_socks5.routes.namefiles import NameServer, ResolvConf

A: int = dns.A
AAAA: int = dns.AAAA

_ADDRESS_TYPES: dict[int, tuple[type[Any], type[IPv4Address] | type[IPv6Address]]] = {
    A: (dns.Record_A, IPv4Address),
    AAAA: (dns.Record_AAAA, IPv6Address),
}

_MAX_MESSAGE = 0xFFFF

# The shortest record takes 12 octets and one compressed name.
_MAX_COMPRESSED_NAMES = _MAX_MESSAGE // 12


async def askFor(
    recordType: int,
    name: str,
    reactor: Any,
    configuration: ResolvConf,
    interface: str = "",
) -> list[IPAddress]:
    """
    Ask for the addresses of one family that a name has, one server after the
    other.  A server that cannot be reached, or that says that it cannot tell,
    is not asked again.

    @param recordType: C{A} or C{AAAA}.
    @param name: A full name.
    @param reactor: Provides C{IReactorFDSet}, C{IReactorTCP} and
        C{IReactorTime}; with an interface, C{IReactorSocket} too.
    @param interface: The network interface by which to ask servers that are not this
        host's; empty is any.
    @return: None, if there is no such name, or it has none.
    @raise TimedOut: No server answered in time.
    @raise GeneralFailure: No server could tell.
    """
    query = dns.Query(name.encode("ascii"), recordType)
    servers = list(configuration.servers)
    failure: GeneralFailure | None = None
    for attempt in range(configuration.attempts):
        patience = configuration.timeout * 2**attempt
        for server in servers.copy():
            exchange = Deferred.fromCoroutine(
                _exchange(reactor, server, query, interface)
            )
            try:
                response = await exchange.addTimeout(patience, reactor)
            except TimeoutError:
                continue
            except GeneralFailure as error:
                failure = error
            else:
                if response.rCode == dns.OK:
                    return _addressesIn(response, query)
                if response.rCode == dns.ENAME:
                    return []
                failure = GeneralFailure(f"the name server failed ({response.rCode})")
            servers.remove(server)
    raise failure or TimedOut("no name server answered")


async def _exchange(
    reactor: Any, server: NameServer, query: dns.Query, interface: str
) -> dns.Message:
    if interface and isThisHost(server.host):
        interface = ""
    question = dns.Message(dns.randomSource(), recDes=1)
    question.queries = [query]
    try:
        response = await _DatagramExchange(
            reactor, server, question, interface
        ).response
        if response.trunc:
            response = await _exchangeOverTCP(reactor, server, question, interface)
    except OSError as problem:
        raise _unusable(problem.strerror or str(problem)) from None
    return response


def _unusable(why: str) -> GeneralFailure:
    return GeneralFailure(f"the name server cannot be used: {why}")


@implementer(IReadDescriptor)
class _DatagramExchange:
    """
    A question and its answer over UDP.

    @ivar response: The answer.  Fails with L{OSError}; cancelling it closes
        the socket.
    """

    def __init__(
        self,
        reactor: Any,
        server: NameServer,
        question: dns.Message,
        interface: str,
    ) -> None:
        """
        @raise OSError: The question cannot be sent.
        """
        self._reactor = reactor
        self._question = question
        self.response: Deferred[dns.Message] = Deferred(lambda _: self._close())
        self._socket = socket.socket(
            server.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        )
        try:
            bindToDevice(self._socket, interface)
            self._socket.connect(server.socketName())
            self._socket.send(question.toStr())
        except OSError:
            self._socket.close()
            raise
        reactor.addReader(self)

    def fileno(self) -> int:
        """
        The descriptor for the reactor to watch.
        """
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """
        What the reactor calls us.
        """
        return "name server"

    def doRead(self) -> None:
        """
        Take the answer.  What is none is left to the time-out.
        """
        try:
            datagram = self._socket.recv(_MAX_MESSAGE)
        except BlockingIOError:  # a datagram with a wrong checksum
            return
        except OSError as problem:
            self._close()
            self.response.errback(problem)
            return
        response = _responseTo(self._question, datagram)
        if response is not None:
            self._close()
            self.response.callback(response)

    def connectionLost(self, reason: Failure) -> None:
        """
        Some reactors tell of a server that is not running in this way; all of
        them, of their own end.
        """
        if self._socket.fileno() != -1:
            error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._close()
            text = os.strerror(error) if error else "the reactor has stopped"
            self.response.errback(OSError(error, text))

    def _close(self) -> None:
        self._reactor.removeReader(self)
        self._socket.close()


async def _exchangeOverTCP(
    reactor: Any, server: NameServer, question: dns.Message, interface: str
) -> dns.Message:
    exchange = _StreamExchange(question)
    try:
        await _connect(reactor, server, exchange, interface)
    except (ConnectError, ReplyError) as problem:
        raise _unusable(str(problem)) from None
    except ConnectingCancelledError:  # as endpoints call it, and time-outs do not
        raise CancelledError from None
    try:
        return await exchange.response
    finally:
        exchange.close()


async def _connect(
    reactor: Any, server: NameServer, protocol: Protocol, interface: str
) -> None:
    if interface:
        address = Address(server.host, server.port)
        dialling: Any = dial(reactor, address, interface=interface)
        outbound = await outcomeOf(dialling)
        outbound.attach(protocol)
        return
    endpointType = (
        TCP4ClientEndpoint if server.family == socket.AF_INET else TCP6ClientEndpoint
    )
    factory = Factory.forProtocol(lambda: protocol)
    factory.noisy = False
    await endpointType(reactor, str(server.host), server.port).connect(factory)


class _StreamExchange(Int16StringReceiver):
    """
    A question and its answer over TCP, each with its length in front.

    @ivar response: The answer.  Fails with L{GeneralFailure}.
    """

    def __init__(self, question: dns.Message) -> None:
        self._question = question
        self.response: Deferred[dns.Message] = Deferred()

    def connectionMade(self) -> None:
        """
        Ask.
        """
        self.sendString(self._question.toStr())

    def close(self) -> None:
        """
        Close the connection at once.
        """
        transport: Any = self.transport
        transport.abortConnection()

    def stringReceived(self, string: bytes) -> None:
        """
        Take the answer.
        """
        response = _responseTo(self._question, string)
        if not self.response.called:
            if response is not None:
                self.response.callback(response)
            else:
                self.response.errback(_unusable("it does not answer the question"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        There will be no answer any more.
        """
        if not self.response.called:
            self.response.errback(_unusable("it closed the connection"))


def _responseTo(question: dns.Message, data: bytes) -> dns.Message | None:
    """
    Make sense of an answer.

    @return: L{None}, if it is not the answer to that question.
    """
    response = dns.Message()
    response.maxCompressionPointers = _MAX_COMPRESSED_NAMES
    try:
        response.fromStr(data)
    except (EOFError, ValueError):
        return None
    if not response.answer or response.id != question.id:
        return None
    if response.queries != question.queries and (
        # Some servers repeat no question that they cannot answer.
        response.queries or response.rCode == dns.OK
    ):
        return None
    return response


def _addressesIn(response: dns.Message, query: dns.Query) -> list[IPAddress]:
    """
    The addresses of the name asked for, and of the names that it is an alias
    of (RFC 1034, section 3.6.2).
    """
    recordType, addressType = _ADDRESS_TYPES[query.type]
    names = {query.name.name.lower()}
    addresses: list[IPAddress] = []
    for record in response.answers:
        payload = record.payload
        if record.cls != dns.IN or record.name.name.lower() not in names:
            continue
        if isinstance(payload, dns.Record_CNAME):
            names.add(payload.name.name.lower())
        elif isinstance(payload, recordType):
            addresses.append(addressType(payload.address))
    return addresses
