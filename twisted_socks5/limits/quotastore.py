# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Quotas that are kept when the server ends.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_socks5.interfaces import IQuotaStore
from twisted_socks5.limits.quotas import QuotaKey, Quotas
from twisted_socks5.outcome import outcomeOf

_log = Logger(namespace="twisted_socks5.quotas")

_TABLE = """
CREATE TABLE IF NOT EXISTS quota (
    scope TEXT NOT NULL,
    who TEXT NOT NULL,
    period TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (scope, who, period)
) WITHOUT ROWID
"""

_ADD = """
INSERT INTO quota VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes
"""

_PATIENCE = 5.0
"""
How long, in seconds, to wait for somebody else who writes to the file.
"""


@implementer(IQuotaStore)
class SQLiteQuotaStore:
    """
    Keeps quotas in a file, of which one process after the other may be the user, and
    which other programs may read meanwhile.  What is written is added to what is
    there; a file that was moved or removed is made again.
    """

    def __init__(self, reactor: Any, path: str) -> None:
        """
        @param path: The file, which is made when it is opened.
        @raise ValueError: There cannot be one, or it is no database.
        """
        self._reactor = reactor
        self._path = os.path.abspath(path)
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._check()

    def _check(self) -> None:
        folder = os.path.dirname(self._path)
        if not os.path.isdir(folder):
            raise ValueError(f"expected a folder {folder}")
        if not os.access(folder, os.W_OK | os.X_OK):  # for what is made beside it
            raise ValueError(f"expected a folder to write to, {folder}")
        if os.path.isdir(self._path):
            raise ValueError("expected a file, not a folder")
        try:
            os.stat(self._path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ValueError(str(error.strerror)) from None
        try:
            # Immutable, since otherwise it would make files beside it, which may be
            # those of another account then.
            connection = sqlite3.connect(
                f"file:{quote(self._path)}?immutable=1", uri=True
            )
            try:
                connection.execute("PRAGMA schema_version").fetchone()
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise ValueError(str(error)) from None

    def open(self, periods: Sequence[str]) -> Sequence[tuple[QuotaKey, int]]:
        """
        Open the file.  Not before the process has forked and has dropped its
        privileges.

        @param periods: Those that are asked for.
        @return: What was used in them.
        @raise OSError: It cannot be.
        """
        try:
            connection = self._connect()
            found = []
            for period in periods:
                rows = connection.execute(
                    "SELECT scope, who, bytes FROM quota WHERE period = ?", (period,)
                )
                found += [
                    (QuotaKey(scope, who, period), count) for scope, who, count in rows
                ]
        except sqlite3.Error as error:
            raise OSError(f"{self._path}: {error}") from None
        return found

    def _connect(self) -> sqlite3.Connection:
        # One thread at a time.
        connection = self._connection = sqlite3.connect(
            self._path,
            timeout=_PATIENCE,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(_TABLE)
        self._file = _fileAt(self._path)
        return connection

    def add(self, amounts: Mapping[QuotaKey, int]) -> Deferred[None]:
        """
        Add to what was used, all or nothing, in a thread.
        """
        return deferToThreadPool(
            self._reactor, self._reactor.getThreadPool(), self._add, amounts
        )

    def _add(self, amounts: Mapping[QuotaKey, int]) -> None:
        connection = self._connection
        if connection is None or self._file != _fileAt(self._path):
            self.close()  # it was moved or removed
            connection = self._connect()
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                _ADD, [(*key, count) for key, count in amounts.items()]
            )
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # which a full disk ends by itself
                self._rollBack(connection)
            raise
        # So that the file alone has everything, wherever it is moved to.
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _rollBack(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:
            self.close()  # nothing more can be done with it

    def close(self) -> None:
        """
        Close the file.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _fileAt(path: str) -> tuple[int, int] | None:
    """
    Which file there is, whatever its name.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


class QuotaKeeper(Service):
    """
    Has a store keep quotas: every few seconds, and when the server stops.

    @ivar sessionsOver: Waits until nobody uses them any more.
    """

    def __init__(
        self,
        reactor: Any,
        quotas: Quotas,
        store: IQuotaStore,
        interval: float = 5.0,
        patience: float = 5.0,
    ) -> None:
        """
        @param interval: How often to save, in seconds.
        @param patience: How long to wait when the server stops, in seconds, until
            nobody uses them any more.
        """
        self.sessionsOver: Callable[[], Deferred[None]] = lambda: succeed(None)
        self._patience = patience
        self._reactor = reactor
        self._quotas = quotas
        self._store = store
        self._interval = interval
        self._timer: IDelayedCall | None = None
        self._saving: Deferred[None] = succeed(None)
        self._isOpen = self._hasFailed = False

    def startService(self) -> None:
        """
        Take up what was used before.  If it cannot be known, that is logged, and the
        server counts from nothing.
        """
        Service.startService(self)
        try:
            self._quotas.load(self._store.open(self._quotas.periods))
        except Exception as error:
            _log.error("quotas are not kept: {problem}", problem=str(error))
            return
        self._isOpen = True
        self._schedule(None)

    def stopService(self) -> Deferred[None]:
        """
        Save what was not yet.
        """
        Service.stopService(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        over = self.sessionsOver().addTimeout(self._patience, self._reactor)
        await over.addErrback(lambda _: None)
        if self._isOpen:
            await self._saving
            await self._save()
            if self._hasFailed:
                _log.error("what was used since quotas were saved last is forgotten")
        self._store.close()

    def _schedule(self, _: None) -> None:
        if self.running:
            self._timer = self._reactor.callLater(self._interval, self._saveAndGoOn)

    def _saveAndGoOn(self) -> None:
        self._timer = None
        self._saving = self._save()
        self._saving.addCallback(self._schedule)

    def _save(self) -> Deferred[None]:
        unsaved = self._quotas.takeUnsaved()
        if not unsaved:
            return succeed(None)
        saving = Deferred.fromCoroutine(self._add(unsaved))
        return saving.addCallbacks(self._saved, self._failed, errbackArgs=(unsaved,))

    async def _add(self, unsaved: Counter[QuotaKey]) -> None:
        await outcomeOf(self._store.add(unsaved))

    def _saved(self, _: None) -> None:
        if self._hasFailed:
            self._hasFailed = False
            _log.info("quotas are saved again")

    def _failed(self, failure: Failure, unsaved: Counter[QuotaKey]) -> None:
        self._quotas.putBack(unsaved)
        if not self._hasFailed:
            self._hasFailed = True
            _log.error(
                "quotas cannot be saved for now: {problem}",
                problem=failure.getErrorMessage(),
            )
