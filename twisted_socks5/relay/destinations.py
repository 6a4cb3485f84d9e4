# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The destinations that one client sends datagrams to: each is looked up and judged
once, and what is sent to it meanwhile waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from twisted_socks5 import wire
from twisted_socks5.addresses import Address
from twisted_socks5.errors import ConnectionNotAllowed, SOCKSError
from twisted_socks5.interfaces import IDatagrams
from twisted_socks5.observe.defects import logDefect
from twisted_socks5.outcome import outcomeOf

MAX_DESTINATIONS = 4096
"""
How many destinations are remembered, and how many that are denied.
"""

MAX_LOOKUPS = 64
"""
How many names may be looked up at once.
"""

MAX_LOOKUPS_OF_ALL = 256
"""
How many names may be looked up at once for all clients together: each look-up
has sockets of its own.
"""

MAX_QUESTIONS = 1024
"""
How many destinations may be looked up or judged at once.
"""

MAX_WAITING = 1024 * 1024
"""
How many bytes may wait for that, for all destinations together.
"""

_EACH = 64
_BYTES_EACH = 128 * 1024
"""
How many datagrams and bytes may wait for one destination.
"""


class _Question:
    """
    A destination that is being looked up or judged, and what waits for it.
    """

    __slots__ = ("asking", "isOld", "payloads", "size")

    def __init__(self, payload: bytes) -> None:
        self.payloads = [payload]
        self.size = len(payload)
        self.asking: Deferred[None] | None = None
        self.isOld = False

    def hasRoomFor(self, payload: bytes) -> bool:
        return len(self.payloads) < _EACH and self.size + len(payload) <= _BYTES_EACH


class Lookups:
    """
    What the associations of one server look up.

    @ivar running: How many names, at the moment.
    """

    __slots__ = ("running",)

    def __init__(self) -> None:
        self.running = 0


class Destinations:
    """
    Destinations by the very bytes of a datagram's header, from FRAG on, so that
    one look into a dictionary finds those that are known.

    @ivar denial: Why the last one that is denied is.
    @ivar senders: What sends to those that are known and allowed.
    """

    def __init__(
        self,
        datagrams: IDatagrams,
        passOn: Callable[[Callable[[bytes], object], bytes], object],
        dropped: Callable[[str], object],
        lookups: Lookups,
        checkName: Callable[[Address], Awaitable[None]] | None = None,
    ) -> None:
        """
        @param datagrams: The way out.
        @param passOn: Is given what sends to a destination, and what has waited
            for it.
        @param dropped: Is told the reason for each datagram that is not sent.
        @param lookups: Bounds those of all associations together.
        @param checkName: Asks about a name before it is looked up.
        """
        self._datagrams = datagrams
        self._passOn = passOn
        self._dropped = dropped
        self._checkName = checkName
        self._denied: dict[bytes, None] = {}
        self._questions: dict[bytes, _Question] = {}
        self._names = 0
        self._lookups = lookups
        self._waiting = 0
        self._isClosed = False
        self.denial = ""
        self.senders: dict[bytes, Callable[[bytes], object]] = {}

    def close(self) -> None:
        """
        Ask no more.
        """
        self._isClosed = True
        for question in list(self._questions.values()):
            if question.asking is not None:
                question.asking.cancel()

    def forget(self) -> None:
        """
        Look up and judge all destinations again: those that are being asked about
        now, the others once something is sent there.
        """
        self.senders.clear()
        self._denied.clear()
        for question in list(self._questions.values()):
            question.isOld = True
            if question.asking is not None:
                question.asking.cancel()

    def take(self, header: bytes, payload: bytes) -> None:
        """
        Take a payload for a destination: send it, keep it until it is known
        whether that may be done, or drop it.
        """
        send = self.senders.get(header)
        if send is not None:
            self._passOn(send, payload)
        elif header in self._denied:
            self._dropped("denied")
        elif header not in self._questions:
            self._ask(header, payload)
        elif (
            self._questions[header].hasRoomFor(payload)
            and self._waiting + len(payload) <= MAX_WAITING
        ):
            self._keep(self._questions[header], payload)
        else:
            self._dropped("queue")

    def _keep(self, question: _Question, payload: bytes) -> None:
        question.payloads.append(payload)
        question.size += len(payload)
        self._waiting += len(payload)

    def _ask(self, header: bytes, payload: bytes) -> None:
        isName = header[1] == wire.AddressType.NAME
        if len(self._questions) >= MAX_QUESTIONS or (
            isName
            and (
                self._names >= MAX_LOOKUPS
                or self._lookups.running >= MAX_LOOKUPS_OF_ALL
            )
        ):
            self._dropped("queue")
            return
        question = self._questions[header] = _Question(payload)
        self._waiting += question.size
        self._names += isName
        self._lookups.running += isName
        asking = Deferred.fromCoroutine(self._find(header, question, isName))
        if header in self._questions:
            question.asking = asking
            # Only now, since most are known at once and never wait.
            if self._waiting > MAX_WAITING:
                asking.cancel()

    async def _find(self, header: bytes, question: _Question, isName: bool) -> None:
        """
        Find out about a destination, and send what waits for it.
        """
        send: Callable[[bytes], object] | None = None
        reason = ""
        try:
            destination = _destinationOf(header)
            if destination.ip is None and self._checkName is not None:
                await self._checkName(destination)
            send = await outcomeOf(self._datagrams.sender(destination))
        except CancelledError:
            reason = "queue"
        except ConnectionNotAllowed as denial:
            reason = "denied"
            self.denial = str(denial)
        except SOCKSError:
            reason = "unreachable"
        except Exception:
            logDefect(self._datagrams, "sender", Failure())
            reason = "unreachable"
        del self._questions[header]
        self._waiting -= question.size
        self._names -= isName
        self._lookups.running -= isName
        if self._isClosed:
            return
        if question.isOld:
            for payload in question.payloads:
                self.take(header, payload)
            return
        if send is not None:
            _remember(self.senders, header, send)
        elif reason == "denied":
            _remember(self._denied, header, None)
        for payload in question.payloads:
            if send is None:
                self._dropped(reason)
            else:
                self._passOn(send, payload)


def _destinationOf(header: bytes) -> Address:
    """
    The destination in a header, from FRAG on.

    @raise InvalidName: No such name can exist.
    """
    _, host, port, _ = wire.parseDatagramHeader(b"\0\0" + header)
    return Address.fromWire(host, port)


def _remember(known: dict[bytes, Any], header: bytes, what: Any) -> None:
    """
    Remember something, and forget the oldest where there is too much.
    """
    known[header] = what
    if len(known) > MAX_DESTINATIONS:
        del known[next(iter(known))]
