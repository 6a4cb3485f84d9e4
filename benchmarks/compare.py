# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Puts servers under the same loads in turn, on loopback, and prints one table.

Each figure is the median over the rounds. The first one is what counts: what the work
costs the server, in processor time (user and system, of all its processes) or memory.
The one in brackets is how fast it went by the clock, load generator and destination
sharing the machine; "ping" has it in front. docs/explanation/performance.rst explains
each column.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks import works
from benchmarks.chart import chart
from benchmarks.failed import Failed
from benchmarks.results import Results, describeMachine
from benchmarks.running import Running, freePort
from benchmarks.servers import HERE, ROOT, SERVERS, Places, Server, installPeers
from benchmarks.servers import output as outputOf
from benchmarks.table import notes, table
from benchmarks.works import WORKS, Amounts, Figures, Work


def _choice(known: Sequence[str], text: str) -> list[str]:
    chosen = [word.strip() for word in text.split(",")]
    for word in chosen:
        if word not in known:
            raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(known)}")
    # In the order that we know, whatever order they were asked for in.
    return [word for word in known if word in chosen]


def _works(text: str) -> list[str]:
    return _choice(list(WORKS), text)


def _servers(text: str) -> list[str]:
    return _choice(list(SERVERS), text)


def _atLeastOne(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


def _positive(text: str) -> float:
    if not 0 < (number := float(text)) <= 600:
        raise ValueError
    return number


_atLeastOne.__name__ = "number"
_positive.__name__ = "number of seconds"


def _python() -> Path:
    """
    This interpreter if it has Twisted, else that of the repository's environment.
    """
    here, environment = Path(sys.executable), ROOT / ".venv/bin/python"
    # "twisted" alone is found here: it holds our plugins.
    if find_spec("twisted.internet") is None and environment.exists():
        return environment
    return here


def parser() -> argparse.ArgumentParser:
    """
    The command line.
    """
    listed = "\n".join(f"  {work.name:8}{work.title}" for work in WORKS.values())
    one = argparse.ArgumentParser(
        prog="benchmarks/run",
        description=__doc__,
        epilog=f"works:\n{listed}\n\nservers:\n"
        + "\n".join(
            f"  {name:12}{' '.join((find.__doc__ or '').split())}"
            for name, find in SERVERS.items()
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = one.add_argument
    add(
        "--rounds",
        type=_atLeastOne,
        default=3,
        metavar="N",
        help="how often everything is measured (default: 3); servers take turns in each",
    )
    add(
        "--only",
        type=_works,
        default=list(WORKS),
        metavar="WORK,...",
        help="works (default: all)",
    )
    add(
        "--servers",
        type=_servers,
        default=list(SERVERS),
        metavar="SERVER,...",
        help="servers (default: all; those that are absent are skipped)",
    )
    add(
        "--seconds",
        type=_positive,
        default=3.0,
        metavar="S",
        help="how long each work takes (default: 3)",
    )
    add(
        "--tunnels",
        type=_atLeastOne,
        default=2000,
        metavar="N",
        help='how many "idle" holds open (default: 2000)',
    )
    add("--json", type=Path, metavar="FILE", help="save all figures of all rounds")
    add("--svg", type=Path, metavar="FILE", help="draw the medians")
    add(
        "--read",
        type=Path,
        metavar="FILE",
        help="measure nothing: show what --json has saved",
    )
    add(
        "--python",
        type=Path,
        default=_python(),
        metavar="FILE",
        help="interpreter for the servers on Twisted (default: %(default)s)",
    )
    add(
        "--peers",
        type=Path,
        metavar="FOLDER",
        help="virtual environment with pproxy and asyncio-socks-server "
        "(default: peers in the cache)",
    )
    add(
        "--install-peers",
        action="store_true",
        help="make that environment first, from PyPI",
    )
    add(
        "--cache",
        type=Path,
        default=HERE / ".cache",
        metavar="FOLDER",
        help="where to put what is built (default: %(default)s)",
    )
    return one


def _found(names: Sequence[str], places: Places, results: Results) -> Iterator[Server]:
    for name in names:
        try:
            server = SERVERS[name](places)
        except Failed as reason:
            results.skipped[name] = str(reason)
        else:
            results.servers[server.name] = server.version
            yield server


def _measure(load: Path, server: Server, work: Work, amounts: Amounts) -> Figures:
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), freePort()
        os.chmod(folder, 0o755)  # Dante reads its configuration as somebody else
        command = server.command(port, folder)
        with Running(command, port, folder, server.environment) as running:
            works.warmUp(load, running)
            return work.run(load, running, amounts)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def measure(options: argparse.Namespace, command: str) -> Results:
    """
    Measure what was asked for.

    @raise Failed: There is nothing to measure, or with.
    """
    options.cache.mkdir(parents=True, exist_ok=True)
    places = Places(
        options.python.absolute(),
        options.cache.resolve(),
        (options.peers or options.cache / "peers").absolute(),
    )
    if options.install_peers:
        installPeers(places)
    load = works.build(places.cache)
    version = outputOf(str(places.python), "--version")
    results = Results(command, describeMachine(version))
    servers = list(_found(options.servers, places, results))
    amounts = Amounts(options.seconds, options.tunnels)
    for round in range(1, options.rounds + 1):
        for work in (WORKS[name] for name in options.only):
            for server in servers:
                if work.name not in server.works:
                    continue
                _progress(f"round {round}: {work.name}: {server.name}")
                try:
                    outcome: Figures | str = _measure(load, server, work, amounts)
                except Failed as reason:
                    outcome = str(reason)
                results.add(server.name, work.name, outcome)
    _progress("")
    return results


def _terminate(*_: object) -> None:
    raise SystemExit(1)  # so that what was started is ended


def main(arguments: Sequence[str]) -> int:
    """
    The program.

    @return: Its status.
    """
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        if options.read is not None:
            results = Results.read(options.read)
        elif not sys.platform.startswith("linux"):
            raise Failed("needs Linux, for what /proc tells of processes")
        else:
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            command = shlex.join(["benchmarks/run", *arguments])
            results = measure(options, command)
            if options.json is not None:
                results.save(options.json)
        if options.svg is not None:
            options.svg.write_text(chart(results))
    except Failed as reason:
        print(f"benchmarks/run: {reason}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"benchmarks/run: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if results.runs:
        print(table(results), end="\n\n")
    for line in notes(results):
        print(line)
    return 0 if results.runs else 1
