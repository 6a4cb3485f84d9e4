# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Who guesses passwords is slowed down, and then refused for a while.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.conversation import readAll, readExactly
from twisted_socks5.addresses import Address
from twisted_socks5.errors import AuthenticationFailed
from twisted_socks5.server.throttle import Attempt, Throttle
from twisted_socks5.settings import Throttling

if TYPE_CHECKING:
    from tests.conftest import Server

USERS = "memory:alice:wonderland:bob:builder:carol:song"


def isLetIn(
    server: Server, user: bytes, password: bytes, host: str = "127.0.0.1"
) -> bool:
    with socket.create_connection(("127.0.0.1", server.port), 10, (host, 0)) as client:
        client.sendall(b"\x05\x01\x02\x01" + bytes((len(user),)) + user)
        client.sendall(bytes((len(password),)) + password)
        answer = readExactly(client, 4)
        assert answer in (b"\x05\x02\x01\x00", b"\x05\x02\x01\x01")
        if answer[3]:
            assert readAll(client) == b""
        return not answer[3]


def test_refused(start: Callable[..., Server]) -> None:
    """
    An address, and a name, which are then refused even with the right password.
    """
    server = start("--auth", USERS, "--set", "throttle.refuse-after=3")
    for name in (b"alice", b"alice", b"nobody"):
        assert not isLetIn(server, name, b"wrong", "127.0.0.7")
    assert not isLetIn(server, b"bob", b"builder", "127.0.0.7")
    assert isLetIn(server, b"alice", b"wonderland", "127.0.0.8")
    assert not isLetIn(server, b"alice", b"wrong", "127.0.0.9")
    assert not isLetIn(server, b"alice", b"wonderland", "127.0.0.8")
    assert isLetIn(server, b"bob", b"builder", "127.0.0.8")
    output = server.output()
    assert output.count("throttle=refused client=127.0.0.7 failures=3 seconds=300") == 1
    assert output.count("throttle=refused user=alice failures=3 seconds=300") == 1
    assert output.count("throttle=") == 2
    server.waitForLog('reason="throttled: client has failed too often"')
    server.waitForLog('reason="throttled: user has failed too often"')


def test_forgotten(start: Callable[..., Server]) -> None:
    server = start(
        *("--auth", USERS, "--set", "throttle.refuse-after=1"),
        *("--set", "throttle.memory=1"),
    )
    assert not isLetIn(server, b"alice", b"wrong")
    assert not isLetIn(server, b"alice", b"wonderland")
    server.waitUntil(lambda: isLetIn(server, b"alice", b"wonderland"))
    assert isLetIn(server, b"bob", b"builder")
    assert not isLetIn(server, b"alice", b"wrong")
    assert not isLetIn(server, b"alice", b"wonderland")


def test_successTakesNothingBack(start: Callable[..., Server]) -> None:
    server = start("--auth", USERS, "--set", "throttle.refuse-after=3")
    for _ in range(2):
        assert isLetIn(server, b"bob", b"builder")
        assert not isLetIn(server, b"alice", b"wrong")
        assert isLetIn(server, b"alice", b"wonderland")
    assert not isLetIn(server, b"nobody", b"wrong")
    assert not isLetIn(server, b"bob", b"builder")


def test_whoNeedsNoPassword(start: Callable[..., Server]) -> None:
    server = start(
        *("--auth", USERS, "--authenticator", "none"),
        *("--set", "throttle.refuse-after=1"),
    )
    assert not isLetIn(server, b"alice", b"wrong")
    assert not isLetIn(server, b"bob", b"builder")
    with server.connect() as client:
        client.sendall(b"\x05\x01\x00")
        assert readExactly(client, 2) == b"\x05\x00"


