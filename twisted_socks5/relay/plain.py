# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Telling apart what is a kernel's TCP connection and nothing more.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.tcp import Connection
from twisted.protocols.policies import ProtocolWrapper

_PROXY_HEADER = "twisted.protocols.haproxy."


def plainTransport(transport: Any) -> Connection | None:
    """
    The transport whose socket carries exactly the bytes that are written to
    C{transport}: no TLS, no layer and no wrapper that has a say in them.
    (Interfaces do not tell, since wrappers claim those of what they wrap.)

    Twisted's wrapper for the PROXY header counts for nothing: once the header
    has been read, it passes everything on as it is.

    @return: The transport, or L{None} where it is not so.
    """
    if isinstance(transport, ProtocolWrapper) and type(transport).__module__.startswith(
        _PROXY_HEADER
    ):
        transport = transport.transport
    if not isinstance(transport, Connection):
        return None
    handle = transport.getHandle()  # under TLS, an object of OpenSSL's
    if not isinstance(handle, socket.socket):
        return None
    if handle.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    return transport
