# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Texts that a configuration file only tells the place of: C{{ env = "NAME" }} in the
environment, C{{ file = "PATH" }} in a file of their own.  They may be secrets, so
nothing here, and no error about them, shows what is there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from twisted_socks5.passwords.accountfile import warnOfReaders

EXPECTED = "a text, { env = 'NAME' } or { file = 'PATH' }"
"""
How errors call a text that may be elsewhere.
"""

NOT_AS_EXPECTED = "what is there is not as expected"
"""
All that errors tell of such a text that is wrong.
"""


def textFrom(places: Mapping[str, object], folder: str) -> str:
    """
    The text from the place that a table tells.

    @param places: The table.
    @param folder: Where a relative path begins.
    @return: The text, which is not empty; of a file without the line's end.
    @raise ValueError: There is none, or the table tells no place.
    """
    if len(places) == 1:
        (kind, place), *_ = places.items()
        if kind == "env" and isinstance(place, str):
            return _fromEnvironment(place)
        if kind == "file" and isinstance(place, str):
            return _fromFile(os.path.join(folder, place))
    raise ValueError(f"expected {EXPECTED}")


def _fromEnvironment(name: str) -> str:
    if name not in os.environ:
        raise ValueError(f"there is no {name} in the environment")
    if not os.environ[name]:
        raise ValueError(f"{name} in the environment is empty; expected a text")
    return os.environ[name]


def _fromFile(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            warnOfReaders(path)
            text = file.read().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: expected UTF-8") from None
    except (OSError, ValueError) as error:  # of a path with a NUL
        raise ValueError(f"{path}: {getattr(error, 'strerror', error)}") from None
    if not text:
        raise ValueError(f"{path} is empty; expected a text")
    return text
