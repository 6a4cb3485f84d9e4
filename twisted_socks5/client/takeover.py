# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
How a user's protocol takes a connection over from the conversation that
brought it about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.endpoints import (
    HostnameEndpoint,
    SSL4ClientEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
)
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocol,
    ISSLTransport,
    IStreamClientEndpoint,
)
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from twisted_socks5.client.conversation import Conversation


# Between transport and protocol they have a go-between, which tells of the
# connection, and then has nothing left to do.
_TWISTEDS_OWN = (
    HostnameEndpoint,
    SSL4ClientEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
)


def leavesNobodyBetween(endpoint: IStreamClientEndpoint) -> bool:
    """
    Whether nobody that an endpoint has put between transport and protocol needs
    to be told of what comes.  That is so with those of Twisted's own that connect
    by themselves.
    """
    return type(endpoint) in _TWISTEDS_OWN


def _slotOf(transport: Any, conversation: Conversation) -> str | None:
    """
    The attribute by which a transport of Twisted's knows whom to give its bytes
    to, and which may be set to somebody else: Twisted does so itself to slide
    TLS in between.
    """
    if isinstance(transport, ProtocolWrapper):
        slot = "wrappedProtocol"
    elif isinstance(transport, Connection) and not ISSLTransport.providedBy(transport):
        slot = "protocol"
    else:
        return None
    isFree = conversation.isNextToTransport or getattr(transport, slot) is conversation
    return slot if isFree else None


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

    def __init__(
        self,
        conversation: Conversation,
        protocol: IProtocol,
    ) -> None:
        self.protocol = protocol
        self._transport = conversation.transport
        self._stream = conversation.stream
        self._slot = _slotOf(self._transport, conversation)
        if self._slot is not None:
            setattr(self._transport, self._slot, protocol)

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
