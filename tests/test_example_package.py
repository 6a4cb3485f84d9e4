# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The example of a third-party package: built, installed in an environment of its
own beside ours, and used from C{twistd}.
"""

from __future__ import annotations

import hmac
import inspect
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from twisted.internet.task import Clock

from tests.conversation import connectTo, failure, readAll, readExactly

if TYPE_CHECKING:
    from tests.conftest import Server

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "plugin-package"
SECRET = bytes(range(32))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A clean virtual environment with both packages, made from their wheels.
    """
    folder = tmp_path_factory.mktemp("environment")
    for source in (ROOT, EXAMPLE):
        subprocess.run(
            [sys.executable, "-m", "build", "--no-isolation", "--wheel"]
            + ["--outdir", str(folder / "dist"), str(source)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    wheels = [str(wheel) for wheel in (folder / "dist").glob("*.whl")]
    assert len(wheels) == 2
    done = subprocess.run(
        [str(folder / "venv/bin/pip"), "install", "--quiet", *wheels],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0 and os.environ.get("CI") != "true":
        pytest.skip(f"cannot install: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return folder / "venv"


@pytest.fixture
def startInstalled(
    environment: Path, start: Callable[..., Server], tmp_path: Path
) -> Callable[..., Server]:
    """
    Starts C{twistd} of that environment.
    """
    twistd = (str(environment / "bin/twistd"), "--nodaemon", "--pidfile=", "socks5")
    secrets = tmp_path / "secrets"
    secrets.write_text(f"alice:{SECRET.hex()}\n")

    def starting(*arguments: str) -> Server:
        arguments = ("--authenticator", f"challenge:{secrets}", *arguments)
        return start(
            *arguments,
            command=twistd,
            python=str(environment / "bin/python"),
            started="SOCKS5 at",
        )

    return starting


def answer(name: bytes, secret: bytes, challenge: bytes) -> bytes:
    response = hmac.digest(secret, challenge, "sha256")
    return bytes((len(name),)) + name + response


def test_challenge(
    startInstalled: Callable[..., Server], listener: socket.socket
) -> None:
    server = startInstalled()
    request = connectTo(listener.getsockname()[1])
    for name, secret in ((b"alice", bytes(32)), (b"nobody", SECRET), (b"", SECRET)):
        with server.connect() as client:
            client.sendall(b"\x05\x01\x80")
            assert readExactly(client, 2) == b"\x05\x80"
            challenge = readExactly(client, 32)
            client.sendall(answer(name, secret, challenge) + request)
            assert readAll(client) == b"\x01"
    with server.connect() as client:
        client.sendall(b"\x05\x01\x80")
        again = readExactly(client, 34)[2:]
        assert again != challenge
        client.sendall(answer(b"alice", SECRET, again) + request)
        assert readExactly(client, 5)[:4] == b"\x00\x05\x00\x00"
    listener.accept()[0].close()
    server.waitForLog("user=alice")
    with server.connect() as client:
        client.sendall(b"\x05\x02\x00\x02")
        assert readAll(client) == b"\x05\xff"
    assert SECRET.hex() not in server.output()


@pytest.mark.parametrize("isOpen", [True, False])
def test_hours(
    startInstalled: Callable[..., Server], listener: socket.socket, isOpen: bool
) -> None:
    hour = time.localtime().tm_hour + (0 if isOpen else 3)
    policy = f"hours:{hour % 24}-{(hour + 2) % 24}"
    server = startInstalled("--authenticator", "none", "--policy", policy)
    with server.connect() as client:
        client.sendall(b"\x05\x01\x00" + connectTo(listener.getsockname()[1]))
        if isOpen:
            assert readExactly(client, 5) == b"\x05\x00\x05\x00\x00"
            listener.accept()[0].close()
        else:
            assert readAll(client) == b"\x05\x00" + failure(2)
            server.waitForLog("hours: closed")


def test_installedWhereTwistedLooks(environment: Path) -> None:
    told = subprocess.run(
        [str(environment / "bin/twistd"), "socks5", "--help-authenticator"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\nchallenge:FILE, with lines" in told.stdout
    assert not told.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("challenge", "missing a required argument: 'file'"),
        ("challenge:/nonexistent", "/nonexistent: No such file"),
        ("challenge:SECRETS", "line 2 is no new name"),
    ],
)
def test_wrongArguments(
    environment: Path, tmp_path: Path, arguments: str, words: str
) -> None:
    secrets = tmp_path / "secrets"
    secrets.write_text(f"alice:{SECRET.hex()}\nbob:beef\n")
    arguments = arguments.replace("SECRETS", str(secrets))
    done = subprocess.run(
        [str(environment / "bin/twistd"), "-n", "--pidfile=", "socks5"]
        + ["--authenticator", arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("socks5: --authenticator challenge: ")
    assert words in line


# -- from its source -------------------------------------------------------------


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))


def test_authenticatorIsShort(source: None) -> None:
    from socks5_office.challenge import ChallengeResponse

    assert len(inspect.getsource(ChallengeResponse).splitlines()) < 30


@pytest.mark.parametrize(
    ("hours", "opened"),
    [
        ("9-17", range(9, 17)),
        ("0-24", range(24)),
        ("22-6", [*range(6), 22, 23]),
        ("9-9", []),
    ],
)
def test_everyHour(source: None, hours: str, opened: list[int]) -> None:
    from socks5_office.hours import OfficeHours

    clock = Clock()
    policy = OfficeHours(clock, hours)
    found = []
    for hour in range(24):
        clock.rightNow = time.mktime((2026, 6, 1, hour, 59, 59, 0, 0, -1))
        if policy.isOpen():
            found.append(hour)
    assert found == list(opened)


@pytest.mark.parametrize("hours", ["", "9", "9-", "9-25", "nine-five", "9:00-17:00"])
def test_noHours(source: None, hours: str) -> None:
    from socks5_office.hours import OfficeHours

    with pytest.raises(ValueError, match="expected FIRST-END"):
        OfficeHours(Clock(), hours)
