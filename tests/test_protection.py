# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Protection (RFC 1961, section 5) between two contexts of one process.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from tests.conversation import pattern
from tests.kdc import Realm
from tests.rfc1961 import DATA, FLAGS, LEVEL, UNORDERED, frame, gssapi, initiator
from twisted_socks5.errors import MalformedMessage, StreamEnded
from twisted_socks5.interfaces import IStreamLayer
from twisted_socks5.protection import GSSAPIProtection
from twisted_socks5.wire_gssapi import ProtectionLevel

LEVELS = [ProtectionLevel.INTEGRITY, ProtectionLevel.CONFIDENTIALITY]


def contexts(realm: Realm, flags: Any = FLAGS) -> tuple[Any, Any]:
    """
    The two ends of a context.
    """
    keys: dict[bytes | str, bytes | str] = {"keytab": f"FILE:{realm.keytab}"}
    client: Any = initiator(realm.tickets, flags=flags)
    server: Any = gssapi.SecurityContext(
        creds=gssapi.Credentials(usage="accept", store=keys), usage="accept"
    )
    client.step(server.step(client.step()))
    assert client.complete
    return client, server


def layers(
    realm: Realm, level: ProtectionLevel, flags: Any = FLAGS
) -> tuple[GSSAPIProtection, GSSAPIProtection]:
    one, other = contexts(realm, flags)
    return GSSAPIProtection(one, level), GSSAPIProtection(other, level)


def tokensOf(wire: bytes) -> list[bytes]:
    tokens = []
    while wire:
        version, kind, size = struct.unpack_from("!BBH", wire)
        assert (version, kind) == (1, 3)
        assert len(wire) >= 4 + size
        tokens.append(wire[4 : 4 + size])
        wire = wire[4 + size :]
    return tokens


