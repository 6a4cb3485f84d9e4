# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The first worker, which is waited for: if it cannot serve, no other one could.

All this is before the reactor runs, while a runner can still say that the program
has not started.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from typing import Any

_PATIENCE = 2.0
"""
How long, in seconds, it is waited for the last words of a worker that ends.
"""

_READ = 65536


def awaitFirstWord(
    channel: socket.socket, errors: int, take: Callable[[bytes], object]
) -> bool:
    """
    Wait, without the reactor, until a worker says something, which it does when it
    serves, or has ended.

    @param channel: Our end of the sockets between it and us.  It stays unread.
    @param errors: A descriptor of what it prints on standard error.
    @param take: Called with what it has printed.
    @return: Whether it serves.
    """
    reading: list[Any] = [channel, errors]
    while True:
        ready, _, _ = select.select(reading, [], [])
        if errors in ready and not _readSome(errors, take):
            reading.remove(errors)
        if channel in ready:
            if _hasSpoken(channel):
                return True
            while select.select([errors], [], [], _PATIENCE)[0]:
                if not _readSome(errors, take):
                    break
            return False


def _hasSpoken(channel: socket.socket) -> bool:
    try:
        return channel.recv(1, socket.MSG_PEEK) != b""
    except ConnectionError:  # it has ended before it had read all
        return False


def _readSome(errors: int, take: Callable[[bytes], object]) -> bool:
    """
    @return: Whether there may be more.
    """
    try:
        some = os.read(errors, _READ)
    except BlockingIOError:
        return True
    take(some)
    return some != b""
