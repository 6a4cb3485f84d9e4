# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The bytes that a peer sends, from the transport to whoever reads them: a client's
on the server's side, the proxy's on the client's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_socks5.errors import StreamEnded
from twisted_socks5.interfaces import IStreamLayer

CAP = 256 * 1024
"""
How many bytes are kept of a peer while nobody reads them.
"""

_ONE_READ = 64 * 1024
"""
What a Twisted transport delivers at most in one call, paused or not.
"""

_Message = TypeVar("_Message")


class Receiver(Protocol):
    """
    Who gets a peer's bytes once the last message has been read.
    """

    def dataReceived(self, data: bytes) -> None:
        """
        Some bytes came.
        """

    def readConnectionLost(self) -> None:
        """
        No more will come.
        """

    def connectionLost(self, reason: Failure) -> None:
        """
        The connection is gone.
        """


@implementer(IPushProducer)
class _Nobody:
    """
    Drops what it receives, and produces nothing.
    """

    def dataReceived(self, data: bytes) -> None: ...

    def readConnectionLost(self) -> None: ...

    def connectionLost(self, reason: Failure) -> None: ...

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def stopProducing(self) -> None: ...


_nobody = _Nobody()


class ByteStream:
    """
    The only owner of a peer's bytes: they are read as messages, one after
    the other, and what comes after the last message is handed on once.

    @ivar ended: Whether the peer has closed its direction.
    """

    __slots__ = (
        "_buffer",
        "_cause",
        "_layer",
        "_paused",
        "_producer",
        "_receiver",
        "_waiting",
        "ended",
    )

    def __init__(self, producer: IPushProducer) -> None:
        """
        @param producer: Where the bytes come from; paused while too many wait
            to be read.
        """
        self._producer: IPushProducer = producer
        self._buffer = bytearray()
        self._layer: IStreamLayer | None = None
        self._receiver: Receiver | None = None
        self._waiting: Deferred[None] | None = None
        self._paused = False
        self._cause: Exception | None = None
        self.ended = False

    @property
    def isEmpty(self) -> bool:
        """
        Whether no byte waits to be read.
        """
        return not self._buffer

    @property
    def isAwaited(self) -> bool:
        """
        Whether a reader waits for more bytes: it is the peer's turn.
        """
        return self._waiting is not None

    # -- from the transport ---------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """
        Take bytes as they came from the wire.

        @raise Exception: The layer found them bad; all before was delivered.
        """
        if self._layer is None:
            self._deliver(data)
        else:
            for piece in self._layer.unwrap(data):
                self._deliver(piece)

    def _deliver(self, data: bytes) -> None:
        if self._receiver is not None:
            self._receiver.dataReceived(data)
            return
        self._buffer += data
        if self._waiting is not None:
            self._wake()
        if self._waiting or self._paused:
            return
        if len(self._buffer) > CAP - _ONE_READ:
            self._paused = True
            self._producer.pauseProducing()

    def readConnectionLost(self) -> None:
        """
        The peer has closed its direction.

        @raise Exception: The layer was amid something; of that a reader is told
            with the end.
        """
        self.ended = True
        try:
            if self._layer is not None:
                self._layer.eof()
        except Exception as error:
            self._cause = error
            if self._waiting is not None:
                self._wake()
            raise
        if self._receiver is not None:
            self._receiver.readConnectionLost()
        elif self._waiting is not None:
            self._wake()

    def connectionLost(self, reason: Failure) -> None:
        """
        The connection is gone.
        """
        # Whoever has us, too, would keep both from being freed at once.
        self._producer = _nobody
        if self._receiver is not None:
            self._receiver.connectionLost(reason)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        assert waiting is not None
        waiting.callback(None)

    # -- to the readers -------------------------------------------------------

    async def readMessage(
        self, parse: Callable[[bytearray], tuple[_Message, int] | None]
    ) -> _Message:
        """
        Read one message.  Only one reader may wait at a time.

        @param parse: Given all bytes that there are, returns a message and how
            many bytes it took, or L{None} for too few.
        @raise StreamEnded: The peer closed before; the cause is what the layer had
            against that, if anything.
        """
        while (parsed := parse(self._buffer)) is None:
            if self.ended:
                raise StreamEnded("the peer closed amid a message") from self._cause
            self._waiting = Deferred(self._stopWaiting)
            await self._waiting
        message, length = parsed
        del self._buffer[:length]
        self._resume()
        return message

    async def readExactly(self, count: int) -> bytes:
        """
        Read so many bytes.

        @raise ValueError: More than L{CAP}, or less than none, were asked for.
        @raise StreamEnded: The peer closed before.
        """
        if not 0 <= count <= CAP - _ONE_READ:
            raise ValueError(f"cannot read {count} bytes at once")

        def parse(buffer: bytearray) -> tuple[bytes, int] | None:
            return None if len(buffer) < count else (bytes(buffer[:count]), count)

        return await self.readMessage(parse)

    def _stopWaiting(self, waiting: Deferred[None]) -> None:
        self._waiting = None

    def _resume(self) -> None:
        if self._paused and len(self._buffer) <= CAP - _ONE_READ:
            self._paused = False
            self._producer.resumeProducing()

    def setLayer(self, layer: IStreamLayer) -> None:
        """
        From here on all bytes come through a layer; those that were not read
        yet go through it first.
        """
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._layer = layer
        if rest:
            self.dataReceived(rest)
        if self.ended:
            layer.eof()

    def detach(self, receiver: Receiver) -> None:
        """
        Hand on what was not read, and from here on whatever comes.

        @raise RuntimeError: It was done before.
        """
        if self._receiver is not None:
            raise RuntimeError("the bytes were handed on already")
        rest, self._buffer = bytes(self._buffer), bytearray()
        self._receiver = receiver
        # Before the rest is delivered, so that a receiver that cannot take it
        # has the last word on whether to pause.
        self._resume()
        if rest:
            receiver.dataReceived(rest)
        if self.ended:
            receiver.readConnectionLost()

    def discard(self) -> None:
        """
        Drop what was not read, and from here on whatever comes.
        """
        self._receiver = _nobody
        self._layer = None
        self._buffer = bytearray()
        self._resume()
