# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Opening ports for datagrams.
"""

from __future__ import annotations

import socket
from errno import EADDRINUSE
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol

from twisted_socks5.addresses import IPAddress
from twisted_socks5.errors import GeneralFailure, errorForOSError
from twisted_socks5.settings import Ports

_MAX_DATAGRAM = 65536
"""
More than the payload of any UDP datagram, so that none is cut.
"""

_RECEIVE_BUFFER = 1024 * 1024
_SO_RCVBUFFORCE = 33  # Linux; not in Python's socket module


def openDatagramPort(
    reactor: Any, protocol: DatagramProtocol, host: IPAddress, ports: Ports
) -> None:
    """
    Open a UDP port that takes whole datagrams, and bursts of them.

    The protocol may send straight by the socket, its transport's
    C{getHandle()}: that costs half of C{transport.write}, which takes each
    address apart again.

    @param host: The address of this host to receive at.
    @param ports: Which ports there are.
    @raise ReplyError: It cannot be opened.
    """
    for number in ports.inTurn():
        try:
            port = reactor.listenUDP(
                number, protocol, interface=str(host), maxPacketSize=_MAX_DATAGRAM
            )
        except CannotListenError as error:
            if ports.areGiven and error.socketError.errno == EADDRINUSE:
                continue
            raise errorForOSError(error.socketError) from None
        _enlarge(port.getHandle())
        return
    raise GeneralFailure(f"no port of {ports} is free")


def _enlarge(opened: socket.socket) -> None:
    """
    Have the kernel keep bursts.
    """
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    try:
        # With the privilege for it, beyond what net.core.rmem_max allows.
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
    except OSError:
        pass
