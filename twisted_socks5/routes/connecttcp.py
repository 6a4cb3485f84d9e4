# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Connecting to one IP address with the reactor's C{connectTCP}, for reactors
that cannot watch a socket of ours.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol, IReactorTCP, ITransport
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_socks5.addresses import Address, IPAddress, addressOf
from twisted_socks5.errors import GeneralFailure, TimedOut, errorForOSError
from twisted_socks5.interfaces import IOutbound


@implementer(IOutbound)
class TransportOutbound:
    """
    A connected transport, not read from until a protocol takes it over.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.local = addressOf(transport.getHost())
        self.peer: Address | None = addressOf(transport.getPeer())
        transport.pauseProducing()
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)

    def attach(self, protocol: IProtocol) -> ITransport:
        """
        Have a protocol take the transport over.
        """
        transport: ITransport = self._transport
        self._transport.protocol = protocol
        protocol.makeConnection(transport)
        self._transport.resumeProducing()
        return transport

    def detachSocket(self) -> socket.socket | None:
        """
        There is no bare socket.
        """
        return None

    def abort(self) -> None:
        """
        Close the connection.
        """
        self._transport.abortConnection()


class _Connected(Protocol):
    """
    Tells of the connection, and waits to be replaced.
    """

    def __init__(self, outcome: Deferred[IOutbound]) -> None:
        self._outcome = outcome

    def connectionMade(self) -> None:
        self._outcome.callback(TransportOutbound(self.transport))


class _Connecting(ClientFactory[_Connected]):
    noisy = False

    def __init__(self, outcome: Deferred[IOutbound]) -> None:
        self._outcome = outcome

    def buildProtocol(self, addr: object) -> _Connected:
        return _Connected(self._outcome)

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        if not self._outcome.called:
            self._outcome.errback(_errorFor(reason.value))


def _errorFor(problem: BaseException | None) -> Exception:
    if isinstance(problem, ConnectError):
        # Twisted's types tell three errors apart; the system's number, all.
        system = problem.osError
        if isinstance(system, OSError):
            return errorForOSError(system)
        if isinstance(system, int):
            return errorForOSError(OSError(system, str(problem)))
        return TimedOut("timed out")
    return GeneralFailure(type(problem).__name__)


def connectTCP(
    reactor: IReactorTCP, target: Address, bindAddress: IPAddress | None = None
) -> Deferred[IOutbound]:
    """
    Connect to an IP address.

    @param bindAddress: The address on this host to go out from.
    @return: The connection.  Fails with a
        L{ReplyError<twisted_socks5.errors.ReplyError>}.
    """
    outcome: Deferred[IOutbound] = Deferred(lambda _: connector.disconnect())
    local = None if bindAddress is None else (str(bindAddress), 0)
    connector = reactor.connectTCP(
        str(target.host), target.port, _Connecting(outcome), bindAddress=local
    )
    return outcome
