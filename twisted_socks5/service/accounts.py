# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The checkers that C{--auth} names, made fit for use.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.cred.checkers import (
    FilePasswordDB,
    ICredentialsChecker,
    InMemoryUsernamePasswordDatabaseDontUse,
)
from twisted.logger import Logger

from twisted_socks5.passwords.accountfile import warnOfReaders

_log = Logger(namespace="twisted_socks5")


def prepareChecker(checker: ICredentialsChecker) -> ICredentialsChecker:
    """
    Have a checker fail now rather than at the first login, and compare what
    SOCKS5 sends, which is bytes.

    @raise ValueError: It cannot work.
    """
    if isinstance(checker, FilePasswordDB):
        try:
            with open(checker.filename, "rb"):
                warnOfReaders(str(checker.filename))
        except OSError as error:
            raise ValueError(
                f"--auth file:{checker.filename}: {error.strerror}"
            ) from None
        # It is opened at each login, when a daemon is in another folder.
        checker.filename = os.path.abspath(checker.filename)
    elif isinstance(checker, InMemoryUsernamePasswordDatabaseDontUse):
        _log.warn(
            "--auth memory: other users of this host can read its passwords in the "
            "list of processes; use --auth file:PATH"
        )
        # Twisted's plugin keeps text, which no bytes are equal to.
        users: dict[Any, Any] = checker.users
        checker.users = {_bytes(user): _bytes(users[user]) for user in users}
    return checker


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
