# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Starts that are refused, each with one line that says what to do.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Server


def refused(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "twisted", "socks5", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode != 0
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("socks5: ")
    assert "Traceback" not in done.stderr + done.stdout
    return lines[0]


@pytest.mark.parametrize("port", ["65536", "abc", "-1", "nosuch:1"])
def test_wrongPort(port: str) -> None:
    assert "--port" in refused("--port", port)


@pytest.mark.parametrize(
    ("port", "words"),
    [
        ("tcp:", "port : expected a number from 0 to 65535"),
        ("tcp6:x", "port x: expected a number"),
        ("tcp:port=1_0", "port 1_0: expected a number"),
        ("haproxy:tcp:x:interface=::", "port x: expected a number"),
        ("tcp:0:backlog=x", "backlog x: expected a number"),
        ("tcp:0:1:2:3", "its arguments are wrong: "),
        ("mtls:0", "'privateKey'; expected PORT:privateKey=FILE:"),
        ("tls:/nonexistent:x", "port x: expected a number"),
        ("tls:/non\\:existent:0", "/non:existent: No such file or directory"),
        ("tls:/dev/null:0", "/dev/null: Not a directory"),
        ("unix:", "--port unix:: expected a path"),
        ("haproxy:unix:address=:mode=600", "expected a path"),
        ("systemd:domain=INET:index=0", "systemd has passed no such socket"),
        ("systemd:domain=INET:name=one", "systemd has passed no such socket"),
        ("haproxy:systemd:domain=INET:index=0", "has passed no such socket"),
    ],
)
def test_wrongEndpoint(port: str, words: str) -> None:
    line = refused("--port", port)
    assert words in line
    assert "()" not in line


def test_portInUse() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        line = refused("--port", str(taken.getsockname()[1]))
    assert "in use" in line


def test_socketInUse(start: Callable[..., Server], tmp_path: Path) -> None:
    start("--port", f"unix:{tmp_path}/socket")
    line = refused("--port", f"unix:{tmp_path}/socket")
    assert line.endswith("/socket: another server listens there already")


def test_portOfOurOwn() -> None:
    """
    Which one is in the way is told, rather than that it is in use.
    """
    line = refused("--port", "1080", "--port", "tcp:1080", "--open")
    assert line == (
        "socks5: --port tcp:1080: --port tcp:1080:interface=127.0.0.1 listens there "
        "already; expected another place"
    )


def test_unknownRelay() -> None:
    assert "expected auto or portable" in refused("--relay", "fast")


def test_openByAccident() -> None:
    assert "--open" in refused("--port", "tcp:0")
    assert "--open" in refused("--port", "haproxy:tcp:0:interface=127.0.0.1")


def test_wrongKey() -> None:
    line = refused("--set", "timeout.hanshake=3")
    assert "did you mean timeout.handshake?" in line
    assert "expected a number" in refused("--set", "timeout.idle=soon")


def test_missingPasswordFile() -> None:
    assert "No such file" in refused("--auth", "file:/nonexistent/users")


def test_missingKey() -> None:
    assert "No such file" in refused("--port", "ssl:0:privateKey=/nonexistent")


def test_unknownOption() -> None:
    assert "--bogus" in refused("--bogus")


def test_unknownPolicy() -> None:
    assert "guard" in refused("--policy", "gard")
