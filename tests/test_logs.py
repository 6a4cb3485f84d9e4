# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Logs of started servers: where they go, and what becomes of the server when they
cannot go there.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.conftest import TWIST
from tests.conversation import (
    assertServes,
    connectTo,
    connectToName,
    failure,
    freePorts,
    readAll,
)

TWISTD = (
    "-c",
    "from twisted.scripts.twistd import run; run()",
    "--nodaemon",
    "--pidfile=",
)
RUN = (sys.executable, *TWISTD)

# A name of bytes that are no name, which take the most room in a line.
NASTY = bytes(range(1, 256))
GREET = b"\x05\x01\x00"


class Started:
    """
    A server that may have nowhere to log to.
    """

    def __init__(
        self,
        *arguments: str,
        runner: Sequence[str] = (*TWISTD, "socks5"),
        output: int = subprocess.DEVNULL,
    ) -> None:
        self.port = freePorts(1)
        self.process = subprocess.Popen(
            [sys.executable, *runner, "--port", str(self.port), *arguments],
            stdout=output,
        )
        try:
            waitUntil(self._serves)
        except BaseException:
            self.process.kill()
            raise

    def _serves(self) -> bool:
        assert self.process.poll() is None
        try:
            with self.connect() as client:
                client.sendall(GREET)
                return client.recv(2)[:1] == b"\x05"
        except ConnectionRefusedError:
            return False

    def connect(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), 10)
        client.settimeout(10)
        return client

    def refuse(self, name: bytes = NASTY) -> None:
        """
        Have it refuse a request.
        """
        with self.connect() as client:
            client.sendall(GREET + connectToName(name, 80))
            assert readAll(client)[:2] == b"\x05\x00"

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)


@pytest.fixture
def run() -> Iterator[Callable[..., Started]]:
    started: list[Started] = []

    def running(*arguments: str, **options: object) -> Started:
        started.append(Started(*arguments, **options))  # type: ignore[arg-type]  # they are passed on
        return started[-1]

    yield running
    for server in started:
        if server.process.poll() is None:
            server.stop()


def waitUntil(isSo: Callable[[], bool]) -> None:
    """
    Wait for what another process or thread does.
    """
    end = time.monotonic() + 30
    while not isSo():
        assert time.monotonic() < end
        time.sleep(0.01)


