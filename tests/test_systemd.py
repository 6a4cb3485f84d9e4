# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A server as a service of systemd.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from tests.conversation import tunnel
from tests.test_stop import assertCarries, waitUntilClosed

if TYPE_CHECKING:
    from tests.conftest import Server

UNIT = Path(__file__).parent.parent / "deploy" / "twisted-socks5.service"


class Systemd:
    """
    Hears what servers tell systemd.
    """

    def __init__(self, heard: socket.socket) -> None:
        self._messages: SimpleQueue[bytes] = SimpleQueue()
        # Only a few wait in the kernel.
        Thread(target=self._hear, args=(heard,), daemon=True).start()

    def _hear(self, heard: socket.socket) -> None:
        while (message := heard.recv(4096)) != b"end":
            self._messages.put(message)

    def next(self) -> bytes:
        """
        Wait for the next message.
        """
        return self._messages.get(timeout=30)

    def hear(self, text: bytes) -> bytes:
        """
        Wait for a message; those of the watchdog may come at any time.
        """
        for _ in range(300):
            message = self.next()
            if message.startswith(text):
                return message
            assert message == b"WATCHDOG=1"
        raise AssertionError("there are signs of life, and nothing else")


@pytest.fixture(params=["file", "abstract"])
def systemd(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Systemd]:
    """
    Hears what servers tell systemd, twice in 200 ms.
    """
    path = f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(path if request.param == "file" else "\0" + path)
        at = path if request.param == "file" else "@" + path
        monkeypatch.setenv("NOTIFY_SOCKET", at)
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        yield Systemd(heard)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
            telling.sendto(b"end", heard.getsockname())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_told(
    start: Callable[..., Server],
    systemd: Systemd,
    listener: socket.socket,
    tmp_path: Path,
    workers: str,
) -> None:
    """
    It serves; it is alive; it loads something; it stops, and is alive until it has.
    """
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\naction = "allow"\n')
    server = start(
        *("--workers", workers, "--rules", str(rules), "--set", "timeout.grace=600")
    )
    assert systemd.hear(b"READY=1") == b"READY=1"
    for _ in range(3):
        assert systemd.hear(b"WATCHDOG=1") == b"WATCHDOG=1"
    server.process.send_signal(signal.SIGHUP)
    message = systemd.hear(b"RELOADING=1\n")
    assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", message)
    systemd.hear(b"READY=1")
    server.waitForLog("the configuration was loaded", int(workers))
    client, destination = tunnel(server, listener)
    server.process.send_signal(signal.SIGTERM)
    systemd.hear(b"STOPPING=1")
    waitUntilClosed(server)
    for _ in range(3):
        systemd.hear(b"WATCHDOG=1")
    assertCarries(client, destination)
    client.close()
    destination.close()
    server.process.wait(10)


def test_notThere(
    start: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    If systemd does not listen, the server serves nevertheless.
    """
    monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/nothing")
    server = start()
    server.waitForLog("systemd was not told")


def test_watchdogOfAnotherProcess(
    start: Callable[..., Server],
    systemd: Systemd,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    It is not ours to say that it is alive.
    """
    monkeypatch.setenv("WATCHDOG_PID", "1")
    server = start()
    assert systemd.next() == b"READY=1"
    server.process.send_signal(signal.SIGTERM)
    assert systemd.next() == b"STOPPING=1"
    server.process.wait(10)


def test_unit(tmp_path: Path) -> None:
    """
    systemd finds nothing wrong with ours.
    """
    if shutil.which("systemd-analyze") is None:
        assert "CI" not in os.environ, "systemd-analyze is not installed"
        pytest.skip("systemd-analyze is not installed")
    text = UNIT.read_text()
    # It must be there.
    here = re.sub(r"/opt/\S+/twistd", f"{sys.prefix}/bin/twistd", text)
    assert here != text
    unit = tmp_path / UNIT.name
    unit.write_text(here)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
