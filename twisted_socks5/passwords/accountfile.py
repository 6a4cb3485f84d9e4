# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The file of accounts: a line C{name:hash} for each, as Apache's C{htpasswd}
writes it.  Empty lines and those that begin with C{#} are nothing.
"""

from __future__ import annotations

import os
import stat
import tempfile

import attrs
from twisted.logger import Logger

from twisted_socks5.passwords.hashes import kindOf

_log = Logger(namespace="twisted_socks5")


@attrs.frozen
class Accounts:
    """
    What a file says.

    @ivar hashes: By the names, which are bytes as clients send them.
    @ivar problems: What is wrong with lines, each told by its number.
    """

    hashes: dict[bytes, str] = attrs.field(factory=dict, repr=False)
    problems: tuple[str, ...] = ()


def parseAccounts(content: bytes) -> Accounts:
    """
    Read accounts.  A line that is wrong lets nobody in; neither does a name that
    is there twice, since nobody knows which line is meant.
    """
    hashes: dict[bytes, str] = {}
    lines: dict[bytes, int] = {}
    problems = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        name, _, stored = line.rstrip().partition(b":")
        if not name:
            problems.append(f"line {number}: there is no name")
            continue
        if name in lines:
            problems.append(f"line {number}: the name is that of line {lines[name]}")
            hashes.pop(name, None)
            continue
        lines[name] = number
        text = stored.decode("latin-1")
        try:
            kindOf(text)
        except ValueError as error:
            problems.append(f"line {number}: {error}")
        else:
            hashes[name] = text
    return Accounts(hashes, tuple(problems))


class AccountFile:
    """
    A file of accounts that is read again when it has changed, also by a process
    that has changed its folder meanwhile, as a daemon does.
    """

    def __init__(self, path: str) -> None:
        """
        @raise ValueError: It cannot be read, or a line is wrong; the text says
            which.
        """
        self._path = path = os.path.abspath(path)
        try:
            self._state = _stateOf(path)
            self._accounts = self._read()
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}") from None
        if self._accounts.problems:
            raise ValueError(f"{path}: {'; '.join(self._accounts.problems)}")
        if not self._accounts.hashes:
            _log.warn("{path} has no accounts: nobody is let in", path=path)

    def accounts(self) -> Accounts:
        """
        What it says now.  While it cannot be read there are no accounts, and
        lines that are wrong let nobody in; the log tells of it once.
        """
        try:
            state = _stateOf(self._path)
        except OSError as error:
            state = error.errno
        if state == self._state:
            return self._accounts
        self._state = state
        try:
            self._accounts = self._read()
        except OSError as error:
            self._accounts = Accounts()
            self._complain(str(error.strerror))
        else:
            if self._accounts.problems:
                self._complain("; ".join(self._accounts.problems))
            else:
                _log.info(
                    "{path} has changed: {count} accounts",
                    path=self._path,
                    count=len(self._accounts.hashes),
                )
        return self._accounts

    def _read(self) -> Accounts:
        warnOfReaders(self._path)
        with open(self._path, "rb") as file:
            return parseAccounts(file.read())

    def _complain(self, problem: str) -> None:
        _log.error(
            "{path}: {problem}; who had an account there is not let in",
            path=self._path,
            problem=problem,
        )


def _stateOf(path: str) -> object:
    """
    What changes when a file does.
    """
    status = os.stat(path)
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def warnOfReaders(path: str) -> None:
    """
    Warn of a file of passwords that is for others to read or to write.

    @raise OSError: There is no such file.
    """
    others = stat.S_IMODE(os.stat(path).st_mode) & (stat.S_IROTH | stat.S_IWOTH)
    if others:
        _log.warn(
            "other users of this host can {what} {path}; chmod 600 keeps them out",
            what="change" if others & stat.S_IWOTH else "read",
            path=path,
        )


def changeAccount(path: str, name: bytes, stored: str | None) -> bool:
    """
    Add, change or remove an account.  The file is replaced as a whole, so that
    a server never reads half of it; a new one is for its owner only.  Of a
    symbolic link, the file that it leads to is.

    @param stored: The hash; L{None} removes the account.
    @return: Whether there was one of this name.
    @raise OSError: The file cannot be read or written.
    @raise ValueError: It is none, but a device, say, or a pipe.
    """
    path = os.path.realpath(path)
    try:
        before = os.stat(path)
        if not stat.S_ISREG(before.st_mode):
            raise ValueError(f"{path}: this is no regular file")
        with open(path, "rb") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        if stored is None:
            raise
        before, lines = None, []
    places = [
        place for place, line in enumerate(lines) if line.partition(b":")[0] == name
    ]
    new = [] if stored is None else [name + b":" + stored.encode()]
    first = places[0] if places else len(lines)
    rest = [line for place, line in enumerate(lines) if place not in places[1:]]
    rest[first : first + 1] = new
    _replace(path, b"".join(line + b"\n" for line in rest), before)
    return bool(places)


def _replace(path: str, content: bytes, before: os.stat_result | None) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path))
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
            if before is not None:
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
                if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
