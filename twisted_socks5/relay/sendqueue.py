# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What the kernel holds for the other end of a connection.
"""

from __future__ import annotations

import fcntl
import struct
import sys
import termios
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.protocols.policies import ProtocolWrapper

_COUNT = struct.Struct("i")
_NOTHING = bytes(_COUNT.size)


def queuedAt(descriptor: int) -> int:
    """
    How many bytes that a socket has taken are not yet with its peer.  A socket
    becomes writable again only when much of them is, so that this tells of a
    slow peer what the reactor does not.

    @return: The number; 0 where it is not to be had, or the socket is closed.
    """
    if sys.platform != "linux" or descriptor < 0:
        return 0
    try:
        answer = fcntl.ioctl(descriptor, termios.TIOCOUTQ, _NOTHING)
    except OSError:
        return 0
    count: int = _COUNT.unpack(answer)[0]
    return count


def queuedIn(transport: Any) -> int:
    """
    How many bytes of what was written to a transport the kernel holds.
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    if not isinstance(transport, FileDescriptor):
        return 0
    return queuedAt(transport.fileno())
