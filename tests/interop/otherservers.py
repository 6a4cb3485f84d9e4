# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
SOCKS5 servers that others wrote, started for a test.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

USER, PASSWORD = "alice", "wonderland"


def freePort() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Program:
    """
    A program that listens, with all the processes that it starts.
    """

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        self.port = port
        self.log = log
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def waitForIt(self) -> None:
        """
        Return when it listens.
        """
        for _ in range(400):
            assert self.process.poll() is None, self.log.read_text(errors="replace")
            try:
                socket.create_connection(("127.0.0.1", self.port), 10).close()
            except ConnectionRefusedError:
                time.sleep(0.05)  # another process: there is nothing to wait for
            else:
                return
        raise AssertionError(self.log.read_text(errors="replace"))

    def stop(self) -> None:
        """
        End it.
        """
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        except ProcessLookupError:
            self.process.wait(10)


DANTE = """\
logoutput: stderr
internal: 127.0.0.1 port = {port}
external: 127.0.0.1
socksmethod: {method}
clientmethod: none
user.privileged: {user}
user.unprivileged: {user}
client pass {{
  from: 127.0.0.0/8 to: 0.0.0.0/0
}}
socks pass {{
  from: 127.0.0.0/8 to: 0.0.0.0/0
  command: bind connect udpassociate
}}
socks pass {{
  from: 0.0.0.0/0 to: 127.0.0.0/8
  command: bindreply udpreply
}}
"""


def dante(program: Callable[..., str], folder: Path, *, password: bool) -> Program:
    """
    Dante's server.  Its users are the system's, so it is shown a system with one
    more.
    """
    port = freePort()
    configuration = folder / "danted.conf"
    configuration.write_text(
        DANTE.format(
            port=port,
            method="username" if password else "none",
            user="root" if os.getuid() == 0 else USER,
        )
    )
    command = [program("danted", "sockd"), "-f", str(configuration)]
    if os.getuid() != 0:
        skip("Dante's server needs root")
    if password:
        command = withUser(program, folder, command)
    return Program(command, port, folder / "danted.log")


def skip(reason: str) -> None:
    assert os.environ.get("CI") != "true", reason
    pytest.skip(reason)


def withUser(
    program: Callable[..., str], folder: Path, command: list[str]
) -> list[str]:
    """
    A command that sees one more user than there is.
    """
    crypted = subprocess.run(
        [program("openssl"), "passwd", "-6", "-stdin"],
        input=PASSWORD.encode(),
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name, line in (
        ("passwd", f"{USER}:x:54321:54321::/nonexistent:/usr/sbin/nologin\n"),
        ("shadow", f"{USER}:{crypted.strip()}:19000:0:99999:7:::\n"),
    ):
        copy = folder / name
        copy.touch(0o600)
        shutil.copyfile(f"/etc/{name}", copy)
        copy.write_text(copy.read_text() + line)
        copy.chmod(0o644 if name == "passwd" else 0o600)
    unshare = program("unshare")
    script = (
        'mount --bind "$0/passwd" /etc/passwd && '
        'mount --bind "$0/shadow" /etc/shadow && exec "$@"'
    )
    isolated = [unshare, "-m", "sh", "-c", script, str(folder)]
    if subprocess.run([*isolated, "true"], capture_output=True).returncode:
        skip("no mount namespaces here")
    return [*isolated, *command]


def microsocks(program: Callable[..., str], folder: Path, *, password: bool) -> Program:
    """
    rofl0r's microsocks.
    """
    port = freePort()
    command = [program("microsocks"), "-i", "127.0.0.1", "-p", str(port)]
    if password:
        command += ["-u", USER, "-P", PASSWORD]
    return Program(command, port, folder / "microsocks.log")


def ssh(program: Callable[..., str], folder: Path, arguments: list[str]) -> Program:
    """
    C{ssh -D}.
    """
    port = freePort()
    command = [program("ssh"), "-N", "-D", f"127.0.0.1:{port}", *arguments]
    return Program(command, port, folder / "ssh.log")