def linesOf(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


# -- nowhere to write to (X8) -----------------------------------------------------------

ALL = ("--set", "log.sample=0")


@pytest.mark.parametrize(
    ("runner", "arguments"),
    [
        ((*TWISTD, "--logfile=/dev/full", "socks5"), ()),
        ((*TWISTD, "socks5"), ("--set", "log.to=file:/dev/full")),
        ((*TWISTD, "socks5"), ("--set", "log.access-to=file:/dev/full")),
        ((*TWIST[:2], "--log-file=/dev/full", *TWIST[2:]), ()),
    ],
)
def test_diskIsFull(
    run: Callable[..., Started],
    listener: socket.socket,
    runner: Sequence[str],
    arguments: Sequence[str],
) -> None:
    """
    The service goes on, and ends when it is told to.
    """
    server = run(*ALL, *arguments, runner=runner)
    for _ in range(20):
        server.refuse()
    assertServes(server, listener)
    server.stop()


@pytest.mark.parametrize(
    ("runner", "arguments"),
    [
        ((*TWISTD, "socks5"), ()),
        ((*TWISTD, "--logfile=-", "socks5"), ("--set", "log.format=json")),
        ((*TWISTD, "-l/dev/null", "socks5"), ("--set", "log.access-to=stdout")),
        (TWIST, ()),
        ((*TWIST[:2], *TWIST[3:]), ()),  # its own JSON
    ],
)
def test_pipeIsNotRead(
    run: Callable[..., Started],
    listener: socket.socket,
    runner: Sequence[str],
    arguments: Sequence[str],
) -> None:
    """
    More is logged than a pipe holds, and nobody reads it: the service goes on, and
    ends when it is told to.  What waited is all there once somebody reads.
    """
    reading, writing = os.pipe()
    server = run(*ALL, *arguments, runner=runner, output=writing)
    os.close(writing)
    for _ in range(1200):  # of nearly 1000 bytes each
        server.refuse()
    assertServes(server, listener)
    with open(reading, "rb") as pipe:
        read = b""
        while read.count(b"CONNECT") < 1201:
            line = pipe.readline()
            assert line  # it has not ended
            read += line
        for _ in range(100):  # and it is full again
            server.refuse()
        server.stop()
    assert len(read) > 2**20


def test_pipeIsClosed(run: Callable[..., Started], listener: socket.socket) -> None:
    reading, writing = os.pipe()
    server = run(output=writing)
    os.close(writing)
    os.close(reading)
    server.refuse()
    assertServes(server, listener)
    server.stop()


def test_diskHasRoomAgain(run: Callable[..., Started], tmp_path: Path) -> None:
    """
    Sessions that ended meanwhile are all there, each on a line of its own; that it
    could not be written was told once.
    """
    access = tmp_path / "access"
    reading, writing = os.pipe()
    server = run(*ALL, "--set", f"log.access-to=file:{access}", output=writing)
    os.close(writing)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (3000, -1))
    for _ in range(10):
        server.refuse()
    waitUntil(lambda: access.stat().st_size == 3000)
    with open(reading, "rb") as pipe:
        complaint = f"the log {access} cannot be written for now: File too large"
        assert any(complaint.encode() in line for line in pipe)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (-1, -1))
        waitUntil(lambda: len(linesOf(access)) == 11)
        server.stop()
        assert b"cannot be written" not in pipe.read()
    numbers = [int(line.split("session=")[1].split()[0]) for line in linesOf(access)]
    assert numbers == list(range(1, 12))


# -- files ------------------------------------------------------------------------------


def test_allIsThereAtTheEnd(run: Callable[..., Started], tmp_path: Path) -> None:
    """
    What is logged when the server ends is not left in the queue.
    """
    log = tmp_path / "log"
    server = run(runner=(*TWISTD, f"--logfile={log}", "socks5"))
    server.refuse()
    server.stop()
    lines = linesOf(log)
    assert "starting up" in "".join(lines)
    assert "session=2 " in "".join(lines)
    assert "Received SIGTERM, shutting down." in "".join(lines)
    assert lines[-1].endswith("Server Shut Down.")
    assert log.stat().st_mode & 0o777 == 0o640 & ~currentUmask()
    pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \[[^]]+\] \S"
    assert all(re.match(pattern, line) for line in lines)


def currentUmask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def test_daemon(tmp_path: Path, listener: socket.socket) -> None:
    """
    A daemon is not the process that was started; it logs all the same.
    """
    port, pid = freePorts(1), tmp_path / "pid"
    command = [sys.executable, *TWISTD[:2], f"--pidfile={pid}", f"--rundir={tmp_path}"]
    command += ["--logfile=log", "socks5", "--port", str(port)]
    command += ["--set", f"log.access-to=file:{tmp_path}/access"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=30)
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            client.settimeout(10)
            client.sendall(GREET + connectTo(listener.getsockname()[1]))
            listener.accept()[0].close()
            assert readAll(client).startswith(b"\x05\x00\x05\x00")
        waitUntil(lambda: len(linesOf(tmp_path / "access")) == 1)
    finally:
        os.kill(int(pid.read_text()), signal.SIGTERM)
    waitUntil(lambda: not pid.exists())
    lines = linesOf(tmp_path / "log")
    assert "starting up" in "".join(lines)
    assert any("SOCKS5 at 127.0.0.1" in line for line in lines)
    assert lines[-1].endswith("Server Shut Down.")


