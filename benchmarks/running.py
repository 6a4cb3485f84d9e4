# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A server's processes: started, measured, ended.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from benchmarks.failed import Failed

_TICKS = os.sysconf("SC_CLK_TCK")
_START = 15.0
_STOP = 3.0


def freePort() -> int:
    """
    A port on 127.0.0.1 that nobody listens on, below those that are given out to
    clients, which fill up.
    """
    start = os.getpid() * 7 + time.monotonic_ns() // 1_000_000
    for offset in range(1000):
        port = 20000 + (start + offset) % 12000
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise Failed("no free port")


class Running:
    """
    A server that runs, in a session of its own, as a context.

    @ivar port: Where it listens on 127.0.0.1.
    """

    def __init__(
        self, command: list[str], port: int, folder: Path, environment: dict[str, str]
    ) -> None:
        """
        @param command: What starts it in the foreground.
        @param folder: Where it runs, and what it prints is kept.
        @param environment: Variables beside those there are.
        """
        self.port = port
        self._output = folder / "output"
        with open(self._output, "wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def __enter__(self) -> Running:
        try:
            self._waitUntilListening()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def cpu(self) -> float:
        """
        Processor time that it has used, user and system, with all its
        processes and those of them that have ended, in seconds.
        """
        ticks = 0
        for pid in self._pids():
            try:
                # After the name, which may hold anything: utime, stime, cutime,
                # cstime are fields 14 to 17 (proc(5)).
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
            except OSError:  # it has just ended
                continue
            ticks += sum(map(int, fields.split()[11:15]))
        return ticks / _TICKS

    def memory(self) -> float:
        """
        Memory of all its processes, each page shared among those that map it
        (PSS), in KiB.
        """
        total = 0
        for pid in self._pids():
            try:
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            total += sum(
                int(line.split()[1])
                for line in rollup.splitlines()
                if line.startswith("Pss:")
            )
        return total

    def settle(self) -> None:
        """
        Wait until it has nothing left to do, or 3 seconds.
        """
        end = time.monotonic() + 3
        before = -1.0
        while before != (before := self.cpu()) and time.monotonic() < end:
            time.sleep(0.2)

    def _pids(self) -> list[int]:
        children: dict[int, list[int]] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(path.parent.name))
        return list(_descent(self._process.pid, children))

    def _waitUntilListening(self) -> None:
        end = time.monotonic() + _START
        while self._process.poll() is None and time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        printed = self._output.read_text(errors="replace").strip().splitlines()
        raise Failed(f"did not start: {printed[-1] if printed else 'it said nothing'}")

    def _stop(self) -> None:
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP)
        except subprocess.TimeoutExpired:
            pass
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass


def _descent(pid: int, children: dict[int, list[int]]) -> Iterator[int]:
    yield pid
    for child in children.get(pid, ()):
        yield from _descent(child, children)