def cut(wire: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(wire) + 1) for place in places), len(wire)]
    return [wire[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize("level", LEVELS)
def test_interface(realm: Realm, level: ProtectionLevel) -> None:
    for layer in layers(realm, level):
        assert verifyObject(IStreamLayer, layer)


@pytest.mark.parametrize("level", LEVELS)
def test_cutAnywhere(realm: Realm, level: ProtectionLevel) -> None:
    """
    At every place of three tokens, and octet by octet.
    """
    one, other = layers(realm, level)
    size = len(one.wrap(b"first") + one.wrap(b"x") + one.wrap(b"third"))
    one, other = layers(realm, level)
    for places in [[place] for place in range(size + 1)] + [list(range(size))]:
        wire = one.wrap(b"first") + one.wrap(b"x") + one.wrap(b"third")
        assert len(wire) == size
        got = [piece for each in cut(wire, places) for piece in other.unwrap(each)]
        assert got == [b"first", b"x", b"third"]
        other.eof()


def test_whateverAndHoweverCut(realm: Realm) -> None:
    pairs = [layers(realm, level) for level in LEVELS]

    @given(
        st.sampled_from(pairs),
        st.lists(st.integers(0, 140_000) | st.integers(0, 9), max_size=4),
        st.lists(st.integers(0, 500_000), max_size=6),
        st.booleans(),
    )
    def isWhatItWas(
        pair: tuple[GSSAPIProtection, GSSAPIProtection],
        sizes: list[int],
        places: list[int],
        isBack: bool,
    ) -> None:
        one, other = reversed(pair) if isBack else pair
        payloads = [pattern(size, size) for size in sizes]
        wire = b"".join(map(one.wrap, payloads))
        got = [piece for each in cut(wire, places) for piece in other.unwrap(each)]
        assert b"".join(got) == b"".join(payloads)
        assert b"" not in got
        other.eof()

    isWhatItWas()


@pytest.mark.parametrize("level", LEVELS)
def test_noTokenIsTooLong(realm: Realm, level: ProtectionLevel) -> None:
    one, other = layers(realm, level)
    assert one.wrap(b"") == b""
    (longest,) = (
        size
        for size in range(65400, 65535)
        if len(tokensOf(one.wrap(bytes(size)))) == 1
        and len(tokensOf(one.wrap(bytes(size + 1)))) == 2
    )
    for count in (longest - 1, longest, longest + 1, 2 * longest, 2 * longest + 1):
        tokens = tokensOf(one.wrap(bytes(count)))
        assert len(tokens) == -(-count // longest)
        assert all(len(token) <= 65535 for token in tokens)


@pytest.mark.parametrize("level", LEVELS)
def test_whatTheWireShows(realm: Realm, level: ProtectionLevel) -> None:
    one, _ = layers(realm, level)
    isShown = level is ProtectionLevel.INTEGRITY
    assert (b"in plain sight" in one.wrap(b"in plain sight")) is isShown
    assert (b"in plain sight" in one.wrapDatagram(b"in plain sight")) is isShown


def test_moreThanWasAgreedOnIsGood(realm: Realm) -> None:
    client, server = contexts(realm)
    layer = GSSAPIProtection(server, ProtectionLevel.INTEGRITY)
    token = client.wrap(b"secret", True).message
    assert list(layer.unwrap(frame(DATA, token))) == [b"secret"]


def test_emptyToken(realm: Realm) -> None:
    """
    It is good, and has nothing to deliver.
    """
    client, server = contexts(realm)
    layer = GSSAPIProtection(server, ProtectionLevel.CONFIDENTIALITY)
    wire = b"".join(
        frame(DATA, client.wrap(each, True).message) for each in (b"", b"x")
    )
    assert list(layer.unwrap(wire)) == [b"x"]


def test_nothingAfterWhatIsNotGood(realm: Realm) -> None:
    one, other = layers(realm, LEVELS[1])
    first, second, third = (one.wrap(each) for each in (b"1", b"2", b"3"))
    bad = second[:-1] + bytes((second[-1] ^ 1,))
    pieces = other.unwrap(first + bad + third)
    assert next(pieces) == b"1"
    with pytest.raises(gssapi.raw.misc.GSSError):
        next(pieces)
    assert list(pieces) == []
    for data in (b"", third, second):
        with pytest.raises(MalformedMessage):
            list(other.unwrap(data))


def test_end(realm: Realm) -> None:
    one, other = layers(realm, LEVELS[1])
    other.eof()
    wire = one.wrap(b"cut")
    assert list(other.unwrap(wire[:1])) == []
    with pytest.raises(StreamEnded):
        other.eof()
    assert list(other.unwrap(wire[1:])) == [b"cut"]
    other.eof()


# -- datagrams ------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_datagrams(realm: Realm, level: ProtectionLevel) -> None:
    """
    In any order, and with some lost, as section 3.2 has it for UDP.
    """
    one, other = layers(realm, level, UNORDERED)
    sent = [pattern(size, size) for size in (0, 1, 10, 1500, 65000)]
    wire = [one.wrapDatagram(each) for each in sent]
    for index in (3, 0, 4, 1):
        assert other.unwrapDatagram(wire[index]) == sent[index]
    with pytest.raises(MalformedMessage, match="DuplicateTokenError"):
        other.unwrapDatagram(wire[3])
    assert other.unwrapDatagram(wire[2]) == sent[2]
    assert one.unwrapDatagram(other.wrapDatagram(b"back")) == b"back"


def test_longestDatagram(realm: Realm) -> None:
    one, other = layers(realm, LEVELS[1], UNORDERED)
    with pytest.raises(OSError, match="more than ([0-9]+) bytes") as told:
        one.wrapDatagram(bytes(65535))
    assert told.value.errno == errno.EMSGSIZE
    longest = int(str(told.value).split()[-4])
    wire = one.wrapDatagram(bytes(longest))
    assert len(wire) <= 4 + 65535
    assert other.unwrapDatagram(wire) == bytes(longest)


def test_datagramsThatAreNotGood(realm: Realm) -> None:
    """
    Each is dropped by itself.
    """
    client, server = contexts(realm, UNORDERED)
    one = GSSAPIProtection(client, LEVELS[1])
    other = GSSAPIProtection(server, LEVELS[1])
    good = one.wrapDatagram(b"good")
    for bad in (
        b"",
        good[:-1],
        good + b"\x00",
        good + one.wrapDatagram(b"second"),
        good[:-1] + bytes((good[-1] ^ 0x80,)),
        frame(LEVEL, client.wrap(b"type", True).message),
        frame(DATA, client.wrap(b"not confidential", False).message),
        frame(DATA, b""),
        b"\x00\x00\x00\x01\x7f\x00\x00\x01\x00\x50bare",
    ):
        with pytest.raises(MalformedMessage):
            other.unwrapDatagram(bad)
    assert other.unwrapDatagram(good) == b"good"
