# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Bytes in a day and in a month, also when the server was started again.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.conversation import connectTo, readAll, readExactly
from tests.loopback import Place, inReactor
from tests.test_start import refused
from twisted_socks5.interfaces import IQuotaStore
from twisted_socks5.limits import LocalLedger
from twisted_socks5.limits.claims import Claim
from twisted_socks5.limits.quotas import QuotaKey, Quotas
from twisted_socks5.limits.quotastore import QuotaKeeper, SQLiteQuotaStore
from twisted_socks5.limits.spending import Spending

if TYPE_CHECKING:
    import socket

    from tests.conftest import Server

DAY = Claim("", "bytes-per-day", "user alice", 1000)
MONTH = Claim("", "bytes-per-month", "user alice", 5000)
KEY = QuotaKey("", "user alice", "2026-11-24")


def clockAt(*moment: int) -> Clock:
    clock = Clock()
    clock.advance(datetime(*moment, tzinfo=UTC).timestamp())  # type: ignore[arg-type,misc]  # the year, month and day of a tuple
    return clock


# -- what was used ---------------------------------------------------------------------


def test_days() -> None:
    clock = clockAt(2026, 11, 24, 23, 59, 59)
    quotas = Quotas(clock.seconds)
    quotas.spend(DAY, 999)
    assert not quotas.isOver(DAY)
    quotas.spend(DAY, 1)
    assert quotas.isOver(DAY)
    assert not quotas.isOver(DAY._replace(who="user bob"))
    assert not quotas.isOver(DAY._replace(scope="rule allow"))
    clock.advance(1)
    assert not quotas.isOver(DAY)


def test_clockThatIsSet() -> None:
    """
    Back over midnight, and forward again: what was used in either day stays.
    """
    clock = clockAt(2026, 11, 30, 23)
    quotas = Quotas(clock.seconds)
    for hours, used in ((0, 600), (2, 700), (-2, 400), (2, 300), (-2, 0), (2, 0)):
        clock.rightNow += hours * 3600
        quotas.spend(DAY, used)
        quotas.spend(MONTH, 4 * used)
        isOver = used in (400, 300, 0)
        assert quotas.isOver(DAY) is isOver
        assert quotas.isOver(MONTH) is False
    assert quotas.takeUnsaved() == {
        KEY._replace(period="2026-11-30"): 1000,
        KEY._replace(period="2026-11"): 4000,
        KEY._replace(period="2026-12-01"): 1000,
        KEY._replace(period="2026-12"): 4000,
    }


def test_oldDays() -> None:
    """
    They are forgotten in the end.
    """
    clock = clockAt(2026, 11, 24)
    quotas = Quotas(clock.seconds)
    for days in (1, 1, 40, -400, 1, 1, 1, 400, 1):
        quotas.spend(DAY, 1)
        quotas.spend(MONTH, 1)
        clock.advance(days * 86400)
        assert len(quotas._used) <= 6


def test_months() -> None:
    clock = clockAt(2026, 11, 24, 12)
    quotas = Quotas(clock.seconds)
    for _ in range(7):
        quotas.spend(MONTH, 800)
        clock.advance(86400 if not quotas.isOver(MONTH) else 0)
    assert quotas.day == "2026-11-30"
    assert quotas.isOver(MONTH)
    clock.advance(86400)
    assert not quotas.isOver(MONTH)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([DAY, MONTH]), st.integers(0, 100000))))
def test_asAPlainSum(steps: list[tuple[Claim, int]]) -> None:
    """
    Each day's and each month's bytes are theirs, and all are told to be saved once.
    """
    clock = clockAt(2026, 1, 1)
    quotas = Quotas(clock.seconds)
    plain: Counter[tuple[str, str]] = Counter()
    saved: Counter[QuotaKey] = Counter()
    for claim, count in steps:
        clock.advance(count)
        moment = datetime.fromtimestamp(clock.seconds(), UTC).isoformat()
        period = moment[: 10 if claim is DAY else 7]
        quotas.spend(claim, count % 300)
        plain[claim.key, period] += count % 300
        assert quotas.isOver(claim) is (plain[claim.key, period] >= claim.limit)
        if count % 3 == 0:
            saved += quotas.takeUnsaved()
    saved += quotas.takeUnsaved()
    assert sum(saved.values()) == sum(plain.values())
    for (_, period), count in (+plain).items():
        assert saved["", "user alice", period] == count  # type: ignore[index]  # it is there by now


