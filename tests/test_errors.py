# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The errors, and the REP octets that tell of them (RFC 1928, section 6).
"""

from __future__ import annotations

import errno
import itertools
import os

import pytest

from twisted_socks5 import errors
from twisted_socks5.errors import (
    AddressTypeNotSupported,
    CommandNotSupported,
    ConnectionNotAllowed,
    ConnectionRefused,
    GeneralFailure,
    HostUnreachable,
    InvalidName,
    MalformedMessage,
    NameNotFound,
    NetworkUnreachable,
    ReplyError,
    SOCKSError,
    TimedOut,
    TTLExpired,
    UnassignedReply,
    UnknownAddressType,
    errorForOSError,
    errorForReply,
    mostTelling,
)

ASSIGNED: list[tuple[int, type[ReplyError]]] = [
    (0x01, GeneralFailure),
    (0x02, ConnectionNotAllowed),
    (0x03, NetworkUnreachable),
    (0x04, HostUnreachable),
    (0x05, ConnectionRefused),
    (0x06, TTLExpired),
    (0x07, CommandNotSupported),
    (0x08, AddressTypeNotSupported),
]


@pytest.mark.parametrize(("octet", "kind"), ASSIGNED)
def test_assignedReply(octet: int, kind: type[ReplyError]) -> None:
    error = errorForReply(octet, "why")
    assert type(error) is kind
    assert error.reply == octet
    assert str(error) == "why"
    assert kind().reply == octet


def test_everyUnassignedReplyKeepsItsNumber() -> None:
    for octet in range(0x09, 0x100):
        error = errorForReply(octet, "why")
        assert type(error) is UnassignedReply
        assert error.reply == octet
        assert str(error) == "why"


def test_distinctErrorsForDistinctReplies() -> None:
    kinds = {type(errorForReply(octet)) for octet in range(0x01, 0x09)}
    assert len(kinds) == 8
    assert UnassignedReply not in kinds


@pytest.mark.parametrize(
    ("kind", "octet"),
    [
        (SOCKSError, 0x01),
        (MalformedMessage, 0x01),
        (UnknownAddressType, 0x08),
        (errors.NoAcceptableMethod, 0x01),
        (errors.AuthenticationFailed, 0x01),
        (errors.StreamEnded, 0x01),
        (NameNotFound, 0x04),
        (InvalidName, 0x04),
        (TimedOut, 0x06),
    ],
)
def test_replyOfOtherErrors(kind: type[SOCKSError], octet: int) -> None:
    assert kind("why").reply == octet


def test_policyMayChooseTheReply() -> None:
    error = ConnectionNotAllowed("why", 0x05)
    assert error.reply == 0x05
    assert str(error) == "why"
    assert ConnectionNotAllowed("why").reply == 0x02


def test_oneTree() -> None:
    found = [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, BaseException)
    ]
    assert len(found) > len(ASSIGNED)
    for each in found:
        assert issubclass(each, SOCKSError)
    assert issubclass(UnknownAddressType, MalformedMessage)
    assert not issubclass(MalformedMessage, ReplyError)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ECONNREFUSED, ConnectionRefused),
        (errno.ENETUNREACH, NetworkUnreachable),
        (errno.ENETDOWN, NetworkUnreachable),
        (errno.EADDRNOTAVAIL, NetworkUnreachable),
        (errno.EHOSTUNREACH, HostUnreachable),
        (errno.EHOSTDOWN, HostUnreachable),
        (errno.ETIMEDOUT, TimedOut),
        (errno.EAFNOSUPPORT, AddressTypeNotSupported),
        (errno.EACCES, GeneralFailure),
        (errno.EPERM, GeneralFailure),
        (errno.EMFILE, GeneralFailure),
        (errno.ECONNRESET, GeneralFailure),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else None,
)
def test_errorForOSError(number: int, kind: type[ReplyError]) -> None:
    error = errorForOSError(OSError(number, os.strerror(number)))
    assert type(error) is kind
    assert str(error) == os.strerror(number)


def test_textOfAnOSErrorDecidesNothing() -> None:
    error = errorForOSError(OSError(errno.EPERM, os.strerror(errno.ECONNREFUSED)))
    assert type(error) is GeneralFailure


def test_timeoutWithoutErrno() -> None:
    error = errorForOSError(TimeoutError("too slow"))
    assert type(error) is TimedOut
    assert str(error) == "too slow"


def test_otherErrorWithoutErrno() -> None:
    error = errorForOSError(OSError("odd"))
    assert type(error) is GeneralFailure
    assert str(error) == "odd"


MOST_TELLING_FIRST: list[type[ReplyError]] = [
    ConnectionRefused,
    TimedOut,
    NameNotFound,
    NetworkUnreachable,
    AddressTypeNotSupported,
    GeneralFailure,
]


@pytest.mark.parametrize(
    ("more", "less"), list(itertools.combinations(MOST_TELLING_FIRST, 2))
)
def test_mostTelling(more: type[ReplyError], less: type[ReplyError]) -> None:
    first, second = more("first"), less("second")
    assert mostTelling([first, second]) is first
    assert mostTelling([second, first]) is first


def test_mostTellingOfAll() -> None:
    failed = [kind() for kind in MOST_TELLING_FIRST]
    for shuffled in itertools.permutations(failed):
        assert mostTelling(list(shuffled)) is failed[0]


def test_mostTellingOfOneKindIsTheFirst() -> None:
    failed: list[ReplyError] = [ConnectionRefused("a"), ConnectionRefused("b")]
    assert mostTelling(failed) is failed[0]


def test_mostTellingOfUnrankedIsTheFirst() -> None:
    failed: list[ReplyError] = [GeneralFailure("a"), CommandNotSupported("b")]
    assert mostTelling(failed) is failed[0]


def test_successIsNoError() -> None:
    with pytest.raises(ValueError, match="no error"):
        errorForReply(0x00)


def test_unassignedReplyShowsItsNumber() -> None:
    assert "f0" in str(errorForReply(0xF0))