def test_UNIX(start: Callable[..., Server], tmp_path: Path) -> None:
    """
    All clients of a UNIX socket are one, so it is only their names that count.
    """
    path = str(tmp_path / "socks")
    start(
        *("--port", f"unix:{path}", "--auth", USERS),
        *("--set", "throttle.refuse-after=1"),
    )

    def answer(user: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(b"\x05\x01\x02\x01" + user)
            return readExactly(client, 4)[2:]

    assert answer(b"\x05alice\x05wrong") == b"\x01\x01"
    assert answer(b"\x05alice\x0awonderland") == b"\x01\x01"
    assert answer(b"\x03bob\x07builder") == b"\x01\x00"


def test_malformedIsNoGuess(start: Callable[..., Server]) -> None:
    server = start("--auth", USERS, "--set", "throttle.refuse-after=1")
    with server.connect() as client:
        client.sendall(b"\x05\x01\x02\x05\x05alice\x05wrong")
        assert readAll(client)[:2] == b"\x05\x02"
    assert isLetIn(server, b"alice", b"wonderland")


def test_nameInTheLog(start: Callable[..., Server]) -> None:
    server = start("--auth", USERS, "--set", "throttle.refuse-after=1")
    assert not isLetIn(server, b"a\nthrottle=refused", b"wrong")
    server.waitForLog("user=a\\x0athrottle=refused failures=1")
    for name, shown in (
        (b"b failures=9 c", '"b failures=9 c"'),
        (b'd" e', r'"d\x22 e"'),
        (b"", '""'),
    ):
        assert not isLetIn(server, name, b"wrong", f"127.0.0.{40 + len(name)}")
        server.waitForLog(f"user={shown} failures=1 seconds=")


# -- at a time of the test's ------------------------------------------------------


class Guesses:
    """
    Attempts at a throttle.
    """

    def __init__(self, **settings: float) -> None:
        self.clock = Clock()
        self.throttle = Throttle(self.clock, Throttling(**settings))  # type: ignore[arg-type]  # of several kinds

    def begin(
        self, host: str = "192.0.2.1", name: bytes = b"alice"
    ) -> tuple[Attempt, list[str]]:
        """
        An attempt, and what came of it so far.
        """
        attempt = self.throttle.attempt(Address.fromName(host.encode(), 1), name)
        outcome: list[str] = []
        self.last = Deferred.fromCoroutine(attempt.begin())
        self.last.addCallbacks(
            lambda result: outcome.append("checked"),
            lambda failure: outcome.append(failure.trap(AuthenticationFailed).__name__),
        )
        return attempt, outcome

    def now(
        self, hasFailed: bool, host: str = "192.0.2.1", name: bytes = b"alice"
    ) -> str:
        """
        An attempt that is over at once.
        """
        attempt, outcome = self.begin(host, name)
        attempt.end(hasFailed)
        return outcome[0] if outcome else "slowed"


def test_slowed() -> None:
    guesses = Guesses(slowAfter=2, delay=5, refuseAfter=4)
    assert guesses.now(True) == guesses.now(True) == "checked"
    for _ in range(2):
        attempt, outcome = guesses.begin()
        guesses.clock.advance(4.9)
        assert outcome == []
        guesses.clock.advance(0.1)
        assert outcome == ["checked"]
        attempt.end(True)
    assert guesses.now(True) == "AuthenticationFailed"
    assert guesses.now(False, "192.0.2.2", b"bob") == "checked"


def test_manyAtOnce() -> None:
    """
    They learn no more than one after the other would.
    """
    guesses = Guesses(slowAfter=3, delay=5, refuseAfter=5)
    attempts = [guesses.begin() for _ in range(20)]

    def count(outcome: list[str]) -> int:
        return [each for _, each in attempts].count(outcome)

    assert count(["checked"]) == 3
    for attempt, _ in attempts[:3]:
        attempt.end(True)
    for checked in (4, 5):  # one by one now
        guesses.clock.advance(4)
        assert count(["checked"]) == checked - 1
        guesses.clock.advance(1)
        assert count(["checked"]) == checked
        attempts[checked - 1][0].end(True)
    assert count(["AuthenticationFailed"]) == 15


def test_manyAtOnceThatAreRight() -> None:
    guesses = Guesses(slowAfter=3, delay=5)
    attempts = [guesses.begin() for _ in range(20)]
    for attempt, outcome in attempts:
        assert outcome == ["checked"]
        attempt.end(False)


def test_waitingOneGoesAway() -> None:
    guesses = Guesses(slowAfter=1, delay=0)
    first, _ = guesses.begin()
    second, _ = guesses.begin()
    gone = guesses.last
    third, outcome = guesses.begin()
    gone.addErrback(lambda failure: None)
    gone.cancel()
    second.end(False)
    assert outcome == []
    first.end(False)
    assert outcome == ["checked"]
    third.end(False)


def test_ownerOfAName() -> None:
    """
    Who guesses a name, from many addresses, does not keep its owner waiting.
    """
    guesses = Guesses(slowAfter=3, delay=1, refuseAfter=0)
    hosts = [f"192.0.2.{number}" for number in range(15)] * 3
    guessing = [(host, *guesses.begin(host)) for host in hosts]

    def failOnce() -> None:
        for one in list(guessing):
            host, attempt, outcome = one
            if outcome:
                guessing.remove(one)
                attempt.end(True)
                guessing.append((host, *guesses.begin(host)))

    for _ in range(40):
        guesses.clock.advance(1)
        failOnce()
    owner, outcome = guesses.begin("198.51.100.1")
    for _ in range(2):
        guesses.clock.advance(1)
        failOnce()
    assert outcome == ["checked"]
    owner.end(True)  # a slip of the pen
    again, outcome = guesses.begin("198.51.100.1")
    for _ in range(2):
        guesses.clock.advance(1)
        failOnce()
    assert outcome == ["checked"]
    again.end(False)


def test_memory() -> None:
    guesses = Guesses(slowAfter=0, refuseAfter=2, memory=60)
    assert guesses.now(True) == "checked"
    guesses.clock.advance(59)
    assert guesses.now(True) == "checked"
    guesses.clock.advance(59)
    assert guesses.now(True) == "AuthenticationFailed"  # which counts for nothing
    guesses.clock.advance(1)
    assert guesses.now(True) == "checked"
    assert guesses.now(False) == "checked"


def test_refusedOneCountsForNothing() -> None:
    """
    Whose name is refused does not have its address refused by and by.
    """
    guesses = Guesses(slowAfter=0, refuseAfter=2)
    for host in ("192.0.2.1", "192.0.2.2"):
        assert guesses.now(True, host) == "checked"
    for _ in range(3):
        assert guesses.now(True, "192.0.2.3") == "AuthenticationFailed"
    assert guesses.now(False, "192.0.2.3", b"bob") == "checked"


def test_fullTable() -> None:
    """
    The longest quiet one is forgotten.
    """
    guesses = Guesses(slowAfter=0, refuseAfter=1, entries=4)
    for number in range(3):  # two entries each
        host, name = f"192.0.2.{number}", f"user{number}".encode()
        assert guesses.now(True, host, name) == "checked"
    assert guesses.now(False, "192.0.2.0", b"user0") == "checked"
    for host, name in (("192.0.2.2", b"a"), ("192.0.2.9", b"user2")):
        assert guesses.now(False, host, name) == "AuthenticationFailed"


@pytest.mark.parametrize(
    ("one", "other", "isSame"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
    ],
)
def test_networks(one: str, other: str, isSame: bool) -> None:
    guesses = Guesses(slowAfter=0, refuseAfter=1)
    assert guesses.now(True, one, b"alice") == "checked"
    expected = "AuthenticationFailed" if isSame else "checked"
    assert guesses.now(False, other, b"bob") == expected


def test_never() -> None:
    guesses = Guesses(slowAfter=0, refuseAfter=0)
    assert {guesses.now(True) for _ in range(1000)} == {"checked"}
