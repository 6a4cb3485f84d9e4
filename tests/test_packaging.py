# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What is shipped, and what Twisted's programs find of it.  (That packages install
in fresh environments is C{.ci/run}'s to check.)
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import twisted_socks5

ROOT = Path(__file__).resolve().parent.parent
VERSION = twisted_socks5.__version__


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A folder with a wheel and an sdist.
    """
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--sdist", "--wheel"]
        + ["--outdir", str(folder), str(ROOT)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return folder


@pytest.fixture(scope="module")
def wheel(packages: Path) -> set[str]:
    """
    The names of the files in the wheel.
    """
    (path,) = packages.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def sdist(packages: Path) -> set[str]:
    """
    The names of the files in the sdist.
    """
    (path,) = packages.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {
            name.partition("/")[2] for name in archive.getnames() if name.count("/")
        }


def test_wheel(wheel: set[str]) -> None:
    """
    All of the library, what Twisted looks for, and nothing else.
    """
    information = f"twisted_socks5-{VERSION}.dist-info/"
    assert information + "licenses/LICENSE" in wheel
    assert "twisted_socks5/py.typed" in wheel
    shipped = {name for name in wheel if not name.startswith(information)}
    source = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "twisted_socks5").rglob("*.py")
        if "__pycache__" not in path.parts
    }
    assert shipped == source | {
        "twisted/plugins/twisted_socks5_plugins.py",
        "twisted_socks5/py.typed",
    }


def test_sdist(sdist: set[str]) -> None:
    """
    It can be tested, and its documentation made.
    """
    assert {
        "CHANGELOG.rst",
        "LICENSE",
        "README.rst",
        "docs/conf.py",
        "docs/index.rst",
        "examples/embed.py",
        "pyproject.toml",
        "tests/conftest.py",
        "tests/test_packaging.py",
        "twisted/plugins/twisted_socks5_plugins.py",
        "twisted_socks5/py.typed",
    } <= sdist
    assert not [name for name in sdist if name.endswith(("dropin.cache", ".pyc"))]


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_twistedIsNoPackageOfOurs(kind: str, request: pytest.FixtureRequest) -> None:
    """
    An C{__init__.py} there would overwrite Twisted's own.
    """
    names = request.getfixturevalue(kind)
    ours = {name for name in names if name.startswith("twisted/") and "." in name}
    assert ours == {"twisted/plugins/twisted_socks5_plugins.py"}


@pytest.mark.parametrize("where", ["root", "elsewhere"])
@pytest.mark.parametrize("runner", ["twistd", "twist"])
def test_runnersKnowUs(runner: str, where: str, tmp_path: Path) -> None:
    """
    From any folder, also from the project's own, which is on the path then a
    second time.
    """
    script = {
        "twistd": "from twisted.scripts.twistd import run; run()",
        "twist": "import runpy; runpy.run_module('twisted', run_name='__main__')",
    }[runner]
    told = subprocess.run(
        [sys.executable, "-c", script, "--help"],
        cwd=ROOT if where == "root" else tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    commands = [line.split()[0] for line in told.stdout.splitlines() if line.strip()]
    assert commands.count("socks5") == 1
    assert told.stderr == ""


def test_noReactorIsInstalled() -> None:
    """
    Importing everything, as the runners' plugins do, leaves the choice of the
    reactor to the program.  C{gssapi} is in no extra that tests need.
    """
    modules = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "twisted_socks5").rglob("*.py")
        if path.name != "__init__.py"
    )
    script = (
        "import importlib, sys\n"
        f"for module in {modules}:\n"
        "    try:\n"
        "        importlib.import_module(module)\n"
        "    except ModuleNotFoundError as error:\n"
        "        assert error.name == 'gssapi', error\n"
        "import twisted.plugins.twisted_socks5_plugins\n"
        "sys.exit('twisted.internet.reactor' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_exports() -> None:
    """
    The public names are there, and they are all that is promised.
    """
    for name in twisted_socks5.__all__:
        assert hasattr(twisted_socks5, name)
    assert twisted_socks5.__all__ == sorted(twisted_socks5.__all__)
