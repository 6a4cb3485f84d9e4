# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Refusals that come in floods: so many are written, the others are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_network

from twisted.internet.interfaces import IReactorTime

from twisted_socks5.addresses import Address
from twisted_socks5.interfaces import ISession
from twisted_socks5.observe.escape import escape

_SECOND = 1.0
_KINDS = 1000


class Flood:
    """
    Counts equal refusals, those of one client network with one reason, second by
    second.  How many were not written is told when the second is over.

    @ivar suppressed: How many were not written so far.
    """

    def __init__(self, reactor: IReactorTime, most: int, kinds: int = _KINDS) -> None:
        """
        @param most: So many equal ones are written in a second.
        @param kinds: So many that are not equal are told apart in a second; what
            comes after them counts as one more.
        """
        self.suppressed = 0
        self._reactor = reactor
        self._most = most
        self._kinds = kinds
        self._write: Callable[[Mapping[str, object]], None] = lambda fields: None
        self._counts: dict[tuple[str, str], int] = {}

    def tellTo(self, write: Callable[[Mapping[str, object]], None]) -> None:
        """
        @param write: Takes the fields of what is told of those not written.
        """
        self._write = write

    def admits(self, session: ISession) -> bool:
        """
        Whether a refusal is to be written.
        """
        if not self._counts:
            self._reactor.callLater(_SECOND, self.tell)
        kind = (_network(session.client), session.reason)
        if kind not in self._counts and len(self._counts) >= self._kinds:
            kind = ("any", "any other")
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        if count <= self._most:
            return True
        self.suppressed += 1
        return False

    def tell(self) -> None:
        """
        Tell how many were not written, because the second is over, or all is.
        """
        counts, self._counts = self._counts, {}
        for (network, reason), count in counts.items():
            if count > self._most:
                self._write(
                    {
                        "suppressed": count - self._most,
                        "client": network,
                        "reason": escape(reason),
                    }
                )


def _network(client: Address) -> str:
    """
    Whom an address stands for: of IPv6, a network's hosts have many each.
    """
    if client.ip is None:
        return str(client.host)
    if client.ip.version == 4:
        return str(client.ip)
    return str(ip_network((client.ip, 64), strict=False))
