# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Many idle sessions stay up while others come and go, the server is told to
reload, and one of its workers is killed; from the root of the repository:

    python -m tests.soak.soak --idle 10000 --rate 500 --seconds 60 --workers 2

It ends with status 1 if a session was lost that should not have been, or one
that should have been was not.  All that happens is on loopback: clients are
spread over 127.0.0.0/8.  There are four processes beside the server's: this
one, the idle clients, the others, and the destinations.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import signal
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import attrs

from tests.soak import destination
from tests.soak.clients import Crowd, Name
from tests.soak.server import Server

AT_ONCE = 100
"""
How many idle sessions may be on their way at the same time.
"""

SPARE = 2000
"""
Descriptors that are needed beside those of idle sessions.
"""

WARMING = 200
"""
Clients that are served before anything is counted.
"""

UNEVEN = 1.6
"""
How much more than its share of the sessions a worker may have come to.
"""

_fork = multiprocessing.get_context("fork")


@attrs.define
class Served:
    """
    What became of the clients that come and go.

    @ivar count: How many were served.
    @ivar failed: Those that were not, with the reason.
    @ivar latencies: In seconds, from beginning to connect to the byte that came
        back, the shortest first.
    @ivar seconds: How long all of it took.
    """

    count: int
    failed: dict[Name, str]
    latencies: list[float]
    seconds: float


def hold(control: Connection, proxy: Name, port: int, count: int) -> None:
    """
    Have so many sessions, and tell when they are there; look at them again
    when asked to, and tell which have failed.
    """
    crowd = Crowd(proxy, port, "127.4")
    left = count
    while left or crowd.waiting:
        while left and crowd.waiting < AT_ONCE:
            crowd.add()
            left -= 1
        for _ in crowd.turn(1):
            pass
    control.send(crowd.names())
    while True:
        for _ in crowd.turn(0.1):
            pass
        if control.poll():
            control.recv()
            break
    crowd.ping()
    while crowd.waiting:
        for _ in crowd.turn(1):
            pass
    control.send(crowd.failed)


def load(control: Connection, proxy: Name, port: int, rate: int, seconds: int) -> None:
    """
    Have so many clients a second, each to be served and to leave.
    """
    crowd = Crowd(proxy, port, "127.5")
    latencies: list[float] = []
    total, begun = rate * seconds, 0
    start = time.monotonic()
    while begun < total or crowd.waiting:
        due = min(total, int((time.monotonic() - start) * rate) + 1)
        for _ in range(due - begun):
            crowd.add()
        begun = due
        nextDue = start + begun / rate - time.monotonic()
        for client in crowd.turn(nextDue if begun < total else 1):
            latencies.append(time.monotonic() - client.began)
            crowd.remove(client)
    took = time.monotonic() - start
    latencies.sort()
    control.send(Served(len(latencies), crowd.failed, latencies, took))


class Companion:
    """
    A process of ours, and how to talk to it.
    """

    def __init__(self, run: Any, *arguments: object) -> None:
        self.control, theirs = _fork.Pipe()
        self.process = _fork.Process(target=run, args=(theirs, *arguments), daemon=True)
        self.process.start()
        theirs.close()

    def hear(self) -> Any:
        """
        What it says next.

        @raise EOFError: It has ended.
        """
        return self.control.recv()

    def end(self) -> None:
        """
        Have it end.
        """
        self.control.close()
        self.process.terminate()
        self.process.join()


