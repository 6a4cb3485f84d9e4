# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Joining the fragments of datagrams (RFC 1928, section 7).
"""

from __future__ import annotations

from typing import TypeAlias

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

_Datagram: TypeAlias = tuple[bytes, bytes]
"""
The destination, as in the header, and the payload.
"""


class Reassembly:
    """
    The one datagram of a client that is being put together.  Fragments must
    come in order: a gap, another destination, too many bytes or too much time
    abandon it, and so does a lower number, which starts over if it is 1.
    """

    __slots__ = ("_clock", "_destination", "_pieces", "_size", "_timer")

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._destination = b""
        self._pieces: list[bytes] = []
        self._size = 0
        self._timer: IDelayedCall | None = None

    def add(
        self, fragment: int, destination: bytes, payload: bytes
    ) -> _Datagram | None:
        """
        Take one fragment.

        @param fragment: FRAG: 1 to 127 for its place, the high bit for the end.
        @param destination: ATYP, DST.ADDR and DST.PORT as they came.
        @return: The whole datagram, once this is its end.
        """
        place = fragment & ~_LAST
        if place == 1:
            self.abandon()
            self._destination = destination
            self._timer = self._clock.callLater(REASSEMBLY_TIME, self._expired)
        if (
            place != len(self._pieces) + 1
            or destination != self._destination
            or self._size + len(payload) > MAX_PAYLOAD
        ):
            self.abandon()
            return None
        self._pieces.append(payload)
        self._size += len(payload)
        if not fragment & _LAST:
            return None
        whole = b"".join(self._pieces)
        self.abandon()
        return destination, whole

    def abandon(self) -> None:
        """
        Drop what there is.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._pieces = []
        self._size = 0

    def _expired(self) -> None:
        self._timer = None
        self.abandon()
