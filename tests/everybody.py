# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Servers of users without privileges, who need a Python and modules that they can read.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

NOBODY = 65534


def canRun(python: str) -> bool:
    """
    Whether everybody can run a program.
    """
    try:
        done = subprocess.run([python, "-c", ""], user=NOBODY, cwd="/")
    except OSError:
        return False
    return done.returncode == 0


@pytest.fixture
def everybodysPython() -> str:
    """
    A Python like this one that everybody can run.
    """
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for python in (os.path.realpath(sys.executable), f"/usr/bin/{name}"):
        if canRun(python):
            return python
    assert os.environ.get("CI") != "true", f"there is no {name} for everybody"
    pytest.skip(f"there is no {name} that everybody can run")


@pytest.fixture
def everybodysFolder() -> Iterator[Path]:
    """
    A folder that everybody can read, with all that the server needs.
    """
    root = Path(__file__).parent.parent
    with TemporaryDirectory() as path:
        folder = Path(path)
        folder.chmod(0o755)
        seen: set[str] = set()
        # The last ones are what the extra twisted[tls] needs.
        for name in ("twisted-socks5", "pyopenssl", "service-identity", "idna"):
            for each in needed(name, seen):
                copy(each, folder)
        for package in ("twisted_socks5", "twisted"):
            shutil.copytree(root / package, folder / package, dirs_exist_ok=True)
        yield folder


def needed(name: str, seen: set[str]) -> Iterator[Distribution]:
    """
    A distribution, and all that it needs.
    """
    if name in seen:
        return
    seen.add(name)
    try:
        found = distribution(name)
    except PackageNotFoundError:  # one for other systems
        return
    yield found
    for requirement in found.requires or ():
        if "extra ==" not in requirement:
            pattern = r"[\w.-]+"
            match = re.match(pattern, requirement)
            assert match
            yield from needed(match[0], seen)


def copy(distribution: Distribution, folder: Path) -> None:
    """
    Copy what can be imported, but for tests.
    """
    for file in distribution.files or ():
        if ".." in file.parts or "test" in file.parts or "__pycache__" in file.parts:
            continue
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(file.locate()), target)
