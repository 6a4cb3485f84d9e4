# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What the package itself offers.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

import twisted_socks5


@pytest.mark.parametrize("name", twisted_socks5.__all__)
def test_eachNameIsThere(name: str) -> None:
    assert getattr(twisted_socks5, name) is not None


def test_noOther() -> None:
    name = "nothing"
    with pytest.raises(AttributeError, match=name):
        getattr(twisted_socks5, name)


def test_pluginsImportNoServer() -> None:
    """
    Every C{twistd} that starts imports the plugins.
    """
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, twisted.plugins.twisted_socks5_plugins as p;"
            "print(*[m for m in sys.modules if m.startswith('twisted_socks5.')])",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert sorted(loaded) == ["twisted_socks5._version", "twisted_socks5.interfaces"]
