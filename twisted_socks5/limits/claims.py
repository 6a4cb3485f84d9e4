# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What is counted, and for whom.
"""

from __future__ import annotations

from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from twisted_socks5.addresses import Address, unmapped
from twisted_socks5.authenticators import Identity
from twisted_socks5.settings import Limits

_LONGEST = 200
_SHOWN = 150
"""
How many characters a text has at most by which something is counted, and how many
are left of one that has more.
"""


class Claim(NamedTuple):
    """
    One more of something, for somebody, of which there is a limit.  It can be
    hashed, and sent to another process as it is.

    @ivar scope: Whose limit it is: empty for the process, else what to call the
        listener or the rule.
    @ivar key: Of what, as in C{limit.KEY}.
    @ivar who: For whom, in that scope; empty for all.
    @ivar limit: How much there may be.
    """

    scope: str
    key: str
    who: str
    limit: int

    @property
    def isRate(self) -> bool:
        """
        Whether the limit is one of new ones a second, which are not given back.
        """
        return self.key.startswith("new-")

    @property
    def isQuota(self) -> bool:
        """
        Whether the limit is one of bytes in a day or a month.
        """
        return self.key.startswith("bytes-")

    @property
    def reason(self) -> str:
        """
        Why somebody is refused, in words.
        """
        return f"over limit.{self.key}" + (f" of {self.scope}" if self.scope else "")


def shortened(text: str) -> str:
    """
    A text to count something by, which would make messages and logs as long as it is:
    of a long one, its beginning and a digest.
    """
    if len(text) <= _LONGEST:
        return text
    digest = sha256(text.encode(errors="surrogatepass")).hexdigest()
    return f"{text[:_SHOWN]}... {digest[:32]}"


def clientOf(client: Address, limits: Limits) -> str:
    """
    The network that a client is counted as.  All that come by UNIX sockets are one.
    """
    if client.ip is None:
        return "unix"
    ip = unmapped(client.ip)
    if ip.version == 4:
        network4 = IPv4Network((ip.packed, limits.clientPrefixIpv4), strict=False)
        return str(network4 if limits.clientPrefixIpv4 < 32 else ip)
    network6 = IPv6Network((ip.packed, limits.clientPrefixIpv6), strict=False)
    return str(network6)


def userOf(identity: Identity, client: Address, limits: Limits) -> str:
    """
    What a user is counted as; who has no name is counted by its network.
    """
    if identity.name:
        return shortened(f"user {identity.name}")
    return f"client {clientOf(client, limits)}"
