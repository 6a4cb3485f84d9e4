# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Whether accounts are still there, of Twisted's own checkers too.
"""

from __future__ import annotations

from typing import Any

import attrs
from twisted.cred.checkers import (
    FilePasswordDB,
    ICredentialsChecker,
    InMemoryUsernamePasswordDatabaseDontUse,
)
from twisted.cred.error import UnauthorizedLogin
from zope.interface import implementer

from twisted_socks5.interfaces import IAccountChecker


def accountsOf(checker: ICredentialsChecker) -> Any:
    """
    What can tell of a checker's accounts.

    @return: It provides L{IAccountChecker}; L{None} if nobody can tell.
    """
    if isinstance(checker, FilePasswordDB):
        # Many are asked for, one after the other: the file is read once.
        return _FileAccounts(FilePasswordDB(checker.filename, cache=True))
    if isinstance(checker, InMemoryUsernamePasswordDatabaseDontUse):
        return _MemoryAccounts(checker)
    return checker if IAccountChecker.providedBy(checker) else None


@implementer(IAccountChecker)
@attrs.frozen
class _FileAccounts:
    """
    Those in a file.
    """

    database: FilePasswordDB

    def hasAccount(self, name: bytes) -> bool:
        try:
            self.database.getUser(name)
        except (KeyError, OSError, UnauthorizedLogin):
            return False
        return True


@implementer(IAccountChecker)
@attrs.frozen
class _MemoryAccounts:
    """
    Those that were named at the start.
    """

    checker: InMemoryUsernamePasswordDatabaseDontUse

    def hasAccount(self, name: bytes) -> bool:
        return name in self.checker.users
