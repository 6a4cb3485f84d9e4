# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The policy for who has none of their own: what is inside stays out of reach
from outside.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from zope.interface import implementer

from twisted_socks5.addresses import (
    UNIX_CLIENT,
    Address,
    IPAddress,
    Kind,
    kindOf,
    unmapped,
)
from twisted_socks5.interfaces import IConnectPolicy, IRequest
from twisted_socks5.policy.decision import Decision
from twisted_socks5.wire import Command

_ALLOW = Decision.allow()
_DENIED: dict[Kind, Decision] = {
    kind: Decision.deny(
        reason=f"guard: {kind.value} destination for a client elsewhere"
    )
    for kind in Kind
    if kind not in (Kind.PRIVATE, Kind.GLOBAL)
}
_DENIED_TO_ANONYMOUS: dict[Kind, Decision] = {
    **_DENIED,
    Kind.PRIVATE: Decision.deny(
        reason="guard: private destination for an anonymous client elsewhere"
    ),
}


@implementer(IConnectPolicy)
class Guard:
    """
    Judges a destination by what it is and a client by where it is::

        client                       loopback, link-local,    private   global
                                     metadata, unspecified,
                                     multicast, reserved
        on this host                 allowed                  allowed   allowed
        authenticated, elsewhere     denied                   allowed   allowed
        anonymous, elsewhere         denied                   denied    allowed

    A client is on this host if its address is a loopback one, or if it comes
    by a UNIX socket.
    """

    name = "guard"

    def __init__(self, local: str = "here") -> None:
        """
        @param local: What clients on this host are taken for: C{"here"}, or
            C{"elsewhere"}.  The latter is needed where something on this host
            stands between clients and proxy (a TLS wrapper or a balancer)
            and does not tell where they are.
        @raise ValueError: It is something else.
        """
        if local not in ("here", "elsewhere"):
            raise ValueError(f"local={local!r}: expected 'here' or 'elsewhere'")
        self._trustsLocal = local == "here"

    def decide(self, request: IRequest) -> Decision:
        """
        Deny what can be told by the request alone.  What UDP ASSOCIATE names
        is no destination, nor is BIND's 0.0.0.0 or "::": datagrams and peers are
        judged instead, as is every address of a name.
        """
        ip = request.destination.ip
        if (
            ip is None
            or request.command == Command.ASSOCIATE
            or (request.command == Command.BIND and ip.is_unspecified)
        ):
            return _ALLOW
        return self.checkAddress(request, request.destination)

    def checkAddress(self, request: IRequest, address: Address) -> Decision:
        """
        Judge one address.
        """
        if self._trustsLocal and _isOnThisHost(request.client):
            return _ALLOW
        assert address.ip is not None
        denied = _DENIED_TO_ANONYMOUS if request.identity.isAnonymous else _DENIED
        return denied.get(kindOf(address.ip), _ALLOW)


def _isOnThisHost(client: Address) -> bool:
    """
    Whether a client is on this host for sure.  Unlike a destination, it is not
    taken for an IPv4 address inside its own: anybody may choose that.
    """
    return client == UNIX_CLIENT if client.ip is None else _isLoopback(client.ip)


def _isLoopback(ip: IPAddress) -> bool:
    if isinstance(ip, IPv4Address):  # nearly always, and faster so
        return int(ip) >> 24 == 127
    return unmapped(ip).is_loopback
