# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Deadlines and limits: one definition, with their defaults, for the code, the
command line and the reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from ipaddress import IPv4Address, ip_address
from os.path import join
from secrets import randbelow
from sys import float_info
from typing import Any

import attrs

from twisted_socks5.addresses import IPAddress

_BROADCAST = IPv4Address("255.255.255.255")


def _nonNegative(instance: object, field: attrs.Attribute[Any], value: float) -> None:
    if not 0 <= value <= float_info.max:
        raise ValueError(f"must be 0 or more, not {value}")


def _positive(instance: object, field: attrs.Attribute[Any], value: float) -> None:
    if not 0 < value <= float_info.max:
        raise ValueError(f"must be more than 0, not {value}")


_MOST = 10**18


def _upToMost(instance: object, field: attrs.Attribute[Any], value: int) -> None:
    if value > _MOST:
        raise ValueError(f"expected {_MOST} at most; 0 is without limit")
    _nonNegative(instance, field, value)


def _oneOf(*choices: str) -> Callable[[object, attrs.Attribute[Any], str], None]:
    def validate(instance: object, field: attrs.Attribute[Any], value: str) -> None:
        if value not in choices:
            raise ValueError(f"expected {' or '.join(choices)}")

    return validate


@attrs.frozen
class Timeouts:
    """
    Deadlines, in seconds.

    @ivar handshake: From accepting a client to its complete request, however
        the bytes come.
    @ivar policy: For each question to the policy.
    @ivar resolve: For looking a name up.
    @ivar connect: For connecting, all addresses of a name together.
    @ivar bind: For a peer to connect to a port that BIND has opened.
    @ivar idle: For a tunnel in which nothing moves; 0 is never.
    @ivar halfClosed: For a tunnel in which one side has closed its direction,
        and the other is silent.
    @ivar writeStall: For a side that takes nothing of what waits for it.
    @ivar udpIdle: For a UDP association in which nothing moves.
    @ivar grace: For sessions to finish by themselves when the server stops.
    @ivar worker: For a process that serves with others to say something; 0 is never.
    """

    handshake: float = attrs.field(default=30.0, validator=_positive)
    policy: float = attrs.field(default=10.0, validator=_positive)
    resolve: float = attrs.field(default=10.0, validator=_positive)
    connect: float = attrs.field(default=30.0, validator=_positive)
    bind: float = attrs.field(default=60.0, validator=_positive)
    idle: float = attrs.field(default=0.0, validator=_nonNegative)
    halfClosed: float = attrs.field(default=300.0, validator=_positive)
    writeStall: float = attrs.field(default=300.0, validator=_positive)
    udpIdle: float = attrs.field(default=300.0, validator=_positive)
    grace: float = attrs.field(default=30.0, validator=_nonNegative)
    worker: float = attrs.field(default=30.0, validator=_nonNegative)


_MULTIPLES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class Amount(int):
    """
    A number of bytes, or of bytes a second.
    """

    @classmethod
    def fromText(cls, text: str) -> Amount:
        """
        An amount as operators write it: C{500000}, C{500K}, C{1.5M}, C{2G}, C{1T};
        K, M, G and T are powers of 1000.

        @raise ValueError: It is none.
        """
        found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,12})?)([KMGT]?)", text)
        amount = Decimal(found[1]) * _MULTIPLES[found[2]] if found else Decimal("0.5")
        if amount != int(amount):
            raise ValueError("expected a whole number, such as 500000, 500K or 1.5M")
        return cls(amount)


def _from1To(most: int) -> Callable[[object, attrs.Attribute[Any], int], None]:
    def validate(instance: object, field: attrs.Attribute[Any], value: int) -> None:
        if not 1 <= value <= most:
            raise ValueError(f"expected a number from 1 to {most}")

    return validate


