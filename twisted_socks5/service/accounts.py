# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The checkers that C{--auth} names, made fit for use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.application.service import Service
from twisted.cred.checkers import (
    FilePasswordDB,
    ICredentialsChecker,
    InMemoryUsernamePasswordDatabaseDontUse,
)
from twisted.logger import Logger

from twisted_socks5.passwords.accountfile import warnOfReaders
from twisted_socks5.service.configuration import Said
from twisted_socks5.service.plugins import Plugins, makeChecker
from twisted_socks5.service.starting import CannotStart

_log = Logger(namespace="twisted_socks5")


def prepareChecker(plugins: Plugins, said: Said) -> ICredentialsChecker:
    """
    Make a checker, and have it fail now rather than at the first login, and compare what
    SOCKS5 sends, which is bytes.

    @raise ValueError: There is none, or it cannot work.
    """
    checker = makeChecker(plugins, said)
    if isinstance(checker, FilePasswordDB):
        hasAccounts = _look(said, checker)
        warnOfReaders(str(checker.filename))
        if not hasAccounts:
            _log.warn(
                "{path} has no accounts: nobody is let in", path=str(checker.filename)
            )
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


def _look(said: Said, checker: FilePasswordDB) -> bool:
    """
    Look into the file of a checker.

    @return: Whether it has accounts.
    @raise ValueError: It cannot be read.
    """
    try:
        with open(checker.filename, "rb") as file:
            return any(b":" in line for line in file)
    except (OSError, ValueError) as error:  # of a path with a NUL
        problem = getattr(error, "strerror", None) or error
        raise said.fail(f"{checker.filename}: {problem}") from None


class ReadableAccounts(Service):
    """
    Looks, when privileges were given up, whether files that are read at each login can
    still be read: otherwise nobody would ever get in.
    """

    def __init__(self, checkers: Mapping[Said, ICredentialsChecker]) -> None:
        """
        @param checkers: All there are of passwords, by how they were said.
        """
        self._checkers = checkers

    def startService(self) -> None:
        """
        Look.

        @raise CannotStart: One cannot be read.
        """
        Service.startService(self)
        for said, checker in self._checkers.items():
            if isinstance(checker, FilePasswordDB):
                try:
                    _look(said, checker)
                except ValueError as error:
                    _log.error("{problem}", problem=str(error))
                    end = CannotStart(str(error))
                    end.tell()
                    raise end from None


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
