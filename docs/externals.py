# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Writes inventories of the names of Python's and Twisted's that our docstrings
link to, so that pydoctor needs no network to check them: C{externals.py FOLDER}.

A name is only entered if it exists, so a wrong one is still told of.
"""

import builtins
import re
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path

from twisted.python.reflect import namedAny

SOURCE = Path(__file__).resolve().parent.parent / "twisted_socks5"
LINK = re.compile(r"[LU]\{(?:[^{}<>]*<)?([\w.]+)>?\}")
HEADER = """\
# Sphinx inventory version 2
# Project: {project}
# Version: stable
# The remainder of this file is compressed using zlib.
"""


def linkedNames() -> set[str]:
    """
    What our docstrings link to.
    """
    text = " ".join(path.read_text() for path in SOURCE.rglob("*.py"))
    return set(LINK.findall(text))


def pythonPage(name: str) -> str:
    """
    Where Python's documentation has a built-in name.
    """
    value = getattr(builtins, name)
    if not isinstance(value, type):
        return f"library/constants.html#{name}"
    page = "exceptions" if issubclass(value, BaseException) else "stdtypes"
    return f"library/{page}.html#{name}"


def twistedPage(name: str) -> str:
    """
    Where Twisted's documentation has a name of Twisted's.
    """
    namedAny(name)
    return f"{name}.html"


def write(target: Path, project: str, pages: Mapping[str, str]) -> None:
    """
    Write an inventory, in Sphinx's format.
    """
    lines = "".join(f"{name} py:obj -1 {page} -\n" for name, page in pages.items())
    target.write_bytes(
        HEADER.format(project=project).encode() + zlib.compress(lines.encode())
    )


def main(folder: Path) -> None:
    """
    Write the inventories.
    """
    names = sorted(linkedNames())
    folder.mkdir(parents=True, exist_ok=True)
    write(
        folder / "python.inv",
        "Python",
        {name: pythonPage(name) for name in names if hasattr(builtins, name)},
    )
    write(
        folder / "twisted.inv",
        "Twisted",
        {name: twistedPage(name) for name in names if name.startswith("twisted.")},
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
