# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The server under test, with its workers, as the kernel sees them.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.soak.clients import Name

PATIENCE = 30.0

RULES = """\
[[rule]]
action = "allow"
to = ["loopback"]
tag = "{tag}"
"""


class Server:
    """
    C{twistd socks5} that goes by a file of rules.

    @ivar process: What was started, and takes the signals.
    @ivar address: Where it listens.
    """

    def __init__(self, folder: Path, workers: int, more: list[str]) -> None:
        self._rules = folder / "rules.toml"
        self._log = folder / "log"
        self._workers = workers
        self.writeRules("before")
        command = [sys.executable, "-m", "twisted", "--log-format=text", "socks5"]
        command += ["--port", "0", "--rules", str(self._rules)]
        if workers > 1:
            command += ["--workers", str(workers)]
        with open(self._log, "wb") as output:
            self.process = subprocess.Popen(
                [*command, *more], stdout=output, stderr=output
            )
        self.address: Name = ("127.0.0.1", 0)

    def begin(self) -> None:
        """
        Wait until clients can come.

        @raise RuntimeError: They cannot.
        """
        pattern = r"SOCKS5 at 127\.0\.0\.1:(\d+) "
        self.waitUntil(lambda: re.search(pattern, self.output()), "does not listen")
        found = re.search(pattern, self.output())
        assert found
        self.address = ("127.0.0.1", int(found[1]))
        self.waitUntil(lambda: len(self.workers()) == self._workers, "has no workers")

    def writeRules(self, tag: str) -> None:
        """
        Have what is allowed from the next reload on logged with a word.
        """
        self._rules.write_text(RULES.format(tag=tag))

    def output(self) -> str:
        """
        What it has logged.
        """
        return self._log.read_text(errors="replace")

    def waitUntil(self, isSo: Callable[[], object], otherwise: str) -> None:
        """
        Wait for what only looking shows.

        @raise RuntimeError: It did not come to be.
        """
        end = time.monotonic() + PATIENCE
        while not isSo():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the server {otherwise}: {self.output()[-2000:]}")
            time.sleep(0.05)  # another process: there is nothing to wait for

    def workers(self) -> list[int]:
        """
        The processes that serve.
        """
        main = self.process.pid
        if self._workers == 1:
            return [main]
        with open(f"/proc/{main}/task/{main}/children") as children:
            return [int(pid) for pid in children.read().split()]

    def memory(self) -> int:
        """
        How many bytes all of its processes have resident.
        """
        pages = 0
        for pid in {self.process.pid, *self.workers()}:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self, worker: int) -> int:
        """
        How many a worker has open: more, the more clients it has.
        """
        return len(os.listdir(f"/proc/{worker}/fd"))

    def kill(self, worker: int) -> set[Name]:
        """
        Kill a worker, which first has to hold still, to be looked at.

        @return: The clients that it had.
        """
        os.kill(worker, signal.SIGSTOP)
        clients = self._clientsOf(worker)
        os.kill(worker, signal.SIGKILL)
        return clients

    def _clientsOf(self, pid: int) -> set[Name]:
        inodes = set()
        for entry in os.scandir(f"/proc/{pid}/fd"):
            found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry.path))
            if found:
                inodes.add(found[1])
        clients = set()
        ours = f":{self.address[1]:04X}"
        with open(f"/proc/{pid}/net/tcp") as connections:
            next(connections)
            for line in connections:
                _, local, remote, *rest = line.split()
                if local.endswith(ours) and rest[6] in inodes:
                    clients.add(_name(remote))
        return clients

    def end(self) -> None:
        """
        Stop it.
        """
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _name(text: str) -> Name:
    """
    An address as the kernel writes it: 4 octets in the host's order, and the port.
    """
    host, _, port = text.partition(":")
    packed = int(host, 16).to_bytes(4, sys.byteorder)
    return socket.inet_ntoa(packed), int(port, 16)
