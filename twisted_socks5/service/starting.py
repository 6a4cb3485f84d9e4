# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A start that fails when privileges were given up already, before the reactor runs.
"""

from __future__ import annotations

import sys


class CannotStart(SystemExit, Exception):
    """
    The program ends, with status 1.  C{twistd} as a daemon has its parent told of
    exceptions only, which waits for ever if it is another kind of end.
    """

    def __init__(self, problem: str) -> None:
        """
        @param problem: Why, in one line.
        """
        SystemExit.__init__(self, f"socks5: {problem.removeprefix('socks5: ')}")
        self.code = 1

    def tell(self) -> None:
        """
        Say it on standard error, which the log may have taken by now.
        """
        print(self, file=sys.__stderr__, flush=True)


# It has room for the first 100 bytes, so the name is as short as it can be.
CannotStart.__module__ = "builtins"
