# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A checker of usernames and passwords that knows only hashes.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
from collections.abc import Iterable
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from zope.interface import implementer

from twisted_socks5.interfaces import IChangingAccounts
from twisted_socks5.passwords.accountfile import AccountFile, Accounts
from twisted_socks5.passwords.hashes import isRight
from twisted_socks5.passwords.threads import BoundedThreads

_MOST_REMEMBERED = 4096
_MOST_THREADS = 256


@implementer(ICredentialsChecker, IChangingAccounts)
class HashedPasswordChecker:
    """
    Compares passwords with the hashes of a file, in threads of its own.

    An unknown name is compared too, with the hash of somebody, and so takes as long
    as a wrong password.
    """

    name = "hashed"
    credentialInterfaces: Iterable[type[Any]] = (IUsernamePassword,)

    def __init__(
        self, reactor: Any, path: str, remember: float = 60.0, threads: int = 2
    ) -> None:
        """
        @param path: The file of accounts.
        @param remember: For how many seconds a password that was right is taken
            to be right without work; 0 is not at all.
        @param threads: How many passwords are compared at once.
        @raise ValueError: The file cannot be read, or a line of it is wrong.
        """
        self._reactor = reactor
        self._file = AccountFile(path)
        self._threads = BoundedThreads(reactor, threads, "hashed passwords")
        self._memory = _Memory(reactor, remember)
        self._key = os.urandom(32)

    @classmethod
    def fromText(
        cls, reactor: Any, path: str, *, remember: str = "60", threads: str = "2"
    ) -> HashedPasswordChecker:
        """
        One with arguments from a command line.

        @raise ValueError: One of them is wrong, or the file is.
        """
        try:
            seconds = math.nan if "_" in remember else float(remember)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            raise ValueError(f"remember={remember}: expected seconds, 0 or more")
        isNumber = threads.isascii() and threads.isdecimal() and len(threads) < 10
        if not (isNumber and 1 <= int(threads) <= _MOST_THREADS):
            raise ValueError(
                f"threads={threads}: expected a number from 1 to {_MOST_THREADS}"
            )
        return cls(reactor, path, seconds, int(threads))

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        """
        Compare.

        @return: A Deferred with the name as it was given; fails with
            C{UnauthorizedLogin} if it is unknown or the password is wrong.
        """
        return Deferred.fromCoroutine(self._check(credentials))

    def hasAccount(self, name: bytes) -> bool:
        """
        Whether the file has an account of this name now.
        """
        return name in self._file.accounts().hashes

    def markOf(self, name: bytes) -> bytes | None:
        """
        A digest of the hash that the file has now, which is a salted one.
        """
        stored = self._file.accounts().hashes.get(name)
        return None if stored is None else hashlib.sha256(stored.encode()).digest()

    async def _check(self, credentials: Any) -> Any:
        name, password = _bytes(credentials.username), _bytes(credentials.password)
        accounts = self._file.accounts()
        isKnown = name in accounts.hashes
        stored = accounts.hashes[name] if isKnown else self._anothers(name, accounts)
        token = self._memory.token(name, password, stored.encode())
        if isKnown and self._memory.has(token):
            return credentials.username
        if not await self._threads.run(isRight, stored, password) or not isKnown:
            raise UnauthorizedLogin
        self._memory.add(token)
        return credentials.username

    def _anothers(self, name: bytes, accounts: Accounts) -> str:
        """
        The hash of an account, always the same one for the same name: hashes
        may differ in the work that they take, and a name must not be told to be
        unknown by taking now this long and now that.

        @raise UnauthorizedLogin: There are no accounts.
        """
        if not accounts.hashes:
            raise UnauthorizedLogin
        digest = hmac.digest(self._key, name, "sha256")
        hashes = list(accounts.hashes.values())
        return hashes[int.from_bytes(digest, "big") % len(hashes)]


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text


class _Memory:
    """
    What was right a short while ago.  Of a password only a digest is kept, keyed
    with random bytes that are nowhere but in this process.
    """

    def __init__(self, reactor: Any, seconds: float) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._key = os.urandom(32)
        self._until: dict[bytes, float] = {}  # the oldest first

    def token(self, *parts: bytes) -> bytes:
        """
        What stands for a name, a password and the hash that it was compared
        with: with another hash it is another one.
        """
        digest = hmac.new(self._key, digestmod=hashlib.sha256)
        for part in parts:
            digest.update(len(part).to_bytes(4, "big") + part)
        return digest.digest()

    def has(self, token: bytes) -> bool:
        """
        Whether it was right, and not long ago.
        """
        now = self._reactor.seconds()
        while self._until:
            oldest = next(iter(self._until))
            if self._until[oldest] > now and len(self._until) <= _MOST_REMEMBERED:
                break
            del self._until[oldest]
        return token in self._until

    def add(self, token: bytes) -> None:
        """
        It was right just now.
        """
        if self._seconds:
            self._until.pop(token, None)
            self._until[token] = self._reactor.seconds() + self._seconds
