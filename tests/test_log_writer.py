# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What logs are made of: the queue, lines, floods.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from threading import Event, Thread

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, LogLevel, capturedLogs
from twisted.python.failure import Failure

from twisted_socks5.addresses import Address
from twisted_socks5.interfaces import ISession
from twisted_socks5.observe.destinations import FileDestination
from twisted_socks5.observe.events import describeAsJSON, describeAsText
from twisted_socks5.observe.flood import Flood
from twisted_socks5.observe.writer import Line, LogWriter

# -- the queue -----------------------------------------------------------------------


class Blocked:
    """
    A destination that takes nothing until it is told to.

    @ivar asked: Whether it has been given something to write.
    """

    isTimed = False
    name = "blocked"

    def __init__(self) -> None:
        self.asked = Event()
        self.open = Event()
        self.lines: list[str] = []

    def write(self, lines: Sequence[Line]) -> None:
        self.asked.set()
        assert self.open.wait(10)
        self.lines += [line.text for line in lines]

    def reopen(self) -> None: ...

    def rotate(self) -> None: ...


def tell(count: int) -> Line:
    return Line(f"{count} dropped")


@pytest.fixture
def blocked() -> Iterator[Blocked]:
    destination = Blocked()
    yield destination
    destination.open.set()


def finish(writer: LogWriter, seconds: float = 10) -> None:
    writer.finish(time.monotonic() + seconds)


def test_queueIsBounded(blocked: Blocked) -> None:
    """
    What does not fit in is counted, and told once there is room.
    """
    writer = LogWriter(blocked, tell, 10)
    writer.start()
    writer.put(Line("first"))
    blocked.asked.wait()
    for number in range(25):
        writer.put(Line(str(number)))
    assert writer.dropped == 15
    blocked.open.set()
    finish(writer)
    assert blocked.lines == ["first", "15 dropped", *map(str, range(10))]
    writer.put(Line("last"))
    assert blocked.lines[-1] == "last"  # which was waited for
    assert writer.dropped == 15


def test_beforeTheStart(blocked: Blocked) -> None:
    """
    Nothing is written before, and all of it after.
    """
    blocked.open.set()
    writer = LogWriter(blocked, tell)
    writer.put(Line("one"))
    assert not blocked.asked.is_set()
    writer.start()
    finish(writer)
    assert blocked.lines == ["one"]


def test_neverStarted(blocked: Blocked) -> None:
    """
    What a server says that ends before it serves is not lost.
    """
    blocked.open.set()
    writer = LogWriter(blocked, tell)
    writer.put(Line("one"))
    finish(writer)
    writer.put(Line("two"))
    assert blocked.lines == ["one", "two"]


def test_endIsBounded(blocked: Blocked) -> None:
    """
    A destination that takes nothing is not waited for for ever.
    """
    writer = LogWriter(blocked, tell)
    writer.start()
    writer.put(Line("one"))
    finish(writer, 0.05)
    writer.put(Line("two"))
    assert blocked.lines == []


def test_longestLine(blocked: Blocked) -> None:
    blocked.open.set()
    writer = LogWriter(blocked, tell)
    writer.start()
    writer.put(Line("x" * 100_000))
    finish(writer)
    assert len(blocked.lines[0]) < 20_000
    assert blocked.lines[0].endswith("x...")


# -- files -------------------------------------------------------------------------------


def test_severalRotate(tmp_path: Path) -> None:
    """
    Of several that append to a file, each may move it away; no line is lost, and
    none is cut.
    """
    path = tmp_path / "log"

    def append(who: int) -> None:
        destination = FileDestination(str(path), 2000, 1000)
        for number in range(500):
            destination.write([Line(f"{who}-{number}-{'x' * 50}")])

    threads = [Thread(target=append, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    files = list(tmp_path.iterdir())
    assert len(files) > 10
    lines = [line for each in files for line in each.read_text().splitlines()]
    assert {line.rpartition("-")[0] for line in lines} == {
        f"{who}-{number}" for who in range(4) for number in range(500)
    }
    assert len(lines) == 2000
    assert all(line.endswith("-" + "x" * 50) for line in lines)


# -- events -----------------------------------------------------------------------------


def eventOf(text: str, **fields: object) -> LogEvent:
    return {
        "log_format": "{text}",
        "log_level": LogLevel.error,
        "log_namespace": "somebody",
        "log_time": 1e9,
        "text": text,
        **fields,
    }


@given(st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])))
def test_oneLine(text: str) -> None:
    """
    An event is one line, whatever is in it, and has nothing that moves a terminal.
    """
    for describe in (
        describeAsText(False),
        describeAsText(True),
        describeAsJSON(False),
    ):
        line = describe(eventOf("." + text))
        assert line is not None
        assert len(line.text.splitlines()) == 1
        assert "\x1b" not in line.text
        assert line.severity == 3
        if line.text.startswith("{"):
            assert json.loads(line.text)["namespace"] == "somebody"


