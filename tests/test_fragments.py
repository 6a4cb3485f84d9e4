# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Joining fragments (RFC 1928, section 7), in memory.
"""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from twisted_socks5.relay.fragments import (
    MAX_PAYLOAD,
    REASSEMBLY_TIME,
    Reassembly,
)

HERE = b"\x01\x7f\x00\x00\x01\x00\x35"
THERE = b"\x01\x7f\x00\x00\x02\x00\x35"


class Joining:
    def __init__(self) -> None:
        self.clock = Clock()
        self.drops: list[str] = []
        self.reassembly = Reassembly(self.clock, self.drops.append)

    def add(self, *fragments: int, destination: bytes = HERE) -> list[bytes | None]:
        """
        Add fragments, each with its own octet as its payload.
        """
        return [
            self.reassembly.add(fragment, destination, bytes((fragment,)))
            for fragment in fragments
        ]


@pytest.mark.parametrize(
    ("fragments", "whole"),
    [
        ([0x01, 0x02, 0x83], b"\x01\x02\x83"),
        ([0x81], b"\x81"),
        ([*range(1, 127), 0xFF], bytes([*range(1, 127), 0xFF])),
        # A lower number starts over.
        ([0x01, 0x02, 0x01, 0x82], b"\x01\x82"),
        ([0x01, 0x03, 0x01, 0x82], b"\x01\x82"),
        ([0x01, 0x02, 0x81], b"\x81"),
    ],
)
def test_joined(fragments: list[int], whole: bytes) -> None:
    joining = Joining()
    *others, last = joining.add(*fragments)
    assert set(others) <= {None}
    assert last == whole
    assert joining.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    "fragments",
    [
        [0x02, 0x83],
        [0x01, 0x03, 0x84],
        [0x01, 0x83],
        [0x01, 0x02, 0x02, 0x83],
        [0x01, 0x02, 0x03, 0x02, 0x83],
        [0x80],
        [0x01, 0x80],
    ],
)
def test_gaps(fragments: list[int]) -> None:
    """
    What is not in order is dropped, and all of it is counted.
    """
    joining = Joining()
    assert set(joining.add(*fragments)) == {None}
    joining.reassembly.abandon()
    assert joining.drops == ["fragment"] * len(fragments)
    assert joining.clock.getDelayedCalls() == []


def test_anotherDestination() -> None:
    joining = Joining()
    joining.add(0x01)
    assert joining.add(0x82, destination=THERE) == [None]
    assert joining.add(0x82) == [None]
    assert joining.drops == ["fragment"] * 3


def test_tooLate() -> None:
    """
    The time counts from the first fragment.
    """
    joining = Joining()
    joining.add(0x01)
    joining.clock.advance(REASSEMBLY_TIME / 2)
    joining.add(0x02)
    joining.clock.advance(REASSEMBLY_TIME / 2)
    assert joining.drops == ["fragment"] * 2
    assert joining.add(0x83) == [None]


def test_inTime() -> None:
    joining = Joining()
    joining.add(0x01)
    joining.clock.advance(REASSEMBLY_TIME - 0.1)
    assert joining.add(0x82) == [b"\x01\x82"]


def test_tooMuch() -> None:
    """
    No more is kept than can be sent.
    """
    joining = Joining()
    half = bytes(MAX_PAYLOAD // 2 + 1)
    assert joining.reassembly.add(0x01, HERE, half) is None
    assert joining.reassembly.add(0x02, HERE, half) is None
    assert joining.drops == ["fragment"] * 2
    assert joining.add(0x83) == [None]
    assert joining.clock.getDelayedCalls() == []


def test_asMuchAsCanBe() -> None:
    joining = Joining()
    joining.reassembly.add(0x01, HERE, bytes(MAX_PAYLOAD - 1))
    assert joining.reassembly.add(0x82, HERE, b"!") == bytes(MAX_PAYLOAD - 1) + b"!"
