# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
How a user's protocol takes a connection over from the conversation that
brought it about.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocol,
    ISSLTransport,
)
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure

from twisted_socks5.stream import ByteStream


def _slotOf(transport: object) -> str | None:
    """
    The attribute by which a transport of Twisted's knows whom to give its bytes
    to, and which may be set to somebody else: Twisted does so itself to slide
    TLS in between.
    """
    if isinstance(transport, ProtocolWrapper):
        return "wrappedProtocol"
    if isinstance(transport, Connection) and not ISSLTransport.providedBy(transport):
        return "protocol"
    return None


def abort(transport: Any) -> None:
    """
    Close a connection now.
    """
    # Not all transports can (a process' pipes).
    close = getattr(transport, "abortConnection", None)
    (close or transport.loseConnection)()


class Successor:
    """
    Who gets a proxy's bytes once it has replied.

    Of the transports that we know, the successor is then the protocol itself,
    so that nothing stands between the two.  Of others (those that a layer
    protects, and whatever else a proxy's endpoint may connect with) it gets
    what the conversation gets.

    @ivar protocol: The user's protocol.
    """

    _log = Logger()
    _isLost = False

    def __init__(self, transport: Any, stream: ByteStream, protocol: IProtocol) -> None:
        self.protocol = protocol
        self._transport = transport
        self._stream = stream
        self._slot = _slotOf(transport)
        if self._slot is not None:
            setattr(transport, self._slot, protocol)

    def deliver(self) -> None:
        """
        Hand on what came with the reply, and from here on whatever comes.
        """
        try:
            self._stream.detach(self)
        except Exception:
            # As a reactor does with what a protocol raises.
            self._log.failure("{protocol!r} failed", protocol=self.protocol)
            abort(self._transport)

    @property
    def _current(self) -> Any:
        """
        Who gets the bytes by now: the protocol may have begun TLS, or have
        made way for another one.
        """
        if self._slot is not None:
            return getattr(self._transport, self._slot)
        return self.protocol

    def dataReceived(self, data: bytes) -> None:
        """
        Some bytes came.
        """
        if not (self._isLost or getattr(self._transport, "disconnecting", False)):
            self._current.dataReceived(data)

    def readConnectionLost(self) -> None:
        """
        No more will come.
        """
        closeable = IHalfCloseableProtocol(self._current, None)
        if closeable is not None:
            closeable.readConnectionLost()
        else:
            self._transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """
        Our direction is closed.
        """
        closeable = IHalfCloseableProtocol(self._current, None)
        if closeable is not None:
            closeable.writeConnectionLost()

    def connectionLost(self, reason: Failure) -> None:
        """
        The connection is gone.
        """
        self._isLost = True
        self._current.connectionLost(reason)
