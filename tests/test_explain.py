# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
C{explain}, asked of a configuration.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.configuring import RULE
from twisted_socks5.service.explain import askedOf, parse

if TYPE_CHECKING:
    from tests.conftest import Server

    Start = Callable[..., Server]


def explained(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "twisted_socks5", "explain", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_explain(file: Callable[[str], str], tmp_path: Path) -> None:
    """
    It is told of the rules, the guard and the way out of the configuration, over which
    the command line wins.
    """
    text = (
        "policy = 'guard:local=elsewhere'\n"
        "default-route = 'socks5:tcp\\:127.0.0.1\\:1'\n" + RULE
    )
    path = file(text)
    asked = ("CONNECT", "127.0.0.1:80")
    assert explained("--config", path, *asked).returncode == 1
    assert explained("--config", path, "--policy", "guard", *asked).returncode == 0
    # Through the proxy, which looks it up: otherwise it would have no address here.
    assert explained("--config", path, "CONNECT", "no.invalid:80").returncode == 0
    (tmp_path / "deny.toml").write_text(RULE.replace("allow", "deny"))
    rules = ("--rules", str(tmp_path / "deny.toml"))
    assert (
        explained("--config", path, *rules, "CONNECT", "no.invalid:80").returncode == 1
    )


LISTENERS = """
policy = "guard:local=elsewhere"
port = [1080, "tcp:1082"]
[[rule]]
action = "allow"
port = 80
[[listener]]
endpoint = "unix:proxy.sock"
policy = "guard"
rules = "own.toml"
[[listener]]
endpoint = 1081
interface = "127.0.0.2"
rules = "own.toml"
[[listener]]
endpoint = { env = "TEST_ENDPOINT" }
"""

OWN = """
[[rule]]
action = "deny"
listener = "127.0.0.2:1081"
port = 22
[[rule]]
action = "allow"
"""


@pytest.fixture
def listeners(
    file: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    monkeypatch.setenv("TEST_ENDPOINT", "tcp:0:interface=127.0.0.3")
    (tmp_path / "own.toml").write_text(OWN)
    return file(LISTENERS)


@pytest.mark.parametrize(
    ("listener", "place", "address"),
    [
        ("unix:proxy.sock", 2, "unix:0"),
        ("unix", 2, "unix:0"),
        ("1081", 3, "127.0.0.2:1081"),
        ("127.0.0.2:1081", 3, "127.0.0.2:1081"),
        ("tcp:1081:interface=127.0.0.2", 3, "127.0.0.2:1081"),
        ("1080", 0, "127.0.0.1:1080"),
        ("tcp:1082", 1, "127.0.0.1:1082"),
        ("192.0.2.1:1082", 1, "192.0.2.1:1082"),
        ("tcp:0:interface=127.0.0.3", 4, "127.0.0.1:1080"),
    ],
)
def test_explainListener(
    listeners: str, listener: str, place: int, address: str
) -> None:
    """
    What decides at a listener is its own, where it has something of its own.
    """
    asked = ["explain", "--config", listeners, "CONNECT", "9.9.9.9:22"]
    _, _, default = askedOf(parse(asked))
    assert str(default) == "127.0.0.1:1080"
    access, _, found = askedOf(parse([*asked, "--listener", listener]))
    assert str(found) == address
    hasOwn = place in (2, 3)
    assert access.rules is not None
    assert len(list(access.rules.ruleset)) == (2 if hasOwn else 1)
    assert access.policy.text == ("guard" if place == 2 else "guard:local=elsewhere")
    access, *_ = askedOf(parse([*asked, "--listener", listener, "--policy", "mine"]))
    assert access.policy.text == "mine"


def test_explainAtAListener(listeners: str) -> None:
    asked = ("CONNECT", "9.9.9.9:22")
    done = explained("--config", listeners, "--listener", "1081", *asked)
    assert done.returncode == 1
    assert (
        "denied with 02: rule 1 (deny listener=127.0.0.2:1081 port=22)" in done.stdout
    )
    done = explained("--config", listeners, "--listener", "127.0.0.1:1081", *asked)
    assert done.returncode == 2
    assert done.stderr == (
        "socks5: --listener 127.0.0.1:1081: no such listener; expected one of "
        "tcp:1080:interface=127.0.0.1, tcp:1082, unix:proxy.sock, "
        f"tcp:1081:interface=127.0.0.2, that of {listeners}:16: endpoint\n"
    )


def test_explainOneOfSeveral(file: Callable[[str], str]) -> None:
    """
    It is asked which one is meant; without a configuration it is any address.
    """
    path = file("port = [1, 'tcp:1:interface=127.0.0.2']\n" + RULE + "listener = 1\n")
    asked = ("CONNECT", "9.9.9.9:80")
    done = explained("--config", path, "--listener", "1", *asked)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--listener 1: several are meant; expected one of tcp:1:int" in done.stderr
    rules = str(Path(path).with_name("rules.toml"))
    Path(rules).write_text(RULE + "listener = 1\n")
    for listener, status in (("192.0.2.1:1", 0), ("192.0.2.1:2", 1), ("1", 2)):
        told = explained("--rules", rules, "--listener", listener, *asked)
        assert told.returncode == status


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "socks5: there are no rules; expected --rules FILE, or some in --config"),
        ("prot = 1", "server.toml:1: unknown key 'prot'"),
        ("policy = 'gard'\n" + RULE, "server.toml:1: policy gard: no such plugin"),
    ],
)
def test_nothingToExplain(file: Callable[[str], str], text: str, words: str) -> None:
    done = explained("--config", file(text), "CONNECT", "127.0.0.1:80")
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
