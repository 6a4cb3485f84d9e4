# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The loads that servers are put under, and what is measured of each.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.failed import Failed
from benchmarks.running import Running

SOURCE = Path(__file__).resolve().parent / "load.c"


@dataclass(frozen=True)
class Amounts:
    """
    How much load.

    @ivar seconds: How long the works that go by time take.
    @ivar tunnels: How many are held open in C{idle}.
    """

    seconds: float
    tunnels: int


@dataclass(frozen=True)
class Figures:
    """
    What one run of a work came to.

    @ivar cost: Of the server, in the work's unit.
    @ivar rate: How fast it went, in the work's unit.
    @ivar failed: How many of the work's connections were not served.
    """

    cost: float
    rate: float
    failed: int = 0


@dataclass(frozen=True)
class Work:
    """
    A load.

    @ivar name: What the table and C{--only} call it.
    @ivar title: What is done.
    @ivar cost: The unit of what it costs the server.
    @ivar rate: The unit of how fast it goes.
    @ivar leadsWithRate: Whether that is the figure to look at; else the cost is.
    @ivar run: Puts a server under it.
    """

    name: str
    title: str
    cost: str
    rate: str
    run: Callable[[Path, Running, Amounts], Figures]
    leadsWithRate: bool = False


def build(cache: Path) -> Path:
    """
    Compile the load generator, unless that was done before.

    @raise Failed: There is no compiler, or it did not work.
    """
    built = cache / "load"
    if built.exists() and built.stat().st_mtime > SOURCE.stat().st_mtime:
        return built
    compiler = shutil.which("cc")
    if compiler is None:
        raise Failed("no C compiler: install one (Debian: gcc and libc6-dev)")
    handle, new = tempfile.mkstemp(dir=cache)
    os.close(handle)
    done = subprocess.run(
        [compiler, "-O2", "-o", new, str(SOURCE)], capture_output=True, text=True
    )
    if done.returncode != 0:
        os.unlink(new)
        raise Failed(f"cc: {(done.stderr.strip().splitlines() or ['failed'])[0]}")
    os.replace(new, built)  # whole at once, for others that run it
    return built


def warmUp(load: Path, server: Running) -> None:
    """
    Have a server do once what it does only once, and come to rest.
    """
    _run([str(load), "ping", str(server.port), "0.05"])
    server.settle()


def _run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(_why(done.returncode, done.stderr))
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _why(status: int, errors: str) -> str:
    if status == -signal.SIGALRM:  # the load generator's own limit
        return "took too long"
    return errors.strip() or f"status {status}"


def _timed(
    load: Path, server: Running, work: str, amounts: Amounts, *more: int
) -> tuple[dict[str, Any], float]:
    """
    @return: What the load generator tells, and the processor time that the server
        has used meanwhile.
    """
    before = server.cpu()
    told = _run(
        [str(load), work, str(server.port), str(amounts.seconds), *map(str, more)]
    )
    return told, server.cpu() - before


def _conn(load: Path, server: Running, amounts: Amounts) -> Figures:
    told, cpu = _timed(load, server, "conn", amounts, 64)
    count = told["connections"]
    if not count:
        raise Failed("no connection was served")
    return Figures(cpu * 1e6 / count, told["in_time"] / amounts.seconds, told["failed"])


def _bulk(down: int, up: int) -> Callable[[Path, Running, Amounts], Figures]:
    def run(load: Path, server: Running, amounts: Amounts) -> Figures:
        told, cpu = _timed(load, server, "bulk", amounts, down, up)
        count = told["bytes"]
        return Figures(cpu * 1e9 / count, count * 8 / 1e9 / told["seconds"])

    return run


def _ping(load: Path, server: Running, amounts: Amounts) -> Figures:
    told, cpu = _timed(load, server, "ping", amounts)
    count = told["round_trips"]
    return Figures(cpu * 1e6 / count, count / told["seconds"])


def _udp(load: Path, server: Running, amounts: Amounts) -> Figures:
    told, cpu = _timed(load, server, "udp", amounts, 16, 512)
    count = told["round_trips"]
    return Figures(cpu * 1e6 / count, count / told["seconds"], told["lost"])


def _idle(load: Path, server: Running, amounts: Amounts) -> Figures:
    before = server.memory()
    with subprocess.Popen(
        [str(load), "idle", str(server.port), str(amounts.tunnels)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        opened = json.loads(process.stdout.readline() or '{"tunnels": 0}')
        held = server.memory() - before
        rest, errors = process.communicate("\n")
    if process.returncode != 0:
        raise Failed(_why(process.returncode, errors))
    if not opened["tunnels"]:
        raise Failed("no tunnel")
    dead = amounts.tunnels - json.loads(rest)["alive"]
    return Figures(
        held / opened["tunnels"], opened["tunnels"] / opened["seconds"], dead
    )


WORKS = {
    work.name: work
    for work in (
        Work("conn", "connections, 64 at once", "CPU us", "a second", _conn),
        Work("down", "download, 1 stream", "CPU s/GB", "Gbit/s", _bulk(1, 0)),
        Work("up", "upload, 1 stream", "CPU s/GB", "Gbit/s", _bulk(0, 1)),
        Work("both64", "32 down and 32 up", "CPU s/GB", "Gbit/s", _bulk(32, 32)),
        Work("ping", "a byte there and back", "CPU us", "a second", _ping, True),
        Work("idle", "memory of an idle tunnel", "KiB", "opened/s", _idle),
        Work("udp", "datagrams there and back", "CPU us", "a second", _udp),
    )
}