@attrs.frozen
class Limits:
    """
    How much there may be for those who are counted together: all clients of the
    process or of a listener, or those whom a rule lets pass; 0 is without limit.

    A client is its network, as C{clientPrefixIpv4} and C{clientPrefixIpv6} say.  A
    user is a name that was authenticated; who has none is a user by its client
    network.

    @ivar sessions: Sessions at once.
    @ivar sessionsPerClient: Those of one client.
    @ivar sessionsPerUser: Those of one user.
    @ivar bindsPerClient: Ports that BIND holds open for one client.
    @ivar associationsPerClient: UDP associations of one client.
    @ivar newSessions: Sessions that begin, a second; after a quiet second as many
        may begin at once.
    @ivar newSessionsPerClient: Those of one client.
    @ivar newSessionsPerUser: Those of one user.
    @ivar bandwidth: Bytes a second, each way.
    @ivar bandwidthPerClient: Those of one client.
    @ivar bandwidthPerUser: Those of one user.
    @ivar bandwidthPerSession: Those of one session.
    @ivar bytesPerDay: Bytes of one user in a day, both ways together; a day is one
        of UTC.
    @ivar bytesPerMonth: The same in a month.
    @ivar clientPrefixIpv4: How many leading bits of their addresses clients have in
        common who are one.
    @ivar clientPrefixIpv6: The same for IPv6.
    """

    sessions: int = attrs.field(default=0, validator=_upToMost)
    sessionsPerClient: int = attrs.field(default=0, validator=_upToMost)
    sessionsPerUser: int = attrs.field(default=0, validator=_upToMost)
    bindsPerClient: int = attrs.field(default=16, validator=_upToMost)
    associationsPerClient: int = attrs.field(default=0, validator=_upToMost)
    newSessions: int = attrs.field(default=0, validator=_upToMost)
    newSessionsPerClient: int = attrs.field(default=0, validator=_upToMost)
    newSessionsPerUser: int = attrs.field(default=0, validator=_upToMost)
    bandwidth: int = attrs.field(default=Amount(0), validator=_upToMost)
    bandwidthPerClient: int = attrs.field(default=Amount(0), validator=_upToMost)
    bandwidthPerUser: int = attrs.field(default=Amount(0), validator=_upToMost)
    bandwidthPerSession: int = attrs.field(default=Amount(0), validator=_upToMost)
    bytesPerDay: int = attrs.field(default=Amount(0), validator=_upToMost)
    bytesPerMonth: int = attrs.field(default=Amount(0), validator=_upToMost)
    clientPrefixIpv4: int = attrs.field(default=32, validator=_from1To(32))
    clientPrefixIpv6: int = attrs.field(default=64, validator=_from1To(128))


@attrs.frozen
class Ports:
    """
    The ports that there are to choose from, as a firewall has them open.

    @ivar first: 0, together with C{last}, leaves the choice to the kernel.
    @ivar last: The last one; it is one of them.
    """

    first: int = 0
    last: int = 0

    @classmethod
    def fromText(cls, text: str) -> Ports:
        """
        Ports as operators write them: C{FIRST-LAST}, or one alone, or C{any}.

        @raise ValueError: They are none.
        """
        if text == "any":
            return cls()
        first, dash, last = text.partition("-")
        numbers = [first, last if dash else first]
        if not all(number.isascii() and number.isdecimal() for number in numbers):
            raise ValueError("expected FIRST-LAST")
        ports = cls(int(first), int(numbers[1]))
        if not 1 <= ports.first <= ports.last <= 65535:
            raise ValueError("expected ports from 1 to 65535, the lower one first")
        return ports

    @property
    def areGiven(self) -> bool:
        """
        Whether there are any, or the kernel is to choose.
        """
        return self.last != 0

    def inTurn(self) -> Iterator[int]:
        """
        All of them, from a random one on; 0 if the kernel is to choose.
        """
        count = self.last - self.first + 1
        start = randbelow(count)
        return (self.first + (start + step) % count for step in range(count))

    def __str__(self) -> str:
        return f"{self.first}-{self.last}" if self.areGiven else "any"


@attrs.frozen
class PublicAddress:
    """
    What to tell clients instead of an address of this host, where others see it
    by another one (NAT, containers): one address of each family at most.
    """

    ipv4: IPAddress | None = None
    ipv6: IPAddress | None = None

    @classmethod
    def fromText(cls, text: str) -> PublicAddress:
        """
        An address, or one of each family with a comma between them, or C{local}.

        @raise ValueError: They are none.
        """
        if text == "local":
            return cls()
        found: dict[str, IPAddress] = {}
        for part in text.split(","):
            try:
                ip = ip_address(part.strip())
            except ValueError:
                raise ValueError(
                    "expected an IP address, or one of each kind"
                ) from None
            if f"ipv{ip.version}" in found:
                raise ValueError(f"expected one IPv{ip.version} address at most")
            if (
                ip.is_unspecified
                or ip.is_multicast
                or ip == _BROADCAST
                or "%" in str(ip)
            ):
                raise ValueError("expected an address that others could send to")
            found[f"ipv{ip.version}"] = ip
        return cls(**found)

    def like(self, ip: IPAddress) -> IPAddress | None:
        """
        The one of the same family as an address.
        """
        return self.ipv4 if ip.version == 4 else self.ipv6

    @property
    def any(self) -> IPAddress | None:
        """
        One of them, if there is any.
        """
        return self.ipv4 or self.ipv6

    def __str__(self) -> str:
        given = [str(ip) for ip in (self.ipv4, self.ipv6) if ip is not None]
        return ",".join(given) or "local"


@attrs.frozen
class BindSettings:
    """
    How BIND listens.

    @ivar publicAddress: What to tell clients instead of the local address.
    @ivar ports: Where to listen.
    """

    publicAddress: PublicAddress = PublicAddress()
    ports: Ports = Ports()


@attrs.frozen
class UDPSettings:
    """
    How UDP associations work.

    @ivar publicAddress: What to tell clients instead of the relay's address.
    @ivar ports: Where to receive clients' datagrams.
    @ivar replies: Who may answer a client: C{"address"}, hosts that it has sent
        to, from any port of theirs; C{"any"}, anybody.
    @ivar fragments: What to do with fragments (RFC 1928, section 7): C{"drop"},
        or C{"reassemble"}.
    """

    publicAddress: PublicAddress = PublicAddress()
    ports: Ports = Ports()
    replies: str = attrs.field(default="address", validator=_oneOf("address", "any"))
    fragments: str = attrs.field(default="drop", validator=_oneOf("drop", "reassemble"))