class Soak:
    """
    @ivar problems: What was not as it should be.
    """

    def __init__(self, options: argparse.Namespace, server: Server) -> None:
        self.options = options
        self.server = server
        self.problems: list[str] = []
        self._companions: list[Companion] = []

    def begin(self, run: Any, *arguments: object) -> Companion:
        """
        Begin a process.
        """
        companion = Companion(run, *arguments)
        self._companions.append(companion)
        return companion

    def end(self) -> None:
        """
        End all of them.
        """
        for companion in self._companions:
            companion.end()

    def run(self) -> None:
        """
        Do all of it, and print figures.
        """
        options, server = self.options, self.server
        port = self.begin(destination.serve).hear()
        server.begin()
        # What is there once, however many clients there are, is there afterwards.
        self.begin(load, server.address, port, WARMING, 1).hear()
        before = server.memory()

        holder = self.begin(hold, server.address, port, options.idle)
        idle: set[Name] = holder.hear()
        grown = (server.memory() - before) / options.idle
        print(f"idle sessions        {len(idle)} of {options.idle}")
        print(f"memory               {grown / 1024:.1f} KiB for each of them")

        loader = self.begin(load, server.address, port, options.rate, options.seconds)
        time.sleep(options.seconds / 3)
        server.writeRules("after")
        server.process.send_signal(signal.SIGHUP)
        time.sleep(options.seconds / 3)
        doomed: set[Name] = set()
        if options.workers > 1:
            doomed = server.kill(max(server.workers(), key=server.descriptors))
            print(f"killed a worker with {len(doomed)} sessions")
        served: Served = loader.hear()

        holder.control.send("look")
        self.judge(idle, holder.hear(), doomed, served)

    def judge(
        self,
        idle: set[Name],
        lost: dict[Name, str],
        doomed: set[Name],
        served: Served,
    ) -> None:
        """
        Compare what became of the clients with what should have.

        @param doomed: Those of the worker that was killed.
        """
        options, server = self.options, self.server
        print(f"idle sessions lost   {len(lost)}")
        print(f"served meanwhile     {served.count} in {served.seconds:.1f} s")
        print(f"failed               {len(served.failed)}")
        for percent in (50, 95, 99, 100):
            index = min(served.count - 1, served.count * percent // 100)
            if index >= 0:
                milliseconds = served.latencies[index] * 1000
                print(f"latency, {percent:3} %       {milliseconds:.1f} ms")
        if len(idle) < options.idle:
            self.problems.append("not all idle sessions came to be")
        self.compare("idle session lost", lost, doomed)
        self.compare("client not served", served.failed, doomed)
        if spared := (idle & doomed) - lost.keys():
            self.problems.append(f"{len(spared)} sessions outlived their worker")
        total = served.count + len(served.failed)
        if total != options.rate * options.seconds:
            self.problems.append(f"{total} clients came")
        if "tags=after" not in server.output():
            self.problems.append("the rules were not loaded again")
        try:
            server.waitUntil(
                lambda: len(server.workers()) == options.workers,
                "has not replaced the worker",
            )
        except RuntimeError as error:
            self.problems.append(str(error))

    def compare(self, what: str, gone: dict[Name, str], doomed: set[Name]) -> None:
        """
        Take down who is gone and was not doomed.
        """
        for name, reason in gone.items():
            if name not in doomed:
                self.problems.append(f"{what}: {name[0]}:{name[1]}, {reason}")


def enoughDescriptors(idle: int, workers: int) -> bool:
    """
    Have as many as each process needs, if it can be: a worker has two for each of
    its sessions.
    """
    share = min(idle, int(UNEVEN * idle / workers))
    needed = 2 * share + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        try:
            limits = (needed, max(needed, hard))
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        except (OSError, ValueError):
            print(f"{needed} descriptors are needed, {hard} allowed", file=sys.stderr)
            return False
    return True


def main(arguments: list[str]) -> int:
    """
    @return: 0 if all was as it should be, 1 if not, 2 if it could not be tried.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle", type=int, default=10000, help="sessions that rest")
    parser.add_argument("--rate", type=int, default=500, help="others, each second")
    parser.add_argument("--seconds", type=int, default=60, help="for how long")
    parser.add_argument("--workers", type=int, default=2, help="of the server; 1: none")
    parser.add_argument("server", nargs="*", help="options of the server, after --")
    options = parser.parse_args(arguments)
    if not enoughDescriptors(options.idle, options.workers):
        return 2
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), options.workers, options.server)
        soak = Soak(options, server)
        try:
            soak.run()
        finally:
            soak.end()
            server.end()
    for problem in soak.problems[:20]:
        print(problem, file=sys.stderr)
    print(f"problems             {len(soak.problems)}")
    return 1 if soak.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