@pytest.mark.parametrize("hasRules", [False, True])
def test_reopening(run: Callable[..., Started], tmp_path: Path, hasRules: bool) -> None:
    """
    Moving files away, as logrotate does, and SIGHUP: no session is missing, and no
    line is cut.
    """
    rules = tmp_path / "rules.toml"
    rules.write_text("[[rule]]\naction = 'allow'\n")
    arguments = ("--rules", str(rules)) if hasRules else ()
    log, access = tmp_path / "log", tmp_path / "access"
    target = f"log.access-to=file:{access}"
    runner = (*TWISTD, f"--logfile={log}", "socks5")
    server = run(*ALL, "--set", target, *arguments, runner=runner)
    count, enough = 0, Event()

    def refuse() -> None:
        nonlocal count
        while not enough.is_set():
            server.refuse()
            count += 1

    thread = Thread(target=refuse)
    thread.start()
    try:
        for turn in range(1, 6):
            waitUntil(lambda: len(linesOf(access)) >= 10)
            access.rename(tmp_path / f"access.{turn}")
            log.rename(tmp_path / f"log.{turn}")
            server.process.send_signal(signal.SIGHUP)
            waitUntil(lambda: access.exists() and log.exists())
    finally:
        enough.set()
        thread.join()
    server.stop()
    lines = [line for path in tmp_path.glob("access*") for line in linesOf(path)]
    refused = [line for line in lines if line.endswith("an address") or "\\xff" in line]
    assert len(refused) == count
    assert all(line.startswith("time=") for line in lines)
    numbers = {line.split("session=")[1].split()[0] for line in lines}
    assert len(numbers) == len(lines)
    assert linesOf(log)[-1].endswith("Server Shut Down.")


def test_cannotReopen(run: Callable[..., Started], tmp_path: Path) -> None:
    """
    Lines go on to the old file.
    """
    folder = tmp_path / "folder"
    folder.mkdir()
    log, access = tmp_path / "log", folder / "access"
    target = f"log.access-to=file:{access}"
    server = run("--set", target, runner=(*TWISTD, f"-l{log}", "socks5"))
    folder.rename(tmp_path / "moved")
    server.process.send_signal(signal.SIGHUP)
    complaint = f"the log {access} stays where it is: No such file"
    waitUntil(lambda: complaint in log.read_text())
    server.refuse()
    waitUntil(lambda: len(linesOf(tmp_path / "moved" / "access")) == 2)


def test_rotating(run: Callable[..., Started], tmp_path: Path) -> None:
    """
    So many are kept, and the last lines are in the last one.
    """
    access = tmp_path / "access"
    settings = [f"access-to=file:{access}", "rotate-bytes=5000", "rotate-files=2"]
    arguments = [part for each in settings for part in ("--set", f"log.{each}")]
    server = run(*arguments, *ALL)
    first = tmp_path / "access.1"
    for turn in range(2, 50):
        server.refuse()
        waitUntil(
            lambda t=turn: (
                f"session={t} "
                in "".join(  # type: ignore[misc]  # of a lambda with a default
                    linesOf(access) + linesOf(first)
                )
            )
        )
    assert {path.name for path in tmp_path.iterdir()} == {
        "access",
        "access.1",
        "access.2",
    }
    assert first.stat().st_size >= 5000
    server.process.send_signal(signal.SIGTERM)


def test_rotatingByTwistdsSignal(run: Callable[..., Started], tmp_path: Path) -> None:
    log = tmp_path / "log"
    server = run(runner=(*TWISTD, f"--logfile={log}", "socks5"))
    server.process.send_signal(signal.SIGUSR1)
    waitUntil(lambda: (tmp_path / "log.1").exists() and log.exists())
    server.stop()
    assert "starting up" in (tmp_path / "log.1").read_text()
    assert linesOf(log)[-1].endswith("Server Shut Down.")


# -- JSON ---------------------------------------------------------------------------------


