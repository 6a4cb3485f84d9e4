# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What C{deploy} has for containers, as far as it can be tried without one.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Server

ROOT = Path(__file__).parent.parent
CONTAINERFILE = (ROOT / "deploy" / "Containerfile").read_text()
COMPOSE = (ROOT / "deploy" / "compose.yaml").read_text()
HAPROXY = "haproxy:tcp:0:interface=127.0.0.1"


def healthy(port: int, *options: str) -> bool:
    """
    What the image's check says of a port.
    """
    check = ROOT / "deploy" / "healthcheck.py"
    done = subprocess.run(
        [sys.executable, str(check), str(port), *options],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert "Traceback" not in done.stderr
    assert (done.returncode == 0) == (done.stderr == "")
    return done.returncode == 0


def listIn(text: str, after: str) -> list[str]:
    """
    The words of a command that stands somewhere as a list.
    """
    (found,) = re.findall(rf"{after} (\[.*\])$", text, re.MULTILINE)
    words: list[str] = json.loads(found)
    return words


def test_entryPoint(start: Callable[..., Server]) -> None:
    """
    It is a command that there is, and what follows are the server's options.
    """
    program, *arguments = listIn(CONTAINERFILE, "ENTRYPOINT")
    installed = shutil.which(program, path=str(Path(sys.executable).parent))
    assert installed is not None
    server = start(
        "--port",
        HAPROXY,
        "--open",
        command=(installed, *arguments),
        started="SOCKS5 at",
    )
    assert healthy(server.port)
    assert healthy(server.address(HAPROXY)[1], "--proxied")


def test_passwords(start: Callable[..., Server]) -> None:
    """
    The check needs none.
    """
    assert healthy(start("--auth", "memory:user:password").port)


def test_notHealthy(start: Callable[..., Server]) -> None:
    """
    Nobody listens there; or it is something else; or it does not answer.
    """
    server = start("--port", HAPROXY, "--open")
    assert not healthy(server.address(HAPROXY)[1])  # without the header
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert not healthy(port)
    assert not healthy(port)


def test_whatIsCopied() -> None:
    """
    All that the image is made of is there.
    """
    for line in re.findall("^COPY (?!--from)(.*)$", CONTAINERFILE, re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists(), source
    for source in re.findall(r'"\./([^":]+):/', COMPOSE):
        assert (ROOT / "deploy" / source).exists(), source


def test_nodesOfCompose(start: Callable[..., Server], tmp_path: Path) -> None:
    """
    They start with those options, as soon as there are accounts.
    """
    users = tmp_path / "users"
    passwd = [sys.executable, "-m", "twisted_socks5.passwords", "--stdin"]
    subprocess.run([*passwd, str(users), "alice"], input=b"wonderland\n", check=True)
    rules = ROOT / "deploy" / "rules.toml"
    here = {
        "haproxy:tcp:1080": HAPROXY,
        "hashed:/run/secrets/users": f"hashed:{users}",
        "/run/rules.toml": str(rules),
    }
    words = listIn(COMPOSE, "command:")
    assert set(here) < set(words)
    server = start(*(here.get(word, word) for word in words))
    assert healthy(server.address(HAPROXY)[1], "--proxied")


@pytest.mark.parametrize("forged", ["192.0.2.7", "127.0.0.1"])
def test_fromNodeToNode(start: Callable[..., Server], forged: str) -> None:
    """
    Nobody gets by one node to the other, which would believe another PROXY header.
    """
    rules = str(ROOT / "deploy" / "rules.toml")
    server = start("--port", HAPROXY, "--open", "--rules", rules)
    with socket.create_connection(server.address(HAPROXY), 10) as client:
        client.sendall(f"PROXY TCP4 {forged} 192.0.2.1 5000 1080\r\n".encode())
        client.sendall(bytes.fromhex("05 01 00  05 01 00 01 0a 59 00 03 04 38"))
        client.settimeout(10)
        with client.makefile("rb") as answers:
            assert answers.read(4) == bytes.fromhex("05 00  05 02")


def test_elsewhere() -> None:
    """
    Clients of the nodes may go everywhere else.
    """
    rules = str(ROOT / "deploy" / "rules.toml")
    explain = [sys.executable, "-m", "twisted_socks5", "explain", "--rules", rules]
    asked = ["--user", "alice", "--from", "192.0.2.7", "CONNECT", "9.9.9.9:443"]
    subprocess.run([*explain, *asked], check=True, timeout=60)
