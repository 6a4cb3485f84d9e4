# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Programs of others, destinations for them, and what the proxy logged of it.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Server

PAGE = b"""<!DOCTYPE html>
<title>A page</title>
<p id="text">not run</p>
<script src="/script.js"></script>
"""
SCRIPT = b"""document.getElementById("text").textContent = "run by the browser";"""


@pytest.fixture
def program() -> Callable[..., str]:
    """
    Finds a program, by the first of its names that there is.
    """

    def find(*names: str) -> str:
        for name in names:
            # sshd is not on everybody's path.
            path = shutil.which(name) or shutil.which(name, path="/usr/sbin")
            if path is not None:
                return path
        missing = f"{names[0]} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)

    return find


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """
    An environment that has no proxies and no configuration of the user's.
    """
    home = tmp_path / "home"
    home.mkdir()
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(("XDG_", "SSH_"))
    }
    return kept | {"HOME": str(home)}


@pytest.fixture
def run(
    environment: dict[str, str],
) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """
    Runs a program to its end.
    """

    def running(
        *command: str, given: bytes = b"", patience: float = 30
    ) -> subprocess.CompletedProcess[bytes]:
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        ) as process:
            try:
                output, errors = process.communicate(given, patience)
            except BaseException:
                # Also what it has started itself: a browser is many processes.
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    return running


@pytest.fixture
def accounts(tmp_path: Path) -> tuple[str, str]:
    """
    Arguments for a proxy that lets in alice, whose password is wonderland.
    """
    users = tmp_path / "users"
    users.touch(0o600)
    users.write_text("alice:wonderland\n")
    return "--auth", f"file:{users}"


_FIELD = re.compile(r'(\w+)=("[^"]*"|\S+)')


def _field(found: tuple[str, str]) -> tuple[str, Any]:
    """
    A field of the access log, numbers as numbers.
    """
    key, value = found
    if key in ("session", "up", "down"):
        return key, int(value)
    return key, value.strip('"')


@pytest.fixture
def sessions() -> Callable[..., list[dict[str, Any]]]:
    """
    Reads the access log of a proxy, as soon as that many sessions have ended
    (that carried something to the client, if C{used}), in their order.
    """

    def ended(
        server: Server, count: int = 1, used: bool = False
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for _ in range(200):
            events = [
                dict(map(_field, _FIELD.findall(line)))
                for line in server.output().splitlines(keepends=True)
                if " session=" in line and line.endswith("\n")
            ]
            # The first session is that by which the server was seen to listen.
            found = [event for event in events if event.get("session", 1) != 1]
            if sum(not used or event["down"] > 0 for event in found) >= count:
                return sorted(found, key=lambda event: int(event["session"]))
            time.sleep(0.05)  # another process: there is nothing to wait for
        raise AssertionError(server.output())

    return ended


class Web(ThreadingHTTPServer):
    """
    A web server on loopback, that remembers what it was asked for.
    """

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1") -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, 0), Pages)
        self.paths: list[str] = []

    @property
    def port(self) -> int:
        """
        The port that it has.
        """
        return int(self.server_address[1])


class Pages(BaseHTTPRequestHandler):
    """
    A page and its script; what is posted is sent back.
    """

    server: Web
    timeout = 30

    def do_GET(self) -> None:
        """
        Answer with the page or its script.
        """
        script = self.path == "/script.js"
        kind = "text/javascript" if script else "text/html"
        self._answer(SCRIPT if script else PAGE, kind)

    def do_POST(self) -> None:
        """
        Answer with what was sent.
        """
        length = int(self.headers["Content-Length"])
        self._answer(self.rfile.read(length), "application/octet-stream")

    def _answer(self, body: bytes, kind: str) -> None:
        self.server.paths.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """
        Say nothing.
        """


def serving(server: socketserver.BaseServer) -> Iterator[None]:
    """
    Have a server answer meanwhile.
    """
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def web() -> Iterator[Web]:
    """
    A web server on 127.0.0.1.
    """
    server = Web()
    for _ in serving(server):
        yield server


@pytest.fixture
def web6() -> Iterator[Web]:
    """
    A web server on ::1.
    """
    server = Web("::1")
    for _ in serving(server):
        yield server


class Echo(socketserver.StreamRequestHandler):
    """
    Reads to the end, and only then sends it all back.
    """

    timeout = 30

    def handle(self) -> None:
        """
        Serve a connection.
        """
        self.wfile.write(self.rfile.read())


@pytest.fixture
def echo() -> Iterator[int]:
    """
    The port on 127.0.0.1 of a destination that answers after a half-close.
    """
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    for _ in serving(server):
        yield server.server_address[1]


@pytest.fixture
def closedPort() -> Iterator[int]:
    """
    A port on 127.0.0.1 where nothing listens, nor will meanwhile.
    """
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


class SSHD:
    """
    An OpenSSH server on loopback, with keys of its own and no other way in.

    @ivar arguments: C{ssh}'s arguments that lead to it.
    """

    def __init__(self, sshd: str, keygen: str, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        for name in ("host", "user"):
            subprocess.run(
                [keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / name],
                check=True,
                timeout=30,
            )
        host = (folder / "host.pub").read_text()
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} {host}")
        (folder / "config").write_text(
            f"Port {self.port}\n"
            "ListenAddress 127.0.0.1\n"
            f"HostKey {folder}/host\n"
            f"AuthorizedKeysFile {folder}/user.pub\n"
            "AuthenticationMethods publickey\n"
            "PermitRootLogin prohibit-password\n"
            "StrictModes no\n"
            "UsePAM no\n"
            "PidFile none\n"
        )
        if os.getuid() == 0:
            # Where it confines what speaks to clients; it has to be there.  It
            # stays: another server may be using it.
            Path("/run/sshd").mkdir(0o755, exist_ok=True)
        self.log = folder / "log"
        with open(self.log, "wb") as output:
            self.process = subprocess.Popen(
                [sshd, "-D", "-e", "-f", folder / "config"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        options = [
            "BatchMode=yes",
            "ConnectTimeout=20",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            f"IdentityFile={folder}/user",
            "StrictHostKeyChecking=yes",
            f"UserKnownHostsFile={folder}/known",
            f"Port={self.port}",
        ]
        self.arguments = ["-F", "none", "-T"]
        for option in options:
            self.arguments += ["-o", option]
        self.arguments.append(f"{pwd.getpwuid(os.getuid()).pw_name}@127.0.0.1")

    def output(self) -> str:
        """
        What it has logged.
        """
        return self.log.read_text(errors="replace")

    def waitForIt(self) -> None:
        """
        Return when it listens.
        """
        for _ in range(200):
            if "Server listening on" in self.output():
                return
            assert self.process.poll() is None, self.output()
            time.sleep(0.05)  # another process: there is nothing to wait for
        raise AssertionError(self.output())


@pytest.fixture
def sshd(program: Callable[..., str], tmp_path: Path) -> Iterator[SSHD]:
    """
    An OpenSSH server that lets in who runs the tests.
    """
    folder = tmp_path / "sshd"
    folder.mkdir()
    server = SSHD(program("sshd"), program("ssh-keygen"), folder)
    try:
        server.waitForIt()
        yield server
    finally:
        server.process.terminate()
        server.process.wait(10)
