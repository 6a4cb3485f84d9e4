# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The checkers that C{--auth} names, made fit for use.
"""

from __future__ import annotations

from typing import Any

from twisted.cred.checkers import (
    FilePasswordDB,
    ICredentialsChecker,
    InMemoryUsernamePasswordDatabaseDontUse,
)
from twisted.logger import Logger

from twisted_socks5.passwords.accountfile import warnOfReaders
from twisted_socks5.service.configuration import Said
from twisted_socks5.service.plugins import Plugins, makeChecker

_log = Logger(namespace="twisted_socks5")


def prepareChecker(plugins: Plugins, said: Said) -> ICredentialsChecker:
    """
    Make a checker, and have it fail now rather than at the first login, and compare what
    SOCKS5 sends, which is bytes.

    @raise ValueError: There is none, or it cannot work.
    """
    checker = makeChecker(plugins, said)
    if isinstance(checker, FilePasswordDB):
        try:
            with open(checker.filename, "rb"):
                warnOfReaders(str(checker.filename))
        except (OSError, ValueError) as error:  # of a path with a NUL
            problem = getattr(error, "strerror", None) or error
            raise said.fail(f"{checker.filename}: {problem}") from None
    elif isinstance(checker, InMemoryUsernamePasswordDatabaseDontUse):
        if said.isOnCommandLine:
            _log.warn(
                "--auth memory: other users of this host can read its passwords in "
                "the list of processes; use --auth file:PATH"
            )
        # Twisted's plugin keeps text, which no bytes are equal to.
        users: dict[Any, Any] = checker.users
        checker.users = {_bytes(user): _bytes(users[user]) for user in users}
    return checker


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