@pytest.mark.parametrize("runner", [TWISTD, TWIST[:2]])
def test_json(
    run: Callable[..., Started], tmp_path: Path, runner: Sequence[str]
) -> None:
    """
    Every line of every log is an object, whatever clients send; and nowhere is a
    password.
    """
    users = tmp_path / "users"
    users.write_text("alice:s3cret\n")
    log, access = tmp_path / "log", tmp_path / "access"
    arguments = ["--auth", f"file:{users}", "--access-log", "json"]
    for setting in ("log.format=json", f"log.access-to=file:{access}"):
        arguments += ["--set", setting]
    option = "--logfile" if runner is TWISTD else "--log-file"
    server = run(*arguments, runner=(*runner, f"{option}={log}", "socks5"))
    name = b'\n"\r\x1b\\\x85\xff'
    for user, password in [(b"alice", b"s3cret"), (name, b"s3cret"), (name, NASTY)]:
        with server.connect() as client:
            claim = bytes([len(user)]) + user + bytes([len(password)]) + password
            client.sendall(b"\x05\x01\x02\x01" + claim + connectToName(NASTY, 80))
            readAll(client)
    server.stop()
    text = log.read_text() + access.read_text()
    assert "s3cret" not in text
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"time", "level", "namespace", "text"} <= events[0].keys()
    assert events[-1]["text"] in ("Server Shut Down.", "Main loop terminated.")
    sessions = [json.loads(line) for line in access.read_text().splitlines()]
    assert sessions[1]["user"] == "alice"
    assert sessions[1]["target"].endswith("\\xfe\\xff")
    assert sessions[2]["reason"]
    assert all(session["time"].startswith("20") for session in sessions)


def test_jsonWithSessions(run: Callable[..., Started], tmp_path: Path) -> None:
    """
    Sessions have their fields beside those of all events.
    """
    log = tmp_path / "log"
    runner = (*TWISTD, f"--logfile={log}", "socks5")
    server = run("--set", "log.format=json", runner=runner)
    server.refuse()
    server.stop()
    events = [json.loads(line) for line in log.read_text().splitlines()]
    [session] = [event for event in events if event.get("session") == 2]
    assert session["namespace"] == "twisted_socks5.access"
    assert session["level"] == "info"
    assert session["command"] == "CONNECT"
    assert session["target"].endswith("\\xfe\\xff")
    assert "text" not in session


def test_refusalsByRules(
    run: Callable[..., Started], listener: socket.socket, tmp_path: Path
) -> None:
    """
    A refusal's line has the rule that has refused, also where an earlier one had
    let the name pass; and who, from where, to where, and why.
    """
    users, rules = tmp_path / "users", tmp_path / "rules.toml"
    users.write_text("alice:word\n")
    rules.write_text(
        "[[rule]]\naction = 'deny'\nto = '127.0.0.0/8'\n[[rule]]\naction = 'allow'\n"
    )
    access = tmp_path / "access"
    arguments = ["--auth", f"file:{users}", "--rules", str(rules)]
    for setting in (f"log.access-to=file:{access}", "log.sample=0"):
        arguments += ["--set", setting]
    server = run(*arguments, "--access-log", "json")
    for request in (connectTo(80), connectToName(b"localhost", 80)):
        with server.connect() as client:
            client.sendall(b"\x05\x01\x02\x01\x05alice\x04word" + request)
            assert readAll(client) == b"\x05\x02\x01\x00" + failure(2)
    waitUntil(lambda: len(linesOf(access)) == 3)
    for line, target in zip(
        linesOf(access)[1:], ("127.0.0.1:80", "localhost:80"), strict=True
    ):
        session = json.loads(line)
        assert session["rule"] == 1
        assert session["reason"] == "rule 1 (deny to=127.0.0.0/8)"
        assert session["user"] == "alice"
        assert session["client"].startswith("127.0.0.1:")
        assert session["target"] == target
        assert session["reply"] == "02"
        assert "decision" not in session


