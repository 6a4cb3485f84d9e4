# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Servers with workers that cannot serve at all: they do not start.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import TWIST, twistdIn
from tests.conversation import freePort
from tests.everybody import NOBODY
from tests.test_start import refused
from tests.test_workers import ready

if TYPE_CHECKING:
    from tests.conftest import Server

EXPECTED = {
    "making": "socks5: --policy inworker: this cannot be made in a worker",
    "starting": "socks5: in a worker",
    "exiting": "socks5: worker 1 has ended",
}
"""
What is told, by what goes wrong.
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=60
    )


def isListening(port: int) -> bool:
    with closing(socket.socket()) as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def assertUnreadable(python: str, command: list[str], users: Path) -> str:
    """
    A server does not start, and tells in one line that it cannot read its accounts.

    @return: What it has logged, which is all that is left of what a daemon tells.
    """
    port = freePort()
    done = subprocess.run(
        [python, *command, "--port", str(port)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stdout
    (line,) = done.stderr.splitlines()
    assert line == f"socks5: --auth file: {users}: Permission denied"
    assert not isListening(port)
    return done.stdout


@pytest.mark.parametrize(
    ("runner", "what"),
    [("twist", "making"), ("twist", "exiting"), ("twistd", "starting")],
)
@pytest.mark.usefixtures("inWorker")
def test_inForeground(tmp_path: Path, runner: str, what: str) -> None:
    """
    The program ends with the line of the worker, and nothing listens; it was tried
    once.
    """
    port = freePort()
    command = TWIST if runner == "twist" else twistdIn(tmp_path)
    arguments = ("--workers", "2", "--policy", f"inworker:{what}", "--port", str(port))
    done = run(*command, *arguments)
    assert done.returncode == 1, done.stdout
    assert done.stderr == f"{EXPECTED[what]}\n"
    assert "worker 2" not in done.stdout
    assert "SOCKS5 at" not in done.stdout
    assert not isListening(port)


@pytest.mark.usefixtures("inWorker")
def test_asDaemon(tmp_path: Path) -> None:
    """
    Whoever starts a daemon is told that it has not started, and the log has the line.
    """
    port = freePort()
    script = "from twisted.scripts.twistd import run; run()"
    done = run(
        *("-c", script, f"--rundir={tmp_path}", f"--pidfile={tmp_path}/pid"),
        *(f"--logfile={tmp_path}/twistd.log", "socks5"),
        *("--workers", "2", "--policy", "inworker:making", "--port", str(port)),
    )
    assert done.returncode == 1
    assert "CannotStart: socks5: --policy inworker: this" in done.stderr
    assert "Traceback" not in done.stderr
    log = tmp_path / "twistd.log"
    for _ in range(2000):
        if not isListening(port):
            break
        time.sleep(0.01)  # another process: there is nothing to wait for
    assert not isListening(port)
    assert f"worker 1: {EXPECTED['making']}\n" in log.read_text()
    assert not (tmp_path / "pid").exists()


@pytest.mark.usefixtures("inWorker")
def test_systemdIsNotTold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Systemd waits to hear that the server serves, and does not.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"{tmp_path}/notify")
        heard.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/notify")
        refused("--workers", "2", "--policy", "inworker:making", "--port", "0")
        with pytest.raises(BlockingIOError):
            heard.recv(100)


def test_asOneProcess(tmp_path: Path) -> None:
    """
    What is wrong at the start is told as of one process, before there is a worker.
    """
    for wrong in (
        ("--port", "65536"),
        ("--port", "ssl:0:privateKey=/nonexistent"),
        ("--auth", "file:/nonexistent/users"),
        ("--config", "/nonexistent/file"),
        ("--bogus",),
    ):
        assert refused("--workers", "2", *wrong) == refused(*wrong)


def test_accountsOfRoot(
    start: Callable[..., Server],
    everybodysPython: str,
    everybodysFolder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Accounts that workers cannot read, which have no privileges any more.
    """
    monkeypatch.setenv("PYTHONPATH", str(everybodysFolder))
    monkeypatch.chdir(everybodysFolder)
    folder = everybodysFolder / "run"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    users = folder / "users"
    users.write_text("user:password\n")
    users.chmod(0o600)
    command = [
        *("-c", "from twisted.scripts.twistd import run; run()", "--nodaemon"),
        *("--pidfile=", f"--rundir={folder}", f"--uid={NOBODY}", f"--gid={NOBODY}"),
        *("socks5", "--workers", "2", "--auth", f"file:{users}"),
    ]
    assertUnreadable(everybodysPython, command, users)
    os.chown(users, NOBODY, NOBODY)
    server = start(python=everybodysPython, command=command, started="SOCKS5 at")
    ready(server)


def test_accountsOfRootInOneProcess(
    start: Callable[..., Server],
    everybodysPython: str,
    everybodysFolder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    They were readable when privileges had not been given up, which no login has any
    more: it ends as with workers.
    """
    monkeypatch.setenv("PYTHONPATH", str(everybodysFolder))
    monkeypatch.chdir(everybodysFolder)
    users = everybodysFolder / "users"
    users.write_text("user:password\n")
    users.chmod(0o600)
    command = [
        *("-c", "from twisted.scripts.twistd import run; run()", "--nodaemon"),
        *("--pidfile=", f"--uid={NOBODY}", f"--gid={NOBODY}"),
        *("socks5", "--auth", f"file:{users}"),
    ]
    log = assertUnreadable(everybodysPython, command, users)
    assert f"--auth file: {users}: Permission denied" in log
    assert "SOCKS5 at" not in log
    os.chown(users, NOBODY, NOBODY)
    start(python=everybodysPython, command=command, started="SOCKS5 at")


@pytest.mark.usefixtures("inWorker")
def test_hangup(start: Callable[..., Server]) -> None:
    """
    SIGHUP while the first worker is waited for ends nothing; it is obeyed afterwards.
    """
    server = start("--workers", "2", "--policy", "inworker:hanging-up")
    server.waitForLog("worker 1] the configuration was loaded")
    ready(server)


@pytest.mark.usefixtures("inWorker")
def test_laterStart(start: Callable[..., Server], tmp_path: Path) -> None:
    """
    When the first one has served, it is tried for ever.
    """
    path = tmp_path / "socks5.toml"
    text = "workers = 2\npolicy = 'inworker:{}'\n"
    path.write_text(text.format("nothing"))
    server = start("--config", str(path))
    pids = ready(server)
    path.write_text(text.format("making"))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    server.waitForLog("worker 5 has ended with status 1")
    path.write_text(text.format("nothing"))
    ready(server, 4)
    server.defects = server.output().count("#error")