def test_ledger() -> None:
    """
    Whoever has used it up is not admitted, and nothing is counted for that.
    """
    clock = clockAt(2026, 11, 24)
    ledger = LocalLedger(clock.seconds)
    session = Claim("", "sessions", "", 1)
    assert ledger.spend({DAY: 600}) == []
    assert ledger.spend({DAY: 600, MONTH: 600}) == [DAY]
    assert ledger.admit([session, DAY]) == DAY
    assert ledger.admit([session, MONTH]) is None
    ledger.release([session, MONTH])
    clock.advance(86400)
    assert ledger.admit([session, DAY]) is None


# -- sessions --------------------------------------------------------------------------


class Session:
    def __init__(self) -> None:
        self.bytesUp = self.bytesDown = 0
        self.reasons: list[str] = []

    def end(self, reason: str) -> None:
        self.reasons.append(reason)


def test_sessionsThatUseItUp() -> None:
    """
    All of that user are ended, and no other.
    """
    clock = clockAt(2026, 11, 24)
    hit: Counter[str] = Counter()
    spending: Any = Spending(clock, LocalLedger(clock.seconds), hit)
    one, another, bob = Session(), Session(), Session()
    spending.begin(one, [DAY, MONTH])
    spending.begin(another, [DAY])
    spending.begin(bob, [DAY._replace(who="user bob")])
    one.bytesUp, one.bytesDown, another.bytesUp, bob.bytesUp = 300, 300, 300, 999
    clock.advance(1)
    assert one.reasons + another.reasons + bob.reasons == []
    another.bytesDown = 100
    clock.advance(1)
    assert one.reasons == another.reasons == ["over limit.bytes-per-day"]
    assert hit == {"bytes-per-day": 2}
    clock.advance(5)
    assert bob.reasons == []
    assert len(one.reasons) == 1
    for each in (one, another, bob):
        spending.end(each)
    assert clock.getDelayedCalls() == []


def test_whatWasCarriedLast() -> None:
    """
    A session that is over before it is looked at has used it, too.
    """
    clock = clockAt(2026, 11, 24)
    ledger = LocalLedger(clock.seconds)
    spending: Any = Spending(clock, ledger, Counter())
    session = Session()
    spending.begin(session, [DAY])
    session.bytesUp = 1000
    spending.end(session)
    assert ledger.admit([DAY]) == DAY
    spending.end(session)


def test_ledgerElsewhere() -> None:
    """
    Its answer comes later, or not at all; then what was used is told again.
    """

    class Elsewhere:
        answers: list[Deferred[Collection[Claim]]] = []
        told: list[dict[Claim, int]] = []

        def spend(self, amounts: Mapping[Claim, int]) -> Any:
            self.told.append(dict(amounts))
            if len(self.told) == 3:
                raise OSError
            self.answers.append(Deferred())
            return self.answers[-1]

    clock, ledger = clockAt(2026, 11, 24), Elsewhere()
    spending: Any = Spending(clock, ledger, Counter())  # type: ignore[arg-type]  # what it asks of a ledger
    session = Session()
    spending.begin(session, [DAY])
    session.bytesUp = 5
    clock.advance(1)
    with capturedLogs() as events:
        ledger.answers[0].errback(OSError())
    assert len(events) == 1
    session.bytesDown = 2
    clock.advance(1)
    ledger.answers[1].callback([DAY])
    assert session.reasons == ["over limit.bytes-per-day"]
    session.bytesDown = 5
    with capturedLogs() as events:
        spending.end(session)
    assert len(events) == 1
    spending.begin(Session(), [DAY])
    clock.advance(1)
    assert ledger.told == [{DAY: 5}, {DAY: 7}, {DAY: 3}, {DAY: 3}]