@attrs.frozen
class Throttling:
    """
    What failed logins lead to, for each client address and each user name.

    @ivar slowAfter: From so many failures on, each attempt waits; 0 is never.
    @ivar delay: How long it waits, in seconds.
    @ivar refuseAfter: From so many failures on, all attempts fail; 0 is never.
    @ivar memory: How long after the last failure they are forgotten, in
        seconds.
    @ivar entries: How many addresses and names are remembered; the longest
        quiet one is forgotten first.
    """

    slowAfter: int = attrs.field(default=20, validator=_nonNegative)
    delay: float = attrs.field(default=1.0, validator=_nonNegative)
    refuseAfter: int = attrs.field(default=100, validator=_nonNegative)
    memory: float = attrs.field(default=300.0, validator=_positive)
    entries: int = attrs.field(default=10000, validator=_positive)


@attrs.frozen
class LogTarget:
    """
    Where a log goes.

    @ivar kind: C{"stdout"}, C{"file"}, C{"syslog"}, C{"journald"}, or what leaves it
        where it is: C{"runner"}, C{"log"}.
    @ivar path: The file; or the socket, if it is not where it usually is.
    """

    kind: str
    path: str = ""

    @classmethod
    def fromText(cls, text: str) -> LogTarget:
        """
        A target as operators write it: its kind, and a path after a colon.

        @raise ValueError: It is none.
        """
        kind, colon, path = text.partition(":")
        if (kind == "file" and not path) or "\0" in path:
            raise ValueError("expected file:PATH")
        if colon and (kind not in ("file", "syslog", "journald") or not path):
            raise ValueError(f"expected {kind} without a colon")
        return cls(kind, path)

    def within(self, folder: str) -> LogTarget:
        """
        The same, if a relative path begins in a folder.
        """
        return LogTarget(self.kind, join(folder, self.path) if self.path else "")

    def __str__(self) -> str:
        return f"{self.kind}:{self.path}" if self.path else self.kind


def _targetOr(word: str) -> Callable[[object, attrs.Attribute[Any], LogTarget], None]:
    def validate(instance: object, field: object, value: LogTarget) -> None:
        if value.kind not in (word, "stdout", "file", "syslog", "journald"):
            raise ValueError(f"expected {word}, stdout, file:PATH, syslog or journald")

    return validate


@attrs.frozen
class LogSettings:
    """
    Where logs go.

    @ivar to: The server's own: by default where the runner says.
    @ivar accessTo: That of sessions: by default with the server's own.
    @ivar format: C{"text"}, C{"json"}, or as the runner says.
    @ivar sample: How many equal refusals are written in a second; 0 is all.
    @ivar rotateBytes: How long a file may become before it is moved away; 0 is without
        limit.
    @ivar rotateFiles: How many of those that were moved away are kept.
    """

    to: LogTarget = attrs.field(
        default=LogTarget("runner"), validator=_targetOr("runner")
    )
    accessTo: LogTarget = attrs.field(
        default=LogTarget("log"), validator=_targetOr("log")
    )
    format: str = attrs.field(
        default="runner", validator=_oneOf("runner", "text", "json")
    )
    sample: int = attrs.field(default=100, validator=_nonNegative)
    rotateBytes: int = attrs.field(default=0, validator=_nonNegative)
    rotateFiles: int = attrs.field(default=5, validator=_from1To(10000))


@attrs.frozen
class FileName:
    """
    A file that an operator names, or none.
    """

    path: str = ""

    @classmethod
    def fromText(cls, text: str) -> FileName:
        """
        The file of that name; C{none} is none.

        @raise ValueError: It is none.
        """
        if not text or "\0" in text:
            raise ValueError("expected the name of a file")
        return cls("" if text == "none" else text)

    def within(self, folder: str) -> FileName:
        """
        The same, if a relative path begins in a folder.
        """
        return FileName(join(folder, self.path) if self.path else "")

    def __str__(self) -> str:
        return self.path or "none"


@attrs.frozen
class QuotaSettings:
    """
    How it is kept what was used of quotas.

    @ivar file: In which file; without one it is forgotten when the server ends.
    @ivar flush: How often it is saved, in seconds.
    """

    file: FileName = FileName()
    flush: float = attrs.field(default=5.0, validator=_positive)


@attrs.frozen
class CountSettings:
    """
    What is counted.

    @ivar perUser: Whether the bytes of each user are: C{"no"} or C{"yes"}.
    """

    perUser: str = attrs.field(default="no", validator=_oneOf("no", "yes"))


@attrs.frozen
class Settings:
    """
    All of them.
    """

    timeout: Timeouts = Timeouts()
    limit: Limits = Limits()
    quota: QuotaSettings = QuotaSettings()
    bind: BindSettings = BindSettings()
    udp: UDPSettings = UDPSettings()
    throttle: Throttling = Throttling()
    log: LogSettings = LogSettings()
    count: CountSettings = CountSettings()
