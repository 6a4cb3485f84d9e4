# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Everything that can go wrong with SOCKS5, as one tree under L{SOCKSError}.

Each error knows the REP octet (RFC 1928, section 6) that tells a client of it.
The server raises these to have a reply sent; the client raises the same ones
for the reply that it got.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted_socks5.policy.decision import Decision

SUCCEEDED = 0x00


class SOCKSError(Exception):
    """
    Anything that SOCKS5 can fail with.

    @cvar reply: The REP octet that tells a client of this error.
    @ivar proxy: On the client's side, where the proxy is, in words; empty if
        it was not reached.
    @ivar target: On the client's side, what it was asked for, in words.
    """

    reply: int = 0x01
    proxy: str = ""
    target: str = ""

    def __str__(self) -> str:
        text = super().__str__()
        if not self.target:
            return text
        proxy = self.proxy or "a proxy that was not reached"
        return f"{text or type(self).__name__}: {self.target} through {proxy}"


class MalformedMessage(SOCKSError):
    """
    Bytes that are no SOCKS5 message of the kind that was due, whatever follows
    them.
    """


class UnknownAddressType(MalformedMessage):
    """
    An ATYP octet other than 01, 03 and 04: the length of the address, and so
    the end of the message, is unknown (RFC 1928, section 5).
    """

    reply = 0x08


class NoAcceptableMethod(SOCKSError):
    """
    The two sides have no authentication method in common (RFC 1928, section
    3, method FF).
    """


class UnofferedMethod(SOCKSError):
    """
    The server chose an authentication method that the client has not offered
    (RFC 1928, section 3), and got nothing for it.
    """


class AuthenticationFailed(SOCKSError):
    """
    The client did not prove to be who it says it is.  It is not told why.
    """


class StreamEnded(SOCKSError):
    """
    The peer closed the connection where a message of it was due.
    """


class ReplyError(SOCKSError):
    """
    A request that was answered, or is to be answered, with a REP octet other
    than 00.  There is a subclass for each octet that RFC 1928 assigns.
    """


class GeneralFailure(ReplyError):
    """
    01: general SOCKS server failure.
    """

    reply = 0x01


class ConnectionNotAllowed(ReplyError):
    """
    02: connection not allowed by ruleset.

    A policy may choose another octet for the client to see, so as not to
    tell that there is a rule.

    @ivar reply: The REP octet.
    @ivar decision: What was decided, if it was decided by a policy.
    """

    def __init__(
        self, reason: str = "", reply: int = 0x02, decision: Decision | None = None
    ) -> None:
        super().__init__(reason)
        self.reply = reply
        self.decision = decision


class NetworkUnreachable(ReplyError):
    """
    03: network unreachable.
    """

    reply = 0x03


class HostUnreachable(ReplyError):
    """
    04: host unreachable.
    """

    reply = 0x04


class NameNotFound(HostUnreachable):
    """
    04: a name that has no address.
    """


class InvalidName(NameNotFound):
    """
    04: a name that cannot exist, and that no resolver is asked for: empty,
    longer than 253 octets, with a label that is empty or longer than 63, or
    with octets that are not printable ASCII (RFC 1035, section 2.3.4).
    """


class ConnectionRefused(ReplyError):
    """
    05: connection refused.
    """

    reply = 0x05


class TTLExpired(ReplyError):
    """
    06: TTL expired.
    """

    reply = 0x06


class TimedOut(TTLExpired):
    """
    06: nothing came in time.  RFC 1928 has no octet for a time-out; "TTL
    expired" is the nearest.
    """


class CommandNotSupported(ReplyError):
    """
    07: command not supported.
    """

    reply = 0x07


class AddressTypeNotSupported(ReplyError):
    """
    08: address type not supported.
    """

    reply = 0x08


class UnassignedReply(ReplyError):
    """
    A REP octet that RFC 1928 leaves unassigned (09 to FF).

    @ivar reply: The octet, as it came.
    """

    def __init__(self, reply: int, reason: str = "") -> None:
        super().__init__(reason or f"reply {reply:02x}")
        self.reply = reply


_BY_REPLY: dict[int, type[ReplyError]] = {
    0x01: GeneralFailure,
    0x02: ConnectionNotAllowed,
    0x03: NetworkUnreachable,
    0x04: HostUnreachable,
    0x05: ConnectionRefused,
    0x06: TTLExpired,
    0x07: CommandNotSupported,
    0x08: AddressTypeNotSupported,
}


# The words of RFC 1928, section 6.
_WORDS: dict[int, str] = {
    0x01: "general SOCKS server failure",
    0x02: "connection not allowed by ruleset",
    0x03: "network unreachable",
    0x04: "host unreachable",
    0x05: "connection refused",
    0x06: "TTL expired",
    0x07: "command not supported",
    0x08: "address type not supported",
}


def errorForReply(reply: int, reason: str = "") -> ReplyError:
    """
    The error that a REP octet stands for.

    @param reply: A REP octet other than 00.
    @param reason: What to say in the error's text; without it, what the RFC
        says.
    @raise ValueError: The octet is 00, which tells of success.
    """
    if reply == SUCCEEDED:
        raise ValueError("00 is no error")
    errorType = _BY_REPLY.get(reply)
    if errorType is None:
        return UnassignedReply(reply, reason)
    return errorType(reason or _WORDS[reply])


_BY_ERRNO: dict[int, type[ReplyError]] = {
    errno.ECONNREFUSED: ConnectionRefused,
    errno.ENETUNREACH: NetworkUnreachable,
    errno.ENETDOWN: NetworkUnreachable,
    errno.EADDRNOTAVAIL: NetworkUnreachable,
    errno.EHOSTUNREACH: HostUnreachable,
    errno.EHOSTDOWN: HostUnreachable,
    errno.ETIMEDOUT: TimedOut,
    errno.EAFNOSUPPORT: AddressTypeNotSupported,
}


def errorForOSError(error: OSError) -> ReplyError:
    """
    The error that tells a client of a failed system call, by C{errno} and
    never by text.  What has no octet of its own is a L{GeneralFailure}.
    """
    if isinstance(error, TimeoutError) and error.errno is None:
        return TimedOut(str(error))
    return _BY_ERRNO.get(error.errno or 0, GeneralFailure)(error.strerror or str(error))


_MOST_TELLING_FIRST: tuple[type[ReplyError], ...] = (
    ConnectionRefused,
    TTLExpired,
    HostUnreachable,
    NetworkUnreachable,
    AddressTypeNotSupported,
)


def mostTelling(errors: list[ReplyError]) -> ReplyError:
    """
    Of the errors that the addresses of one name failed with, the one to
    answer with: a host that refused says more of the destination than a
    network that has no way there.
    """
    for kind in _MOST_TELLING_FIRST:
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[0]
