# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Networks of the tests' own, in which nothing is reached but what they put there
(network_namespaces(7)).
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

_CLONE_NEWNET = 0x40000000


class Network:
    """
    A namespace, which lives as long as a process that does nothing.

    @ivar process: It.
    """

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            ["unshare", "--net", "sleep", "infinity"], stderr=subprocess.PIPE
        )
        own = os.readlink("/proc/self/ns/net")
        end = time.monotonic() + 10
        while os.readlink(f"/proc/{self.process.pid}/ns/net") == own:
            if self.process.poll() is not None or time.monotonic() > end:
                raise OSError("no network namespace can be made")
            time.sleep(0.01)  # another process: there is nothing to wait for
        self.run("link set lo up")

    def run(self, command: str) -> None:
        """
        Have ip(8) do something in it.
        """
        subprocess.run(
            ["nsenter", f"--net=/proc/{self.process.pid}/ns/net", "ip"]
            + command.split(),
            check=True,
            capture_output=True,
        )

    def join(self, other: Network, here: str, there: str) -> None:
        """
        Join it with another by a cable.

        @param here: The name of its own interface.
        @param there: That of the other's.
        """
        peer = f"{there} netns {other.process.pid}"
        self.run(f"link add {here} type veth peer name {peer}")
        for network, name in ((self, here), (other, there)):
            network.run(f"link set {name} up")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """
        What is opened or started by this thread meanwhile is in there.
        """
        with (
            open("/proc/thread-self/ns/net") as own,
            open(f"/proc/{self.process.pid}/ns/net") as there,
        ):
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(own.fileno())

    def close(self) -> None:
        """
        End it.
        """
        self.process.kill()
        self.process.communicate()


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def networks(count: int) -> Iterator[list[Network]]:
    """
    So many of them, for a fixture; where there can be none, the test is skipped.
    """
    with ExitStack() as stack:
        made = []
        try:
            for _ in range(count):
                network = Network()
                stack.callback(network.close)
                made.append(network)
            made[0].join(made[-1], "probe0", "probe1")
            made[0].run("link delete probe0")
        except (OSError, subprocess.CalledProcessError) as error:
            assert os.environ.get("CI") != "true", error
            pytest.skip(f"no networks of our own: {error}")
        yield made