# -- what is kept ----------------------------------------------------------------------


@inReactor
async def test_file(place: Place, tmp_path: Path) -> None:
    path = str(tmp_path / "quotas")
    store = SQLiteQuotaStore(place.reactor, path)
    verifyObject(IQuotaStore, store)
    assert list(store.open(["2026-11-24", "2026-11"])) == []
    later = KEY._replace(period="2026-11-25")
    await store.add(Counter({KEY: 5, later: 7}))
    await store.add(Counter({KEY: 5}))
    store.close()
    store.close()
    again = SQLiteQuotaStore(place.reactor, path)
    assert list(again.open(["2026-11-24", "2026-11"])) == [(KEY, 10)]
    again.close()


@inReactor
async def test_fileThatIsFull(place: Place, tmp_path: Path) -> None:
    """
    Nothing of what cannot be added whole is, and later ones can.
    """
    store = SQLiteQuotaStore(place.reactor, str(tmp_path / "quotas"))
    store.open([])
    assert store._connection is not None
    store._connection.execute("PRAGMA max_page_count = 3")
    many = Counter({KEY._replace(who=f"{number:5000}"): 1 for number in range(5)})
    with pytest.raises(sqlite3.OperationalError, match="full"):
        await store.add(many)
    await store.add(Counter({KEY: 5}))
    assert list(store.open([KEY.period])) == [(KEY, 5)]
    store.close()


