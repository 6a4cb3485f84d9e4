# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The socket between the supervisor and a worker.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.protocol import Factory
from twisted.protocols.amp import BinaryBoxProtocol, BoxDispatcher, CommandLocator


class Channel(BinaryBoxProtocol, BoxDispatcher, CommandLocator):
    """
    AMP at one end of it.  Unlike Twisted's own C{AMP} it does not log that it is
    connected.
    """

    def __init__(self) -> None:
        BoxDispatcher.__init__(self, self)
        BinaryBoxProtocol.__init__(self, self)


class _One(Factory):
    """
    Has a protocol for one connection.
    """

    noisy = False

    def __init__(self, protocol: Channel) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: object) -> Any:
        """
        The protocol.
        """
        return self._protocol


def join(reactor: Any, channel: socket.socket, protocol: Channel) -> None:
    """
    Have a protocol speak at one end of a pair of sockets, which is closed here.
    """
    with channel:
        channel.setblocking(False)
        reactor.adoptStreamConnection(channel.fileno(), socket.AF_UNIX, _One(protocol))