@pytest.mark.parametrize("target", ["log", "file"])
def test_flood(
    run: Callable[..., Started], listener: socket.socket, tmp_path: Path, target: str
) -> None:
    """
    Of many refusals the first ones are written, the others only counted, also
    those of the last second; who was served is written all the same.
    """
    path = tmp_path / ("access" if target == "file" else "log")
    settings = ["--set", "log.sample=3"]
    if target == "file":
        settings += ["--set", f"log.access-to=file:{path}"]
    runner = (*TWISTD, f"--logfile={tmp_path / 'log'}", "socks5")
    server = run(*settings, runner=runner)
    for _ in range(50):
        server.refuse()
    for _ in range(5):
        assertServes(server, listener)
    server.stop()
    lines = path.read_text()
    assert lines.count("reply=00") == 5
    refused = (
        lines.count("reply=04") + lines.count("reply=08") + lines.count("reply=01")
    )
    counts = [int(count) for count in re.findall(r"suppressed=(\d+) ", lines)]
    assert counts
    assert refused + sum(counts) == 50
    assert 'client=127.0.0.1 reason="' in lines


# -- daemons that take logs -----------------------------------------------------------------


@pytest.fixture
def taking(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as taker:
        taker.bind(str(tmp_path / "socket"))
        taker.settimeout(10)
        yield taker


def test_syslog(
    run: Callable[..., Started], taking: socket.socket, tmp_path: Path
) -> None:
    server = run("--set", f"log.access-to=syslog:{tmp_path}/socket")
    server.refuse()
    lines = [taking.recv(65536).decode() for _ in range(2)]
    pattern = (
        rf"<30>\w{{3}} [ \d]\d [\d:]{{8}} socks5\[{server.process.pid}\]: session=2 "
    )
    assert re.match(pattern, lines[1])
    # Another daemon comes in its place.
    taking.close()
    os.unlink(tmp_path / "socket")
    server.refuse()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(tmp_path / "socket"))
        other.settimeout(10)
        assert b"session=3 " in other.recv(65536)


def test_journal(
    run: Callable[..., Started], taking: socket.socket, tmp_path: Path
) -> None:
    target = f"journald:{tmp_path}/socket"
    run("--set", f"log.to={target}", "--set", "log.access-to=log").refuse()
    while True:
        datagram = taking.recv(65536).decode()
        assert datagram.endswith("\n")
        fields = dict(line.split("=", 1) for line in datagram.splitlines())
        if fields.get("SOCKS5_SESSION") == "2":
            break
    assert fields["MESSAGE"].startswith("session=2 client=127.0.0.1:")
    assert fields["PRIORITY"] == "6"
    assert fields["SYSLOG_IDENTIFIER"] == "socks5"
    assert fields["SOCKS5_COMMAND"] == "CONNECT"
    assert fields["SOCKS5_TARGET"].endswith("\\xff")


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("log.to=nowhere", "expected runner, stdout, file:PATH, syslog or journald"),
        ("log.access-to=runner", "expected log, stdout, file:PATH, syslog or journald"),
        ("log.access-to=file:", "expected file:PATH"),
        ("log.access-to=stdout:x", "expected stdout without a colon"),
        ("log.access-to=file:/nonexistent/a", "/nonexistent/a: No such file"),
        ("log.to=file:/", "log.to /: Is a directory"),
        ("log.format=xml", "expected runner or text or json"),
        ("log.sample=-1", "must be 0 or more"),
    ],
)
def test_wrongSettings(setting: str, words: str) -> None:
    command = [*RUN, "socks5", "--port=0", "--set", setting]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr


def test_daemonHasNoOutput(tmp_path: Path) -> None:
    command = [*RUN[:3], "--pidfile=", "socks5", "--set", "log.access-to=stdout"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=30, cwd=tmp_path
    )
    assert done.returncode != 0
    assert "a daemon has none; add --nodaemon" in done.stderr


def test_loggerOfOnesOwn(tmp_path: Path) -> None:
    """
    Who names a logger has it.
    """
    logger = "twisted.logger.LogPublisher"
    command = [*RUN, f"--logger={logger}", "socks5", "--set", "log.to=stdout"]
    for more in ([], ["--check"]):
        done = subprocess.run(
            [*command, *more], capture_output=True, text=True, timeout=30
        )
        assert "log.to stdout: --logger writes the log already" in done.stderr
