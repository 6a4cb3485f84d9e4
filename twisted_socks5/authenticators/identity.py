# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What an authenticator answers.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from twisted_socks5.interfaces import IStreamLayer


@attrs.frozen
class Identity:
    """
    Who a client is.

    @ivar name: For rules and logs; empty for anonymous clients.
    @ivar raw: As it came on the wire.
    @ivar groups: The groups that rules may name.
    @ivar method: The METHOD octet that proved it.
    @ivar marks: What its accounts were known by when it was let in, where that changes
        with the password (L{IChangingAccounts
        <twisted_socks5.interfaces.IChangingAccounts>}).
    """

    name: str = ""
    raw: bytes = b""
    groups: frozenset[str] = attrs.field(default=frozenset(), converter=frozenset)
    method: int = 0x00
    marks: frozenset[bytes] = attrs.field(default=frozenset(), repr=False, eq=False)

    @property
    def isAnonymous(self) -> bool:
        """
        Whether nobody was asked who it is.
        """
        return not self.name


@attrs.frozen
class Authenticated:
    """
    A client that was let in.

    @ivar identity: Who it is.
    @ivar layer: What protects everything after the authentication, if the
        method does.
    @ivar logout: Called once when the session has ended.
    """

    identity: Identity
    layer: IStreamLayer | None = None
    logout: Callable[[], object] | None = None
