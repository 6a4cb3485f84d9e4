# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A started server, and destinations of the tests' own.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest


class Server:
    """
    C{twistd socks5} in a process of its own.
    """

    def __init__(self, log: str, arguments: list[str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = log
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "twisted", "socks5"]
                + ["--port", str(self.port), *arguments],
                stdout=output,
                stderr=output,
            )

    def connect(self, port: int | None = None) -> socket.socket:
        """
        A connection to it, as soon as it listens.
        """
        for _ in range(200):
            try:
                client = socket.create_connection(("127.0.0.1", port or self.port), 10)
            except ConnectionRefusedError:
                assert self.process.poll() is None, self.output()
                time.sleep(0.05)  # another process: there is nothing to wait for
            else:
                client.settimeout(10)
                return client
        raise AssertionError(self.output())

    def output(self) -> str:
        """
        What it has logged.
        """
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def waitFor(self, text: str) -> None:
        """
        Wait until it has logged something.
        """
        for _ in range(200):
            if text in self.output():
                return
            time.sleep(0.05)  # another process: there is nothing to wait for
        raise AssertionError(self.output())

    def descriptors(self) -> int:
        """
        How many it has open.
        """
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


@pytest.fixture
def start(tmp_path: object) -> Iterator[Callable[..., Server]]:
    """
    Starts servers; what one logs as an error fails the test.
    """
    servers: list[Server] = []

    def starting(*arguments: str) -> Server:
        server = Server(f"{tmp_path}/log{len(servers)}", list(arguments))
        server.connect().close()
        servers.append(server)
        return server

    yield starting
    for server in servers:
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(10)
        output = server.output()
        assert "#error" not in output, output
        assert "#critical" not in output, output
        assert "Unhandled" not in output, output


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """
    A destination on 127.0.0.1.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        yield listening
