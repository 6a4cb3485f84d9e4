# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What C{--check} and C{--sample-config} tell of a configuration.
"""

from __future__ import annotations

import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.configuring import RULE, configured
from twisted_socks5.service.options import SOCKS5Options
from twisted_socks5.service.sample import sample, written
from twisted_socks5.service.settings import KEYS
from twisted_socks5.settings import Settings

if TYPE_CHECKING:
    from tests.conftest import Server

    Start = Callable[..., Server]


def test_sample(file: Callable[[str], str], tmp_path: Path) -> None:
    """
    Everything is in it, and all of it can be read with the marks taken away.
    """
    text = sample(SOCKS5Options)
    assert configured("--config", file(text)) == configured()
    whole = re.sub("^#(?! )", "", text, flags=re.MULTILINE)
    (tmp_path / "rules.toml").write_text(RULE)
    configuration = configured("--config", file(whole))
    assert configuration.settings == Settings()
    assert len(configuration.listeners) == 3
    for key, (_, field) in KEYS.items():
        _, _, name = key.partition(".")
        assert f"\n#{name} = {written(field.default)}\n" in text
    assert max(map(len, text.splitlines())) <= 88


def run(*arguments: str, cwd: object = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-c", "from twisted.scripts.twistd import run; run()"),
            *("--pidfile=pid", "--logfile=log", "socks5", *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=str(cwd) if cwd else None,
    )


def test_sampleAsAProgram() -> None:
    done = run("--sample-config")
    assert done.returncode == 0
    assert done.stdout == sample(SOCKS5Options)


def test_check(file: Callable[[str], str], tmp_path: Path) -> None:
    """
    It neither listens nor writes.
    """
    (tmp_path / "users").write_text("user:password\n")
    (tmp_path / "users").chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        file(f'auth = "file:users"\nport = {taken.getsockname()[1]}\n' + RULE)
        done = run("--check", "--config", "server.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "the configuration is right\n")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["server.toml", "users"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("auth = 'file:nobody'", "server.toml:1: auth file: {path}/nobody: No such"),
        ("auth = 'memry:a'", "auth memry: no such plugin; there is"),
        (
            "policy = 'gard'",
            "server.toml:1: policy gard: no such plugin; there is guard",
        ),
        ("port = 'ssl:1:privateKey=k'", "server.toml:1: port ssl:1:privateKey=k: "),
        ("port = 'tcp:x'", "server.toml:1: port tcp:x: port x: expected a number"),
        ("authenticator = 'certificate'", "authenticator certificate: nobody could"),
        ("default-route = 'socks5:x'", "server.toml:1: default-route socks5: "),
        ("rleay = 'auto'", "server.toml:1: unknown key 'rleay'"),
    ],
)
def test_checkFails(
    file: Callable[[str], str], tmp_path: Path, text: str, words: str
) -> None:
    file(text)
    done = run("--check", "--config", "server.toml", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert words.format(path=tmp_path) in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(one.name for one in tmp_path.iterdir()) == ["server.toml"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[log]\nto = 'file:no/log'", "2: log.to {path}/no/log: No such file"),
        ("[log]\naccess-to = 'file:.'", "2: log.access-to {path}/.: Is a directory"),
        ("[quota]\nfile = 'no/q'", "2: quota.file {path}/no/q: expected a folder"),
        ("[quota]\nfile = 'server.toml'", "server.toml: file is not a database"),
        ("port = 'unix:no/s'", "1: port unix:no/s: {path}/no: No such file"),
        (f"port = 'unix:{'s' * 120}'", f"{'s' * 120}: AF_UNIX path too long"),
        ("port = 'tls:no:1'", "1: port tls:no:1: no: No such file"),
        (
            "port = 'unix:server.toml'",
            "1: port unix:server.toml: {path}/server.toml: F",
        ),
        ("auth = 'memory:a:b'\nport = 'tcp:1:interface=192.0.2.1'", "Cannot assign"),
        (
            "interface = '192.0.2.1'",
            "1: interface tcp:1080:interface=192.0.2.1: Cannot",
        ),
        # There is no such address; with the name of an interface it could be one.
        (r"port = 'tcp6:1:interface=fe80\:\:5\:3%lo'", "Cannot assign"),
        ("port = 'tcp:1'", "1: port tcp:1: anybody could use this proxy from other"),
        ("metrics = 'unix:no/s'", "1: metrics unix:no/s: {path}/no: No such file"),
    ],
)
def test_checkLooks(
    file: Callable[[str], str], tmp_path: Path, text: str, words: str
) -> None:
    """
    What a start would open is looked at, and nothing of it is made.
    """
    path = file(text)
    with pytest.raises(SystemExit) as wrong:
        configured("--check", "--config", path)
    told = str(wrong.value)
    assert words.format(path=tmp_path) in told
    assert told.startswith(f"socks5: {path}:")
    assert [one.name for one in tmp_path.iterdir()] == ["server.toml"]


def test_checkMakesNothing(file: Callable[[str], str], tmp_path: Path) -> None:
    """
    Neither files that a start would make, nor what a database has beside it; and what
    is there stays as it is.
    """
    with closing(sqlite3.connect(tmp_path / "old")) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE some (thing)")
    (tmp_path / "log").write_text("a line\n")
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    text = (
        "port = ['unix:socket', 'systemd:domain=INET:index=0']\n"
        "log = {{ to = 'file:log', access-to = 'file:access' }}\nquota.file = '{}'\n"
    )
    for quotas in ("old", "new"):
        path = file(text.format(quotas))
        with pytest.raises(SystemExit) as done:
            configured("--check", "--config", path)
        assert done.value.code == 0
    Path(path).unlink()
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before


def test_checkWarns(
    file: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """
    What a start would warn of is told once, and is no error.
    """
    path = file("auth = 'memory:a:b'\nport = 0")
    Path(path).chmod(0o644)
    with pytest.raises(SystemExit) as done:
        configured("--check", "--config", path)
    assert done.value.code == 0
    assert capsys.readouterr().out == (
        f"warning: other users of this host can read {path}; chmod 600 keeps them out\n"
        "the configuration is right\n"
    )


@pytest.mark.parametrize("endpoint", ["tcp:0:127.0.0.1:9", "tcp6:0:9", "tcp6:0"])
def test_backlogWithoutName(file: Callable[[str], str], endpoint: str) -> None:
    path = file(f"auth = 'memory:a:b'\nport = '{endpoint}'")
    with pytest.raises(SystemExit) as done:
        configured("--check", "--config", path)
    assert done.value.code == 0


def test_checkWarnsOfNoAccounts(
    file: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Nobody gets in by a file in which nobody is; lines without a colon are no accounts.
    """
    (tmp_path / "users").write_text("\nalice\n")
    (tmp_path / "users").chmod(0o600)
    with pytest.raises(SystemExit) as done:
        configured("--check", "--config", file("auth = 'file:users'\nport = 0"))
    assert done.value.code == 0
    assert capsys.readouterr().out == (
        f"warning: {tmp_path}/users has no accounts: nobody is let in\n"
        "the configuration is right\n"
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("1080", "'tcp:1080:interface=127.0.0.1'"),
        ("1080", "'haproxy:tcp:1080'"),
        ("'tcp:1080'", "1080"),
        ("'tcp6:1080'", "'tcp6:1080:interface=\\:\\:1'"),
        ("'tcp6:1080:50'", "'tcp6:1080:9:\\:\\:1'"),
        ("'tcp:1080:127.0.0.1'", "'ssl:1080:interface=127.0.0.1'"),
        ("'mtls:1080:privateKey=k'", "'tcp:port=1080'"),
        ("'unix:a'", "'unix:address=a:mode=600'"),
        ("'systemd:domain=INET:index=0'", "'systemd:index=0:domain=INET'"),
    ],
)
def test_twoAtOnePlace(file: Callable[[str], str], first: str, second: str) -> None:
    """
    One line tells of both, before anything listens.
    """
    path = file(f"port = {first}\n[[listener]]\nendpoint = {second}")
    with pytest.raises(SystemExit) as wrong:
        configured("--config", path)
    told = str(wrong.value)
    assert told.startswith(f"socks5: {path}:3: endpoint ")
    assert f": {path}:1: port " in told
    assert "listens there already; expected another place" in told
    metrics = file(f"port = {first}\nmetrics = {second}")
    with pytest.raises(SystemExit, match=f"{path}:2: metrics .* {path}:1: port "):
        configured("--config", metrics)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("0", "'tcp:0'"),
        ("1080", "1081"),
        ("1080", "'tcp:1080:interface=127.0.0.2'"),
        ("1080", "'tcp6:1080:interface=\\:\\:1'"),
        ("'tcp:1080'", "'tcp6:1080:interface=\\:\\:1'"),
        ("'unix:a'", "'unix:b'"),
        ("'systemd:domain=INET:index=0'", "'systemd:domain=INET:index=1'"),
        ("'tcp:x'", "'tcp:x'"),
        ("'other:1080'", "'other:1080'"),
    ],
)
def test_twoPlaces(file: Callable[[str], str], first: str, second: str) -> None:
    path = file(f"port = {first}\n[[listener]]\nendpoint = {second}")
    assert len(configured("--config", path).listeners) == 2


def test_allAddressesOfBothKinds(file: Callable[[str], str]) -> None:
    """
    Whether they are in each other's way is for the system, which is asked.
    """
    path = file("port = ['tcp:1080', 'tcp6:1080']")
    with socket.socket(socket.AF_INET6) as some:
        areApart = some.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    if areApart:
        assert len(configured("--config", path).listeners) == 2
    else:
        with pytest.raises(SystemExit, match="port tcp6:1080: .* listens there alread"):
            configured("--config", path)
