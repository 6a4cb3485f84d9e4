# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The two ends of a tunnel between plain sockets.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IPushProducer, IReadWriteDescriptor
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_socks5.relay.pipes import Pipe
from twisted_socks5.relay.sendqueue import queuedAt

if TYPE_CHECKING:
    from twisted_socks5.limits.bandwidth import Meter
    from twisted_socks5.relay.fast import FastRelay, FastTunnel

BUFFER_SIZE = 64 * 1024
"""
How many bytes are received at once.
"""

_ROUNDS = 8
"""
How often a tunnel is read before others get their turn.
"""

_LARGE = 16 * 1024
"""
What is worth a pipe.
"""

_LARGE_READS = 4
"""
After how many large reads in a row the kernel is to move the bytes by itself.
"""

_SMALL = 4 * 1024
"""
What may be one message of a conversation.
"""

_LOOKS = 10
"""
How often to look for an answer before the reactor is to tell of it; that takes
about as many microseconds.
"""

_AT_FIRST = 8
"""
How many messages of a tunnel are passed on before it is a conversation.
"""

_RARELY = 1023
"""
After how many messages, at the latest, to look for an answer again where none
came in time.
"""

_RESET = struct.pack("ii", 1, 0)
_connectionAborted = Failure(ConnectionAborted())


