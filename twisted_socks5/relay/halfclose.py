# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Closing one direction of a connection, on transports of all kinds.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, ISSLTransport
from twisted.protocols.policies import ProtocolWrapper
from zope.interface import alsoProvides


def canHalfClose(transport: Any) -> bool:
    """
    Whether one direction can be closed by itself.  TLS transports claim so,
    but end both.
    """
    return hasattr(transport, "loseWriteConnection") and not ISSLTransport.providedBy(
        transport
    )


def passHalfClose(wrapper: ProtocolWrapper, protocol: IHalfCloseableProtocol) -> None:
    """
    Have a wrapper around a protocol (Twisted's for the PROXY header, say) pass
    on that the peer has closed its direction.  By itself it does not, and the
    connection is lost, together with the answer that was still to be sent.
    """
    if canHalfClose(wrapper):
        for name in ("readConnectionLost", "writeConnectionLost"):
            setattr(wrapper, name, getattr(protocol, name))
        alsoProvides(wrapper, IHalfCloseableProtocol)
