# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The clients that wait at a listening socket, and what keeps them from being accepted.

Of that Twisted's own port logs a line each time that the reactor tells of those who
wait, which it does again and again.
"""

from __future__ import annotations

import socket
from errno import EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM
from os import strerror
from typing import Any

SHORTAGE = "too few descriptors are left (ulimit -n)"
"""
What there is too little of, as a rule.
"""

_SHORTAGES = (EMFILE, ENFILE, ENOBUFS, ENOMEM)


class Backlog:
    """
    Stands in front of a listening socket.

    @ivar shortage: What there was too little of when somebody was to be accepted the
        last time; empty if there was enough.
    """

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self.shortage = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listening, name)

    def accept(self) -> tuple[socket.socket, Any]:
        """
        Accept one.

        @raise BlockingIOError: Nobody waits, or nobody can be accepted.
        @raise PermissionError: One was there, and has gone: there may be others.
        """
        self.shortage = ""
        try:
            return self._listening.accept()
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno in _SHORTAGES:
                isOurs = error.errno == EMFILE
                self.shortage = SHORTAGE if isOurs else strerror(error.errno)
                raise BlockingIOError(EAGAIN, self.shortage) from None
            # accept(2): what has become of a connection since it was made.
            raise PermissionError(EPERM, str(error)) from None