@implementer(IReadWriteDescriptor, IPushProducer)
class End:
    """
    One side of a tunnel: its socket, as the reactor sees it, and the bytes that
    wait for it.  What comes from it goes to the other side.

    It is watched for reading while the other side takes what comes, and for
    writing while bytes wait for it.

    @ivar hasEnded: Whether all that will come from it has come.
    @ivar isLost: Whether its socket is closed.
    @ivar received: How many bytes have come from it.
    """

    __slots__ = (
        "_delay",
        "_descriptor",
        "_isPaused",
        "_isRead",
        "_isWritten",
        "_largeReads",
        "_meter",
        "_pipe",
        "_relay",
        "_socket",
        "_tunnel",
        "_unlooked",
        "_waiting",
        "hasEnded",
        "isLost",
        "other",
        "received",
    )

    name: str
    other: End

    def __init__(
        self, relay: FastRelay, tunnel: FastTunnel, connected: socket.socket
    ) -> None:
        self._relay = relay
        self._tunnel = tunnel
        self._socket = connected
        self._descriptor = connected.fileno()
        self._isRead = self._isWritten = self._isPaused = False
        self._largeReads = self._delay = 0
        self._unlooked = _AT_FIRST
        self._pipe: Pipe | None = None
        self._waiting = b""
        self._meter: Meter | None = None
        self.hasEnded = self.isLost = False
        self.received = 0

    @property
    def isWaitedFor(self) -> bool:
        """
        Whether bytes wait for it.
        """
        return self._pipe is not None or bool(self._waiting)

    def queued(self) -> int:
        """
        How many bytes the kernel holds for it.
        """
        return queuedAt(self._descriptor)

    # -- as the reactor sees it -------------------------------------------------

    def fileno(self) -> int:
        """
        The descriptor to watch.
        """
        return self._descriptor

    def logPrefix(self) -> str:
        """
        What the reactor calls us.
        """
        return "relay"

    def doRead(self) -> None:
        """
        Something came: pass it on.
        """
        if self._meter is not None:
            self._readBounded(self._meter)
            return
        end, looks, isFirst = self, 1, True
        for _ in range(_ROUNDS):
            if end._largeReads < _LARGE_READS:
                count = end._copy(looks)
            else:
                count = end._splice(isFirst)
            looks, isFirst = 1, False
            if 0 < count < _SMALL and end.other._expectAnswer():
                end, looks = end.other, _LOOKS
            elif count < BUFFER_SIZE:
                return
        end._readOn()

    def doWrite(self) -> None:
        """
        The socket takes something: send what waits for it, and if that was all,
        what has come for it meanwhile.
        """
        if not self._isWritten:
            return  # reading, as the reactor does first, has changed it
        deadlines, source = self._tunnel.deadlines, self.other
        deadlines.lastMoved = self._relay.seconds()
        deadlines.taken(self)
        if not self._flush():
            if not self.isLost:
                deadlines.stalled(self)
        elif source.hasEnded or self._tunnel.isClosing:
            self._watch(self._isRead, False)
            self._tunnel.passedOn(source)
        elif source._isPaused:
            self._watch(self._isRead, False)
        else:
            source.doRead()

    def connectionLost(self, reason: Failure) -> None:
        """
        The reactor has seen an error of the socket, or stops; or somebody has
        closed the client's transport.
        """
        if not self.isLost:
            self._tunnel.lost(self)

    def _watch(self, forReading: bool, forWriting: bool) -> None:
        """
        Have the reactor watch the socket, or not.
        """
        reactor = self._relay.reactor
        if forReading is not self._isRead:
            self._isRead = forReading
            (reactor.addReader if forReading else reactor.removeReader)(self)
        if forWriting is not self._isWritten:
            self._isWritten = forWriting
            (reactor.addWriter if forWriting else reactor.removeWriter)(self)

    # -- from here to the other side ----------------------------------------------

    def begin(self) -> None:
        """
        Carry what comes, and what was put down for the other side already.
        """
        other = self.other
        if other.isWaitedFor:
            self._holdBack()
        elif self.hasEnded:
            other._watch(other._isRead, True)
        else:
            self._readOn()

    def bound(self, meter: Meter) -> None:
        """
        Carry no more than there is credit for.
        """
        self._meter = meter
        meter.resume = self._readIfWanted

    def _readBounded(self, meter: Meter) -> None:
        """
        Receive no more than there is credit for, or wait for some.
        """
        if meter.refill():
            before = self.received
            self._copy(1, min(meter.credit, BUFFER_SIZE))
            meter.credit -= self.received - before
            return
        other = self.other
        self._watch(False, self._isWritten)
        if other._isWritten:
            other._watch(other._isRead, False)

    def _expectAnswer(self) -> bool:
        """
        Whether to look out for an answer from here.  Where answers come within
        microseconds, to go back to the reactor, and to sleep, takes longer than
        they do.  Who does not answer so fast is looked at more and more rarely.
        """
        if self._unlooked:
            self._unlooked -= 1
            return False
        return self._isRead

    def _receive(self, looks: int, most: int) -> int:
        """
        Receive into the shared buffer.

        @param looks: How often to look.
        @param most: How many bytes at most; 0 is as many as fit.
        @raise OSError: The socket has failed, or there is nothing.
        """
        receive, buffer = self._socket.recv_into, self._relay.buffer
        if looks == 1:
            return receive(buffer, most)
        for _ in range(looks):
            try:
                count = receive(buffer)
            except BlockingIOError:
                continue
            self._delay = 0
            return count
        self._unlooked = self._delay = min(2 * self._delay + 1, _RARELY)
        raise BlockingIOError

    def _copy(self, looks: int = 1, most: int = 0) -> int:
        """
        Receive, and send at once.

        @param most: How many bytes at most; 0 is as many as fit.
        @return: How many bytes were passed on; 0 if there is no more to do.
        """
        relay, other = self._relay, self.other
        try:
            count = self._receive(looks, most)
        except BlockingIOError:
            return self._readOn()
        except OSError:
            return self._tunnel.lost(self)
        if not count:
            return self._end()
        self.received += count
        self._tunnel.deadlines.lastMoved = relay.seconds()
        try:
            sent = other._socket.send(relay.view[:count])
        except BlockingIOError:
            sent = 0
        except OSError:
            return self._tunnel.lost(other)
        if count < _LARGE:
            self._largeReads = 0
        elif self._largeReads < _LARGE_READS:
            self._largeReads += 1
        if sent < count:
            other._waiting = bytes(relay.view[sent:count])
            return self._holdBack()
        if count < BUFFER_SIZE:
            self._readOn()
        return count

    def _splice(self, isFirst: bool) -> int:
        """
        Have the kernel move bytes.  The pipe is ours only as long as there is
        something in it.

        @param isFirst: Whether the reactor has just told that there is something.
        @return: How many bytes were passed on; 0 if there is no more to do.
        """
        relay, other = self._relay, self.other
        pipes = relay.pipes
        pipe = pipes.take()
        if pipe is None:
            return self._copy()
        try:
            count = pipe.fill(self._descriptor)
        except BlockingIOError:
            pipes.give(pipe)
            # Before a byte of urgent data there seems to be nothing, or the end;
            # receiving gets past it.
            return self._copy() if isFirst else self._readOn()
        except OSError:
            pipes.give(pipe)
            return self._tunnel.lost(self)
        if not count:
            pipes.give(pipe)
            return self._copy()
        self.received += count
        self._tunnel.deadlines.lastMoved = relay.seconds()
        if count < _LARGE:
            self._largeReads -= 1
        other._pipe = pipe
        if not other._flush():
            return not other.isLost and self._holdBack()
        if count < BUFFER_SIZE:
            self._readOn()
        return count

    def _flush(self) -> bool:
        """
        Send what waits for this side.

        @return: Whether it has taken everything.
        """
        pipe = self._pipe
        try:
            if pipe is not None:
                pipe.drain(self._descriptor)
            elif self._waiting:
                self._waiting = self._waiting[self._socket.send(self._waiting) :]
        except BlockingIOError:
            return False
        except OSError:
            return self._tunnel.lost(self)
        if pipe is None:
            return not self._waiting
        if pipe.held:
            return False
        self._pipe = None
        self._relay.pipes.give(pipe)
        return True

    def _readOn(self) -> bool:
        """
        The other side takes what comes: wait for more.
        """
        other = self.other
        if not self._isRead:
            self._watch(True, self._isWritten)
        if other._isWritten:
            other._watch(other._isRead, False)
        return False

    def _holdBack(self) -> bool:
        """
        The other side does not take everything: wait until it does.
        """
        other = self.other
        self._tunnel.deadlines.stalled(other)
        if self._isRead:
            self._watch(False, self._isWritten)
        if not other._isWritten:
            other._watch(other._isRead, True)
        return False

    def _end(self) -> bool:
        """
        All has come, and was passed on.
        """
        other = self.other
        self.readConnectionLost()
        other._watch(other._isRead, False)
        self._tunnel.passedOn(self)
        return False

    # -- IPushProducer: whoever wants less to come from here -----------------------

    def pauseProducing(self) -> None:
        """
        Read nothing until L{resumeProducing}.
        """
        self._isPaused = True
        self._watch(False, self._isWritten)

    def resumeProducing(self) -> None:
        """
        Read on.
        """
        self._isPaused = False
        self._readIfWanted()

    def _readIfWanted(self) -> None:
        if not (
            self._isPaused
            or self.hasEnded
            or self.isLost
            or self.other.isWaitedFor
            or self._tunnel.isClosing
        ):
            self._watch(True, self._isWritten)

    def stopProducing(self) -> None:
        """
        Cut the tunnel.
        """
        if not self.isLost:
            self._tunnel.abort()

    # -- at its end ---------------------------------------------------------------

    def readConnectionLost(self) -> None:
        """
        Nothing more will come from here.
        """
        self.hasEnded = True
        self._watch(False, self._isWritten)
        self._tunnel.ended(self)

    def watchForReset(self) -> None:
        """
        Nothing is expected from here any more but a reset.
        """
        self._relay.resets.watch(self._descriptor, self)

    def wasReset(self) -> None:
        """
        The side is gone, and so is the tunnel when the other side has got all that
        was sent before.
        """
        if self.other.isSentTo():
            self.watchForReset()
        else:
            self._tunnel.lost(self)

    def isSentTo(self) -> bool:
        """
        Whether bytes are on their way to it.
        """
        return self.isWaitedFor or self.queued() > 0

    def shutDown(self) -> None:
        """
        Nothing more will be sent here.
        """
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._tunnel.lost(self)

    def close(self, withReset: bool) -> None:
        """
        Close the socket.
        """
        self.isLost = True
        self._watch(False, False)
        if self._pipe is not None:
            self._relay.pipes.drop(self._pipe)
            self._pipe = None
        self._waiting = b""
        if self.hasEnded:
            self._relay.resets.forget(self._descriptor)
        self._descriptor = -1
        self._closeSocket(withReset)

    def letGo(self) -> None:
        """
        Both are closed: do not keep each other from being freed at once.
        """
        del self.other, self._tunnel

    def _closeSocket(self, withReset: bool) -> None:
        if withReset:
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            except OSError:
                pass  # it is closed without
        self._socket.close()


class DestinationEnd(End):
    """
    The destination's side.
    """

    __slots__ = ()
    name = "destination"


class ClientEnd(End):
    """
    The client's side.  Its socket belongs to Twisted's transport, which knows
    nothing of what we do with it, and closes it at our word.
    """

    __slots__ = ("_transport",)
    name = "client"

    def __init__(
        self, relay: FastRelay, tunnel: FastTunnel, transport: Connection
    ) -> None:
        End.__init__(self, relay, tunnel, transport.getHandle())
        self._transport = transport

    def dataReceived(self, data: bytes) -> None:
        """
        Take what came before the socket was ours.
        """
        self.received += len(data)
        if self._meter is not None:
            self._meter.credit -= len(data)
        self.other._waiting += data

    def _closeSocket(self, withReset: bool) -> None:
        self._transport.connectionLost(
            _connectionAborted if withReset else connectionDone
        )