@inReactor
async def test_fileThatIsLocked(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twisted_socks5.limits.quotastore._PATIENCE", 0.01)
    store = SQLiteQuotaStore(place.reactor, str(tmp_path / "quotas"))
    store.open([])
    with closing(sqlite3.connect(tmp_path / "quotas", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            await store.add(Counter({KEY: 5}))
    await store.add(Counter({KEY: 5}))
    assert list(store.open([KEY.period])) == [(KEY, 5)]
    store.close()


@inReactor
async def test_fileThatIsRemoved(place: Place, tmp_path: Path) -> None:
    """
    Or moved: a new one has what comes then; the old one has what there was.
    """
    path = tmp_path / "quotas"
    store = SQLiteQuotaStore(place.reactor, str(path))
    store.open([])
    await store.add(Counter({KEY: 5}))
    path.rename(tmp_path / "old")
    await store.add(Counter({KEY: 7}))
    (tmp_path / "folder").mkdir()
    path.rename(tmp_path / "folder" / "other")
    path.mkdir()
    with pytest.raises(sqlite3.OperationalError):
        await store.add(Counter({KEY: 9}))
    path.rmdir()
    await store.add(Counter({KEY: 9}))
    store.close()
    for name, count in (("old", 5), ("folder/other", 7), ("quotas", 9)):
        with closing(sqlite3.connect(tmp_path / name)) as file:
            assert file.execute("SELECT bytes FROM quota").fetchall() == [(count,)]


def test_wrongFile(tmp_path: Path) -> None:
    clock = Clock()
    with pytest.raises(ValueError, match="expected a folder /nowhere"):
        SQLiteQuotaStore(clock, "/nowhere/quotas")
    path = tmp_path / "quotas"
    path.write_text("no database at all, whatever its name may be")
    with pytest.raises(ValueError, match="not a database"):
        SQLiteQuotaStore(clock, str(path))
    with pytest.raises(ValueError, match="expected a file"):
        SQLiteQuotaStore(clock, str(tmp_path))


@implementer(IQuotaStore)
class Store:
    """
    Keeps what it is given, when the test says so.
    """

    def __init__(self) -> None:
        self.before: list[tuple[QuotaKey, int]] = []
        self.periods: Sequence[str] = ()
        self.added: list[tuple[dict[QuotaKey, int], Deferred[None]]] = []
        self.isClosed = False

    def open(self, periods: Sequence[str]) -> list[tuple[QuotaKey, int]]:
        self.periods = periods
        return self.before

    def add(self, amounts: Mapping[QuotaKey, int]) -> Deferred[None]:
        self.added.append((dict(amounts), Deferred()))
        return self.added[-1][1]

    def close(self) -> None:
        self.isClosed = True


class Kept:
    def __init__(self) -> None:
        self.clock = clockAt(2026, 11, 24)
        self.quotas = Quotas(self.clock.seconds)
        self.store = Store()
        self.keeper = QuotaKeeper(self.clock, self.quotas, self.store, 5, 10)


def test_takenUp() -> None:
    kept = Kept()
    kept.store.before = [(KEY, 990)]
    kept.keeper.startService()
    assert kept.store.periods == ["2026-11", "2026-11-23", "2026-11-24", "2026-11-25"]
    kept.quotas.spend(DAY, 10)
    assert kept.quotas.isOver(DAY)


def test_savedNowAndThen() -> None:
    """
    One after the other, and not where there is nothing.
    """
    kept = Kept()
    kept.keeper.startService()
    kept.clock.advance(5)
    assert kept.store.added == []
    kept.quotas.spend(DAY, 10)
    kept.clock.advance(5)
    kept.quotas.spend(DAY, 20)
    kept.clock.advance(50)
    [(first, saving)] = kept.store.added
    assert first == {KEY: 10}
    saving.callback(None)
    kept.clock.advance(5)
    assert kept.store.added[1][0] == {KEY: 20}


def test_savedAtTheEnd() -> None:
    """
    When the last session is over, and what was being saved is.
    """
    kept = Kept()
    over: Deferred[None] = Deferred()
    kept.keeper.sessionsOver = lambda: over
    kept.keeper.startService()
    kept.quotas.spend(DAY, 10)
    kept.clock.advance(5)
    stopped = kept.keeper.stopService()
    kept.quotas.spend(DAY, 20)
    over.callback(None)
    assert len(kept.store.added) == 1
    kept.store.added[0][1].callback(None)
    assert kept.store.added[1][0] == {KEY: 20}
    assert not kept.store.isClosed
    kept.store.added[1][1].callback(None)
    assert stopped.called
    assert kept.store.isClosed
    assert kept.clock.getDelayedCalls() == []


def test_sessionsThatDoNotEnd() -> None:
    kept = Kept()
    kept.keeper.sessionsOver = Deferred
    kept.keeper.startService()
    kept.quotas.spend(DAY, 10)
    kept.keeper.stopService()
    kept.clock.advance(10)
    assert kept.store.added[0][0] == {KEY: 10}


def test_cannotBeSaved() -> None:
    """
    It is told once, tried again, and nothing is forgotten.
    """
    kept = Kept()
    kept.keeper.startService()
    kept.quotas.spend(DAY, 10)
    with capturedLogs() as events:
        for _ in range(3):
            kept.clock.advance(5)
            kept.store.added[-1][1].errback(OSError("disk full"))
            kept.quotas.spend(DAY, 1)
        kept.clock.advance(5)
        assert kept.store.added[-1][0] == {KEY: 13}
        kept.store.added[-1][1].callback(None)
    assert [event["log_level"].name for event in events] == ["error", "info"]


def test_cannotEvenBeTried() -> None:
    """
    What is raised at once is as good as what comes later, also at the end.
    """
    kept = Kept()
    add = kept.store.add

    def fail(amounts: Mapping[QuotaKey, int]) -> Any:
        raise OSError("disk full")

    kept.keeper.startService()
    kept.quotas.spend(DAY, 10)
    kept.store.add = fail  # type: ignore[method-assign]  # it breaks
    with capturedLogs() as events:
        kept.clock.advance(5)
        kept.clock.advance(5)
        kept.store.add = add  # type: ignore[method-assign]  # it does not
        kept.clock.advance(5)
        assert kept.store.added[-1][0] == {KEY: 10}
        kept.store.added[-1][1].callback(None)
        kept.quotas.spend(DAY, 1)
        kept.store.add = fail  # type: ignore[method-assign]  # it breaks again
        assert kept.keeper.stopService().called
    assert kept.store.isClosed
    assert [event["log_level"].name for event in events] == [
        "error",
        "info",
        "error",
        "error",
    ]
    assert "is forgotten" in formatEvent(events[-1])


def test_cannotBeTakenUp() -> None:
    """
    Then it is counted, but not kept: what is there must not be written over.
    """
    kept = Kept()

    def fail(periods: Sequence[str]) -> Any:
        raise OSError("no such file")

    kept.store.open = fail  # type: ignore[method-assign]  # it breaks
    with capturedLogs() as events:
        kept.keeper.startService()
    assert [event["log_level"].name for event in events] == ["error"]
    kept.quotas.spend(DAY, 1000)
    assert kept.quotas.isOver(DAY)
    stopped = kept.keeper.stopService()
    assert stopped.called
    assert kept.store.added == []


# -- a started server --------------------------------------------------------------------

LOGIN = b"\x05\x01\x02\x01\x05alice\x01a"


def test_startedAgain(
    start: Callable[..., Server], listener: socket.socket, tmp_path: Path
) -> None:
    """
    Who has used it up is cut, and told so from then on, also by the next server; others
    are not.
    """
    accounts = ("--auth", "memory:alice:a", "--auth", "memory:bob:b")
    limits = ("--set", "limit.bytes-per-day=10K", "--set", f"quota.file={tmp_path}/q")
    port = listener.getsockname()[1]

    def ask(server: Server, login: bytes) -> tuple[socket.socket, int]:
        client = server.connect()
        client.sendall(login + connectTo(port))
        return client, readExactly(client, 14)[5]

    server = start(*accounts, *limits)
    client, reply = ask(server, LOGIN)
    assert reply == 0
    destination, _ = listener.accept()
    with client, destination:
        client.sendall(bytes(4000))
        assert readExactly(destination, 4000)
        destination.sendall(bytes(7000))
        assert readExactly(client, 7000)
        with pytest.raises(ConnectionResetError):
            readAll(client)
    server.waitForLog("up=4000 down=7000 ")
    server.waitForLog('reason="over limit.bytes-per-day"')
    over, reply = ask(server, LOGIN)
    assert (reply, readAll(over)) == (2, b"")
    over.close()
    server.stop()
    with sqlite3.connect(tmp_path / "q") as connection:
        [row] = connection.execute("SELECT scope, who, bytes FROM quota")
        assert row == ("", "user alice", 11000)
    connection.close()
    server = start(*accounts, *limits)
    over, reply = ask(server, LOGIN)
    assert (reply, readAll(over)) == (2, b"")
    over.close()
    bob, reply = ask(server, b"\x05\x01\x02\x01\x03bob\x01b")
    assert reply == 0
    bob.close()


def test_killed(
    start: Callable[..., Server], listener: socket.socket, tmp_path: Path
) -> None:
    """
    What was saved stays.
    """
    options = (
        *("--auth", "memory:alice:a", "--set", "limit.bytes-per-day=10K"),
        *("--set", f"quota.file={tmp_path}/q", "--set", "quota.flush=1"),
    )
    server = start(*options)
    with server.connect() as client:
        client.sendall(LOGIN + connectTo(listener.getsockname()[1]))
        assert readExactly(client, 14)[5] == 0
        destination, _ = listener.accept()
        with destination:
            client.sendall(bytes(9999))
            assert readExactly(destination, 9999)
            server.waitUntil(lambda: savedIn(tmp_path / "q") == [(9999,)])
            client.sendall(b"more")
            server.process.kill()
            server.process.wait()
    server = start(*options)
    with server.connect() as client:
        client.sendall(LOGIN + connectTo(listener.getsockname()[1]))
        assert readExactly(client, 14)[5] == 0
        listener.accept()[0].close()
        destination.close()
    assert savedIn(tmp_path / "q") == [(9999,)]


def savedIn(path: Path) -> list[tuple[int]]:
    with closing(sqlite3.connect(path)) as file:
        return file.execute("SELECT bytes FROM quota").fetchall()


def test_startWithAWrongFile(tmp_path: Path) -> None:
    path = tmp_path / "quotas"
    path.write_text("no database at all, whatever its name may be")
    assert "quota.file " in refused("--set", f"quota.file={path}")
    assert "expected a folder" in refused("--set", f"quota.file={tmp_path}/no/q")
