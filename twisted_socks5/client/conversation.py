# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The client's side of one connection (RFC 1928).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IProtocolFactory,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_socks5 import wire
from twisted_socks5.client.takeover import Successor, abort
from twisted_socks5.client.target import inWords
from twisted_socks5.errors import (
    SUCCEEDED,
    MalformedMessage,
    NoAcceptableMethod,
    StreamEnded,
    UnofferedMethod,
    errorForReply,
)
from twisted_socks5.interfaces import (
    IClientAuthenticator,
    IClientExchange,
    IStreamLayer,
)
from twisted_socks5.layered import LayeredTransport
from twisted_socks5.outcome import outcomeOf
from twisted_socks5.stream import ByteStream

_Message = TypeVar("_Message")


@implementer(IHalfCloseableProtocol)
class Conversation(Protocol):
    """
    What a client says to a proxy, until the proxy has done what it was asked
    for; then somebody else gets the connection.

    @ivar address: Where the proxy is, as its endpoint has told.
    @ivar proxy: That, in words.
    @ivar isNextToTransport: Whether nobody between it and the transport needs to
        be told of what comes.
    @ivar stream: The bytes that the proxy sends.
    @ivar layer: What protects them, if anything does.
    """

    stream: ByteStream
    layer: IStreamLayer | None = None
    transport: Any

    _lost: Failure | None = None
    _bad: Exception | None = None
    _reading: Deferred[Any] | None = None
    _successor: Successor | None = None

    def __init__(
        self, address: IAddress | None = None, isNextToTransport: bool = False
    ) -> None:
        self.address = address
        self.proxy = "" if address is None else inWords(address)
        self.isNextToTransport = isNextToTransport

    # -- the conversation -----------------------------------------------------

    async def request(
        self,
        request: wire.Request,
        target: str,
        authenticators: Sequence[IClientAuthenticator],
        oneFlight: bool,
    ) -> wire.Reply:
        """
        From the greeting to the reply.

        @param target: What is asked for, in words.
        @param oneFlight: Send the request with the greeting if no answer can
            change it.
        @raise SOCKSError: It did not succeed.
        """
        methods = bytes(each.method for each in authenticators)
        isAhead = oneFlight and methods == bytes((wire.Method.NONE,))

        greeting = wire.Greeting(methods).encode()
        self.send(greeting + request.encode() if isAhead else greeting)
        choice = await self.read(wire.MethodChoice.parse)
        authenticator = _chosen(choice.method, authenticators)

        exchange = Exchange(self, target, request.command)
        layer = await outcomeOf(authenticator.authenticate(exchange))
        if layer is not None:
            self.protect(layer)

        if not isAhead:
            self.send(request.encode())
        return await self.readReply()

    async def readReply(self) -> wire.Reply:
        """
        Read a reply (RFC 1928, section 6).

        @raise ReplyError: It tells of a failure.
        """
        reply = await self.read(wire.Reply.parse)
        if reply.reply != SUCCEEDED:
            raise errorForReply(reply.reply)
        return reply

    async def read(
        self, parse: Callable[[bytearray], tuple[_Message, int] | None]
    ) -> _Message:
        """
        Read one message.

        @raise StreamEnded: The proxy closed before; the cause tells how.
        @raise MalformedMessage: The layer found the bytes bad.
        """
        return await self._awaited(self.stream.readMessage(parse))

    async def readExactly(self, count: int) -> bytes:
        """
        Read so many bytes.

        @raise StreamEnded: The proxy closed before; the cause tells how.
        @raise MalformedMessage: The layer found the bytes bad.
        """
        return await self._awaited(self.stream.readExactly(count))

    async def _awaited(self, reading: Coroutine[Any, Any, _Message]) -> _Message:
        awaited: Deferred[_Message] = Deferred.fromCoroutine(reading)
        self._reading = awaited
        try:
            if self._bad is not None:
                awaited.cancel()
            return await awaited
        except StreamEnded as error:
            cause = error.__cause__ or (self._lost and self._lost.value)
            raise StreamEnded("the proxy closed amid the handshake") from cause
        except CancelledError:
            if self._bad is None:
                raise
            raise MalformedMessage("protection failed") from self._bad
        finally:
            self._reading = None

    def send(self, data: bytes) -> None:
        """
        Send bytes to the proxy.
        """
        self.transport.write(data)

    def protect(self, layer: IStreamLayer) -> None:
        """
        From here on, all goes through a layer.
        """
        self.layer = layer
        self.transport = LayeredTransport(self.transport, layer)
        try:
            self.stream.setLayer(layer)
        except Exception as error:  # what has come already is not good
            self._bad = error

    def abort(self) -> None:
        """
        Close the connection now.
        """
        abort(self.transport)

    def handOver(self, factory: IProtocolFactory, address: IAddress) -> Successor:
        """
        Give the connection to a protocol.

        @param address: What the factory is told of.
        @return: It, still to be told what came with the reply.
        @raise NoProtocol: The factory makes none.
        """
        try:
            protocol = factory.buildProtocol(address)
            if protocol is None:
                raise NoProtocol()
            successor = Successor(self, protocol)
            self._successor = successor
            protocol.makeConnection(self.transport)
        except BaseException:
            self.abort()
            raise
        return successor

    # -- from the transport ---------------------------------------------------

    def connectionMade(self) -> None:
        """
        The proxy has accepted.
        """
        self.stream = ByteStream(self.transport)
        self.proxy = self.proxy or inWords(self.transport.getPeer())

    def dataReceived(self, data: bytes) -> None:
        """
        Bytes came from the proxy.
        """
        try:
            self.stream.dataReceived(data)
        except Exception as error:
            self._layerFailed(error)

    def readConnectionLost(self) -> None:
        """
        The proxy has closed its direction.
        """
        try:
            self.stream.readConnectionLost()
        except Exception:
            if self._successor is not None:
                raise
            # Else whoever reads is told.

    def writeConnectionLost(self) -> None:
        """
        Our direction is closed.
        """
        if self._successor is not None:
            self._successor.writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The connection is gone.
        """
        self._lost = reason
        if self._successor is not None:
            self._successor.connectionLost(reason)
        elif not self.stream.ended:
            self.readConnectionLost()

    def _layerFailed(self, error: Exception) -> None:
        """
        Stop the reader, if there still is one; what a user's protocol raises is
        for the reactor to deal with.
        """
        if self._successor is not None:
            raise error
        self._bad = error
        if self._reading is not None:
            self._reading.cancel()


def _chosen(
    method: int, authenticators: Sequence[IClientAuthenticator]
) -> IClientAuthenticator:
    """
    What the proxy has chosen of that which it was offered.
    """
    if method == wire.NO_ACCEPTABLE_METHODS:
        raise NoAcceptableMethod("the proxy accepts none of the offered methods")
    for each in authenticators:
        if each.method == method:
            return each
    raise UnofferedMethod(f"the proxy chose method {method:02x}, which was not offered")


@implementer(IClientExchange)
@attrs.frozen
class Exchange:
    """
    A client authenticator's conversation with one proxy.
    """

    _conversation: Conversation
    target: str
    command: int

    @property
    def proxy(self) -> str:
        """
        Where the proxy is, in words.
        """
        return self._conversation.proxy

    async def readExactly(self, count: int) -> bytes:
        """
        Read so many bytes.
        """
        return await self._conversation.readExactly(count)

    async def readMessage(
        self, parse: Callable[[bytearray], tuple[_Message, int] | None]
    ) -> _Message:
        """
        Read a message whose length its own bytes tell.
        """
        return await self._conversation.read(parse)

    def write(self, data: bytes) -> None:
        """
        Send bytes to the proxy.
        """
        self._conversation.send(data)


class ConversationFactory(Factory[Conversation]):
    """
    Makes one L{Conversation}, on behalf of a user's factory.

    @ivar conversation: It, once the proxy has accepted.
    @ivar isAbandoned: Nobody wants it any more.
    """

    noisy = False
    conversation: Conversation | None = None
    isAbandoned = False

    def __init__(self, user: IProtocolFactory | None, isNextToTransport: bool) -> None:
        """
        @param user: Is told when connecting begins, and when it is all over.
        @param isNextToTransport: As the conversation's.
        """
        self._user = user
        self._isNextToTransport = isNextToTransport

    def startFactory(self) -> None:
        """
        Connecting begins.
        """
        if self._user is not None:
            self._user.doStart()

    def stopFactory(self) -> None:
        """
        It is over.
        """
        if self._user is not None:
            self._user.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Conversation | None:
        """
        The proxy has accepted.
        """
        if self.isAbandoned:
            return None
        self.conversation = Conversation(addr, self._isNextToTransport)
        return self.conversation

    def abandon(self) -> None:
        """
        Close the connection, if there is one, or as soon as there is.
        """
        self.isAbandoned = True
        if self.conversation is not None and self.conversation.transport is not None:
            self.conversation.abort()
