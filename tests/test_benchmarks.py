# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The benchmarks' command: that it runs, not what it measures.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parent.parent
TINY = ("--rounds", "1", "--seconds", "0.3", "--only", "conn,udp")


def run(*arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/run", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT.parent,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture
def compiler() -> None:
    """
    Without one there is no load generator.
    """
    if shutil.which("cc") is None:
        assert os.environ.get("CI") != "true", "no C compiler"
        pytest.skip("no C compiler")


def test_help() -> None:
    help = run("--help").stdout
    for word in ("--rounds", "--json", "both64", "microsocks"):
        assert word in help


def test_isExecutable() -> None:
    done = subprocess.run(
        [ROOT / "benchmarks/run", "--help"], capture_output=True, timeout=30
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [("--only", "sideways"), ("--rounds", "0")])
def test_wrongOption(arguments: tuple[str, str]) -> None:
    line = run(*arguments, status=2).stderr.splitlines()[-1]
    assert arguments[0] in line
    assert arguments[1] in line


def test_tinyRound(compiler: None, tmp_path: Path) -> None:
    """
    A row for each server, a column for each work, and nothing that failed; the
    same table from what was saved, and a picture of it.
    """
    saved, drawn = tmp_path / "figures.json", tmp_path / "figures.svg"
    common: tuple[str | Path, ...] = ("--cache", tmp_path, "--json", saved)
    shown = run(*TINY, "--servers", "ours,bare", *common).stdout
    figure = r"[\d,.]+ \([\d,.]+\)"
    assert re.search(rf"^twisted_socks5 +{figure} +{figure}$", shown, re.M), shown
    assert re.search(rf"^bare Twisted +{figure} +-$", shown, re.M), shown
    assert "failed" not in shown
    assert "got no answer" not in shown

    figures = json.loads(saved.read_text())["runs"]
    assert figures["twisted_socks5"].keys() == {"conn", "udp"}
    assert figures["bare Twisted"].keys() == {"conn"}

    assert run("--read", saved, "--svg", drawn).stdout == shown
    picture = drawn.read_text()
    ElementTree.fromstring(picture)
    assert picture.count('<rect class="ours"') == 2
    assert picture.count('<rect class="bar"') == 1


def test_absentServer(compiler: None, tmp_path: Path) -> None:
    """
    It is skipped in a line of its own, and nothing is left to show.
    """
    shown = run(*TINY, "--servers", "pproxy", "--cache", tmp_path, status=1).stdout
    assert re.search(r"^pproxy: skipped, .*--install-peers", shown, re.M), shown


def test_noCompiler(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/run", "--cache", tmp_path],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PATH": str(tmp_path)},
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "compiler" in done.stderr


def test_nothingSaved(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("[]")
    error = run("--read", tmp_path / "other.json", status=1).stderr
    assert "other.json: no figures" in error
