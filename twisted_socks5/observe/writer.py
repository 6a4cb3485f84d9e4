# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Writing lines in a thread: a full disk, or a pipe that nobody reads, stops the
log and nothing else.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from threading import Event, Thread, current_thread
from typing import NamedTuple, Protocol

from twisted.logger import Logger

_log = Logger(namespace="twisted_socks5")

_QUEUED = 10_000
_LONGEST = 16_384
_BATCH = 1000
_GATHERING = 0.005
_RETRY = 1.0


class Line(NamedTuple):
    """
    What is written of one event.

    @ivar text: Without the end of the line.
    @ivar severity: As syslog counts (RFC 5424, section 6.2.1): 6 is
        informational.
    @ivar fields: The same by names, for a journal.
    """

    text: str
    severity: int = 6
    fields: Mapping[str, object] = {}


class IDestination(Protocol):
    """
    Where lines go.  All of it is called in a thread, and may block.
    """

    @property
    def name(self) -> str:
        """
        What operators call it.
        """

    @property
    def isTimed(self) -> bool:
        """
        Whether it adds the time by itself, and has room for fields.
        """

    def write(self, lines: Sequence[Line]) -> None:
        """
        Take lines, and write what waits.

        @raise OSError: Not all of it could be written.  What is left is kept
            for the next call, whose lines may be none.
        """

    def reopen(self) -> None:
        """
        Open it again, where it may have been moved away.

        @raise OSError: That cannot be done; the old one is still there.
        """

    def rotate(self) -> None:
        """
        Move what was written away, and begin anew.

        @raise OSError: That cannot be done; the old one is still there.
        """


class LogWriter:
    """
    A bounded queue of lines, and the thread that writes them.  When the queue is
    full, further lines are dropped and counted; that they were is told in a line
    when there is room again.

    What is put before the thread is started waits in the queue, so that a process
    can still fork.

    @ivar dropped: How many lines were dropped so far.
    """

    def __init__(
        self,
        destination: IDestination,
        tell: Callable[[int], Line],
        queued: int = _QUEUED,
    ) -> None:
        """
        @param tell: Makes the line that tells how many lines were dropped.
        @param queued: How many lines may wait.
        """
        self.dropped = 0
        self._destination = destination
        self._tell = tell
        self._queued = queued
        # Of these a signal may interrupt any method and call it again.
        self._lines: SimpleQueue[Line | None] = SimpleQueue()
        self._hurry: SimpleQueue[None] = SimpleQueue()
        self._orders: deque[Callable[[], None]] = deque()
        self._flushing: deque[Event] = deque()
        self._told = 0
        self._whenTold = -_RETRY
        self._thread: Thread | None = None
        self._deadline: float | None = None

    # -- in any thread, and in signals ----------------------------------------------

    def put(self, line: Line) -> None:
        """
        Have a line written soon.
        """
        if self._lines.qsize() >= self._queued:
            self.dropped += 1
            return
        if len(line.text) > _LONGEST:
            line = line._replace(text=line.text[:_LONGEST] + "...")
        self._lines.put(line)
        if self._deadline is not None and current_thread() is not self._thread:
            self._flush()

    def start(self) -> None:
        """
        Begin to write.
        """
        self._thread = Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def reopen(self) -> None:
        """
        Have the destination opened again, where it may have been moved away.
        """
        self._order(self._destination.reopen)

    def rotate(self) -> None:
        """
        Have what was written moved away.
        """
        self._order(self._destination.rotate)

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.append(order)
        self._wake()

    def _wake(self) -> None:
        self._lines.put(None)
        self._hurry.put(None)

    def finish(self, deadline: float) -> None:
        """
        Write what waits.  From now on each line is waited for.

        @param deadline: Until when to wait, by the monotonic clock.  The first one
            that was said holds.
        """
        if self._deadline is None:
            self._deadline = deadline
        self._flush()

    def _flush(self) -> None:
        assert self._deadline is not None
        if self._thread is None:  # the server has ended before it served
            self._writeNow()
            return
        done = Event()
        self._flushing.append(done)
        self._wake()
        done.wait(max(0.0, self._deadline - time.monotonic()))

    def _writeNow(self) -> None:
        try:
            self._destination.write(self._take())
        except OSError:
            pass  # there is nobody to tell

    # -- in the thread --------------------------------------------------------------

    def _work(self) -> None:
        lines: list[Line] = []
        while True:
            flushing = len(self._flushing)
            self._obey()
            lines += self._take()
            if lines:
                self._write(lines)
                lines = []
            elif flushing:
                for _ in range(flushing):
                    self._flushing.popleft().set()
            elif not self._flushing and not self._orders:
                self._rest(_GATHERING)
                lines = self._wait()

    def _wait(self) -> list[Line]:
        try:
            first = self._lines.get(timeout=_RETRY if self._hasToTell else None)
        except Empty:
            first = None
        return [] if first is None else [first]

    def _take(self) -> list[Line]:
        lines = []
        now = time.monotonic()
        if self._hasToTell and now >= self._whenTold + _RETRY:
            dropped = self.dropped
            lines.append(self._tell(dropped - self._told))
            self._told, self._whenTold = dropped, now
        try:
            while len(lines) < _BATCH:
                line = self._lines.get_nowait()
                if line is not None:
                    lines.append(line)
        except Empty:
            pass
        return lines

    @property
    def _hasToTell(self) -> bool:
        return self.dropped > self._told

    def _rest(self, seconds: float) -> None:
        try:
            self._hurry.get(timeout=seconds)
        except Empty:
            pass

    def _write(self, lines: Sequence[Line]) -> None:
        works = True
        while True:
            try:
                self._destination.write(lines)
                return
            except OSError as problem:
                if works:
                    self._complain("cannot be written for now", problem)
                works, lines = False, ()
                self._rest(_RETRY)
                self._obey()

    def _obey(self) -> None:
        while self._orders:
            try:
                self._orders.popleft()()
            except OSError as problem:
                self._complain("stays where it is", problem)

    def _complain(self, trouble: str, problem: OSError) -> None:
        _log.error(
            "the log {name} {trouble}: {problem}",
            name=self._destination.name,
            trouble=trouble,
            problem=problem.strerror or str(problem),
        )
