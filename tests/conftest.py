# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A started server, and destinations of the tests' own.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from pytest_twisted import blockon
from twisted.internet.defer import Deferred

from tests.configuring import file
from tests.everybody import everybodysFolder, everybodysPython
from tests.kdc import Realm, served
from tests.loopback import Place, openSockets

__all__ = ["everybodysFolder", "everybodysPython", "file"]

# Whoever runs the tests in the background has it ignored, which all that they start
# would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

# To what is no terminal it would log in JSON.
TWIST = ("-m", "twisted", "--log-format=text", "socks5")


def twistdIn(folder: object) -> Sequence[str]:
    """
    C{twistd socks5}, which goes to a folder of its own before it serves.
    """
    run = "from twisted.scripts.twistd import run; run()"
    options = ("--nodaemon", "--pidfile=", f"--rundir={folder}")
    return ("-c", run, *options, "socks5")


class Server:
    """
    C{twistd socks5} in a process of its own.

    @ivar port: Where it listens on 127.0.0.1.
    @ivar baseline: How many descriptors it has open when nobody is connected.
    @ivar defects: How many defects of plugins it is to log.
    @ivar ofTwisted: How many tracebacks Twisted itself is to log.
    """

    port = 0
    baseline = 0
    defects = 0
    ofTwisted = 0

    def __init__(self, log: str, arguments: list[str], command: list[str]) -> None:
        self.log = log
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                [*command, "--set", "timeout.grace=0", *arguments],
                stdout=output,
                stderr=output,
            )

    def connect(self) -> socket.socket:
        """
        A connection to it.
        """
        client = socket.create_connection(("127.0.0.1", self.port), 10)
        client.settimeout(10)
        return client

    def output(self) -> str:
        """
        What it has logged, when nothing more comes for now: its log is written a moment
        later than what it tells of.
        """
        written = self.written()
        for _ in range(20):
            time.sleep(0.02)  # another process: there is nothing to wait for
            before, written = written, self.written()
            if written == before:
                break
        return written

    def written(self) -> str:
        """
        What it has logged so far.
        """
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def descriptors(self) -> int:
        """
        How many it has open.
        """
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def memory(self) -> int:
        """
        How many bytes of memory it has resident.
        """
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def waitUntil(self, isSo: Callable[[], bool], seconds: float = 30) -> None:
        """
        Wait for what only looking shows.
        """
        end = time.monotonic() + seconds
        while True:
            assert self.process.poll() is None, self.output()
            if isSo():
                return
            assert time.monotonic() < end, self.output()
            time.sleep(0.01)  # another process: there is nothing to wait for

    def waitForLog(self, text: str, times: int = 1) -> None:
        """
        Wait until it has logged a text so many times.
        """
        self.waitUntil(lambda: self.written().count(text) >= times)

    def waitForDescriptors(self, more: int) -> None:
        """
        Wait until it has so many descriptors more than without a client.
        """
        self.waitUntil(lambda: self.descriptors() == self.baseline + more)

    def address(self, endpoint: str) -> tuple[str, int]:
        """
        Where one of its listeners is.
        """
        pattern = rf"SOCKS5 at \[?(.*?)\]?:(\d+) \({re.escape(endpoint)}\)"
        found = re.search(pattern, self.output())
        assert found, self.output()
        return found[1], int(found[2])

    def stop(self) -> None:
        """
        Have it end, and see what it leaves.
        """
        try:
            if self.process.poll() is None:
                self.waitUntil(lambda: self.descriptors() <= self.baseline, 5)
        finally:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(10)
        output = self.output()
        assert output.count("#error") == self.defects, output
        assert "#critical" not in output, output
        assert output.count("Unhandled") == self.ofTwisted, output


@pytest.fixture
def start(tmp_path: object) -> Iterator[Callable[..., Server]]:
    """
    Starts servers; what one logs as an error, or leaves open, fails the test.
    """
    servers: list[Server] = []

    def starting(
        *arguments: str,
        command: Sequence[str] = TWIST,
        python: str = sys.executable,
        started: str = "Starting reactor",
        port: Sequence[str] = ("--port", "0"),
    ) -> Server:
        log = f"{tmp_path}/log{len(servers)}"
        server = Server(log, [*port, *arguments], [python, *command])
        servers.append(server)
        server.waitForLog(started)
        server.port = server.address("tcp:0:interface=127.0.0.1")[1]
        server.connect().close()
        server.waitForLog("session=")  # whose descriptor is closed by then
        server.baseline = server.descriptors()
        return server

    yield starting
    for server in servers:
        server.stop()


@pytest.fixture(params=["auto", "portable"])
def startEach(
    request: pytest.FixtureRequest, start: Callable[..., Server]
) -> Callable[..., Server]:
    """
    Starts servers with each of the relays in turn.
    """
    return partial(start, "--relay", request.param)


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    """
    A Kerberos realm, known to this process and those that it starts.
    """
    yield from served(Realm(tmp_path_factory.mktemp("kdc")))


@pytest.fixture
def place() -> Iterator[Place]:
    """
    Where things listen in this process; nothing is left open afterwards.
    """
    from twisted.internet import reactor

    before = openSockets()
    place = Place(reactor)
    yield place
    blockon(Deferred.fromCoroutine(place.close()))
    blockon(Deferred.fromCoroutine(place.until(lambda: not openSockets() - before)))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """
    A destination on 127.0.0.1.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        yield listening


@pytest.fixture
def denying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Has servers find the policy of L{tests.denying}.
    """
    havePlugin(tmp_path, monkeypatch, "from tests.denying import denying\n")


@pytest.fixture
def inWorker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Has servers find the policy of L{tests.inworker}.
    """
    havePlugin(tmp_path, monkeypatch, "from tests.inworker import inWorker\n")


def havePlugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """
    Have servers that are started find a module of plugins.
    """
    plugins = tmp_path / "path" / "twisted" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "plugin_of_tests.py").write_text(text)
    root = Path(__file__).parent.parent
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'path'}{os.pathsep}{root}")
