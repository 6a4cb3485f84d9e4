# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Joining the fragments of datagrams (RFC 1928, section 7).
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

REASSEMBLY_TIME = 5.0
"""
How long the fragments of a datagram may be in coming, in seconds; RFC 1928
wants no less.
"""

MAX_PAYLOAD = 65507
"""
More bytes than this cannot be sent in one datagram, so they need not be kept.
"""

_LAST = 0x80


class Reassembly:
    """
    The one datagram of a client that is being put together.  Fragments must
    come in order: a gap, another destination, too many bytes or too much time
    abandon it, and so does a lower number; 1 starts over.
    """

    __slots__ = ("_clock", "_destination", "_dropped", "_pieces", "_size", "_timer")

    def __init__(self, clock: IReactorTime, dropped: Callable[[str], object]) -> None:
        """
        @param dropped: Is told of each fragment that was in vain.
        """
        self._clock = clock
        self._dropped = dropped
        self._destination = b""
        self._pieces: list[bytes] = []
        self._size = 0
        self._timer: IDelayedCall | None = None

    def add(self, fragment: int, destination: bytes, payload: bytes) -> bytes | None:
        """
        Take one fragment.

        @param fragment: FRAG: 1 to 127 for its place, the high bit for the end.
        @param destination: ATYP, DST.ADDR and DST.PORT as they came.
        @return: The whole payload, once this is its end.
        """
        place = fragment & ~_LAST
        if place == 1:
            self.abandon()
            self._destination = destination
            self._timer = self._clock.callLater(REASSEMBLY_TIME, self._expired)
        elif place != len(self._pieces) + 1 or destination != self._destination:
            self._dropped("fragment")
            self.abandon()
            return None
        self._pieces.append(payload)
        self._size += len(payload)
        if self._size > MAX_PAYLOAD:
            self.abandon()
        elif fragment & _LAST:
            whole = b"".join(self._pieces)
            self._pieces = []
            self.abandon()
            return whole
        return None

    def abandon(self) -> None:
        """
        Drop what there is.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _ in self._pieces:
            self._dropped("fragment")
        self._pieces = []
        self._size = 0

    def _expired(self) -> None:
        self._timer = None
        self.abandon()