def test_traceback() -> None:
    with capturedLogs() as events:
        try:
            raise RuntimeError("one\ntwo")
        except RuntimeError:
            Logger("somebody").failure("it broke", Failure())
    line = describeAsText(False)(events[0])
    assert line is not None
    assert "\n" not in line.text
    assert "[somebody#critical] it broke\\nTraceback" in line.text
    assert line.text.endswith("RuntimeError: one\\ntwo")
    line = describeAsJSON(False)(events[0])
    assert line is not None
    assert "RuntimeError: one" in json.loads(line.text)["text"]


def test_fieldsAreOurs() -> None:
    """
    The fields of others are not written: nobody knows what is in them.
    """
    describe = describeAsJSON(True)
    line = describe(eventOf("x", secret="y"))
    assert line is not None
    assert "y" not in line.text.split(",")[-1]
    line = describe(eventOf("x", log_namespace="twisted_socks5", some=1, other=[2]))
    assert line is not None
    described = json.loads(line.text)
    assert described["some"] == 1
    assert "other" not in described
    assert not [key for key in described if key.startswith("log_")]


def test_system() -> None:
    describe = describeAsJSON(False)
    systems = []
    for system in ("-", "somebody#error worker 2"):
        line = describe(eventOf("x", log_system=system))
        assert line is not None
        systems.append(json.loads(line.text).get("system"))
    assert systems == [None, "somebody#error worker 2"]


def test_nothingToSay() -> None:
    assert describeAsText(False)({"log_level": LogLevel.info}) is None


# -- floods -----------------------------------------------------------------------------


@attrs.define
class Refused:
    reason: str
    client: Address


def refused(reason: str, host: str = "192.0.2.1") -> ISession:
    ip = IPv6Address(host) if ":" in host else IPv4Address(host)
    return Refused(reason, Address(ip, 1))  # type: ignore[return-value]  # it has what a flood looks at


def test_flood() -> None:
    """
    So many equal refusals are written in a second, and how many were not when it is
    over.
    """
    clock, told = Clock(), list[Mapping[str, object]]()
    flood = Flood(clock, 2)
    flood.tellTo(told.append)
    admitted = [flood.admits(refused("no")) for _ in range(5)]
    assert admitted == [True, True, False, False, False]
    assert flood.admits(refused("never"))
    assert flood.admits(refused("no", "192.0.2.2"))
    assert told == []
    clock.advance(1)
    assert told == [{"suppressed": 3, "client": "192.0.2.1", "reason": "no"}]
    assert flood.suppressed == 3
    assert flood.admits(refused("no"))
    clock.advance(1)
    assert len(told) == 1
    assert not clock.getDelayedCalls()


def test_floodOfOneNetwork() -> None:
    clock, told = Clock(), list[Mapping[str, object]]()
    flood = Flood(clock, 1)
    flood.tellTo(told.append)
    for host in range(1, 5):
        flood.admits(refused("no", f"2001:db8::{host}"))
    clock.advance(1)
    assert told == [{"suppressed": 3, "client": "2001:db8::/64", "reason": "no"}]


def test_floodOfManyKinds() -> None:
    """
    What is remembered is bounded.
    """
    clock, told = Clock(), list[Mapping[str, object]]()
    flood = Flood(clock, 1, 10)
    flood.tellTo(told.append)
    for number in range(100):
        flood.admits(refused(f"reason {number}"))
    clock.advance(1)
    assert told == [{"suppressed": 89, "client": "any", "reason": "any other"}]


def test_fileThatCannotBeMovedAway(tmp_path: Path) -> None:
    """
    It is written to all the same, which is told once.
    """
    path = tmp_path / "access"
    (tmp_path / "access.1").mkdir()
    destination = FileDestination(str(path), rotateBytes=5, rotateFiles=1)
    with capturedLogs() as events:
        for text in ("aaaaaaaa", "b", "c"):
            destination.write([Line(text)])
    assert path.read_text() == "aaaaaaaa\nb\nc\n"
    (event,) = events
    assert event["log_level"] is LogLevel.error
    (tmp_path / "access.1").rmdir()
    destination.write([Line("d")])
    assert path.read_text() == "d\n"
