# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What a client asks for.
"""

from __future__ import annotations

import attrs
from zope.interface import implementer

from twisted_socks5.addresses import Address
from twisted_socks5.authenticators import Identity
from twisted_socks5.interfaces import IRequest
from twisted_socks5.server.session import Session


@implementer(IRequest)
@attrs.frozen
class Request:
    """
    A request as policies and commands see it (RFC 1928, section 4).
    """

    command: int
    destination: Address
    raw: bytes
    client: Address
    identity: Identity
    listener: Address
    session: Session = attrs.field(repr=False)

    @classmethod
    def of(cls, session: Session) -> Request:
        """
        The request that a session has taken down.
        """
        assert session.command is not None
        assert session.target is not None
        assert session.identity is not None
        return cls(
            session.command,
            session.target,
            session.rawTarget,
            session.client,
            session.identity,
            session.listener,
            session,
        )
