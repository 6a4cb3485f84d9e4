# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What a policy answers.
"""

from __future__ import annotations

import attrs

from twisted_socks5.addresses import IPAddress
from twisted_socks5.errors import ConnectionNotAllowed
from twisted_socks5.interfaces import IRoute
from twisted_socks5.settings import Limits


@attrs.frozen
class Decision:
    """
    Whether a request is allowed, by which way it goes, and why.  Made by
    L{allow} or L{deny}.

    @ivar allowed: Whether it is.
    @ivar route: The way out; L{None} is the server's own.
    @ivar bindAddress: The address on this host to go out from; L{None} leaves
        that to the route.
    @ivar limits: What sessions are limited to besides the server's own limits:
        those together whose decisions have the same scope.
    @ivar scope: What to call those for whom the limits are.
    @ivar tags: Words for the log.
    @ivar reply: The REP octet for the client when it is denied.
    @ivar reason: Why, for the log; the client does not see it.
    @ivar rule: The number of the rule that has decided, if one has.
    """

    allowed: bool
    route: IRoute | None = None
    bindAddress: IPAddress | None = None
    limits: Limits | None = None
    tags: tuple[str, ...] = ()
    reply: int = 0x00
    reason: str = ""
    scope: str = "the policy"
    rule: int | None = None

    @classmethod
    def allow(
        cls,
        route: IRoute | None = None,
        bindAddress: IPAddress | None = None,
        limits: Limits | None = None,
        tags: tuple[str, ...] = (),
        reason: str = "",
        scope: str = "the policy",
    ) -> Decision:
        """
        Allow it.
        """
        return cls(True, route, bindAddress, limits, tuple(tags), 0x00, reason, scope)

    @classmethod
    def deny(
        cls, reply: int = 0x02, reason: str = "", tags: tuple[str, ...] = ()
    ) -> Decision:
        """
        Deny it.

        @param reply: The REP octet for the client, 01 to FF; 02 is "not
            allowed by ruleset".
        @raise ValueError: The octet is 00, which would tell of success.
        """
        if not 0x01 <= reply <= 0xFF:
            raise ValueError(f"a denial needs a REP octet from 01 to FF, not {reply!r}")
        return cls(False, tags=tuple(tags), reply=reply, reason=reason)

    def enforce(self) -> None:
        """
        @raise ConnectionNotAllowed: It is denied.
        """
        if not self.allowed:
            raise ConnectionNotAllowed(self.reason, self.reply, self)
