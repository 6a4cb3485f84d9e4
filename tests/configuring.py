# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Writing configuration files, and reading them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from twisted_socks5.service.configuration import Configuration
from twisted_socks5.service.options import SOCKS5Options

if TYPE_CHECKING:
    from tests.conftest import Server

    Start = Callable[..., Server]


RULE = '[[rule]]\naction = "allow"\n'


def configured(*arguments: str) -> Configuration:
    options = SOCKS5Options()
    options.parseOptions(list(arguments))
    return options.configuration


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    """
    Writes a configuration file, and tells its path.
    """

    def write(text: str) -> str:
        path = tmp_path / "server.toml"
        path.write_text(text)
        return str(path)

    return write
