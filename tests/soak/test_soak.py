# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The soak test, shortened; and that it fails where sessions are lost.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
IDLE, RATE, SECONDS = 300, 100, 5


def soak(*server: str, workers: int = 1) -> tuple[int, str]:
    """
    What it says of a server with some options, and its status.
    """
    numbers = {"idle": IDLE, "rate": RATE, "seconds": SECONDS, "workers": workers}
    options = [f"--{name}={value}" for name, value in numbers.items()]
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak.soak", *options, "--", *server],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    print(done.stdout)
    return done.returncode, done.stdout


def figure(output: str, name: str) -> int:
    found = re.search(rf"^{name} +(\d+)", output, re.MULTILINE)
    assert found, output
    return int(found[1])


def test_nothingIsLost() -> None:
    status, output = soak()
    assert figure(output, "idle sessions") == IDLE
    assert figure(output, "idle sessions lost") == 0
    assert figure(output, "served meanwhile") == RATE * SECONDS
    assert figure(output, "failed") == 0
    assert status == 0, output


def test_aWorkerIsKilled() -> None:
    """
    That costs its own sessions, and no others.
    """
    status, output = soak(workers=2)
    assert figure(output, "idle sessions") == IDLE
    assert 0 < figure(output, "idle sessions lost")
    assert status == 0, output


@pytest.mark.parametrize("relay", ["auto", "portable"])
def test_itFailsIfSessionsAreLost(relay: str) -> None:
    """
    Here by a deadline for what rests.
    """
    status, output = soak("--set", "timeout.idle=2", "--relay", relay)
    assert figure(output, "idle sessions lost") == IDLE
    assert figure(output, "failed") == 0
    assert status == 1


def test_itFailsIfClientsAreNotServed() -> None:
    """
    Here by a limit, which the idle ones have used up.
    """
    status, output = soak("--set", f"limit.sessions={IDLE}")
    assert figure(output, "idle sessions lost") == 0
    assert figure(output, "served meanwhile") == 0
    assert figure(output, "failed") == RATE * SECONDS
    assert status == 1


def test_itFailsIfNothingIsReloaded(tmp_path: Path) -> None:
    """
    Here because the file of rules is another one.
    """
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\naction = "allow"\nto = ["loopback"]\n')
    status, output = soak("--rules", str(rules))
    assert figure(output, "failed") == 0
    assert "the rules were not loaded again" in output
    assert status == 1
