# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Where a log can go: a file, a stream, syslog, systemd's journal.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import stat
import time
from collections.abc import Iterable, Sequence

from twisted.logger import Logger

from twisted_socks5.observe.writer import Line

_log = Logger(namespace="twisted_socks5")

_OPENING = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_NONBLOCK
_MODE = 0o640
_WAIT = 1000  # milliseconds
_EFFECTIVE = os.access in os.supports_effective_ids


class StreamDestination:
    """
    An open descriptor, such as that of standard output.

    @ivar isTimed: Whether it adds the time by itself.
    @ivar name: What operators call it.
    """

    isTimed = False

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self._descriptor = descriptor
        self._waiting: list[bytes] = []

    def write(self, lines: Sequence[Line]) -> None:
        """
        Write whole lines, as many at once as others cannot get between.

        @raise OSError: They could not all be written.
        """
        encoded = (f"{line.text}\n".encode("utf-8", "replace") for line in lines)
        if stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            if lines:
                self._waiting.append(b"".join(encoded))
        else:
            self._waiting += _grouped(encoded, select.PIPE_BUF)
        while self._waiting:
            rest = self._waiting[0][self._writeSome(self._waiting[0]) :]
            if rest:
                self._waiting[0] = rest
            else:
                del self._waiting[0]

    def _writeSome(self, data: bytes) -> int:
        while True:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:  # whoever opened it does not want to wait
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll(_WAIT)

    def reopen(self) -> None:
        """
        It was opened elsewhere.
        """

    def rotate(self) -> None:
        """
        It cannot be moved.
        """


def _grouped(pieces: Iterable[bytes], most: int) -> list[bytes]:
    groups: list[bytes] = []
    for piece in pieces:
        if groups and len(groups[-1]) + len(piece) <= most:
            groups[-1] += piece
        else:
            groups.append(piece)
    return groups


class FileDestination(StreamDestination):
    """
    A file, to which several processes may append.
    """

    def __init__(self, path: str, rotateBytes: int = 0, rotateFiles: int = 5) -> None:
        """
        @param rotateBytes: How long it may become before it is moved away; 0 is
            without limit.
        @param rotateFiles: How many are kept that were moved away.
        @raise OSError: It cannot be opened.
        """
        self._path = os.path.abspath(path)
        self._rotateBytes = rotateBytes
        self._rotateFiles = rotateFiles
        self._isTold = False
        super().__init__(os.open(self._path, _OPENING, _MODE), path)

    def write(self, lines: Sequence[Line]) -> None:
        """
        Write lines; first move away what has become too long.  What cannot be moved
        is written to all the same.

        @raise OSError: They could not all be written.
        """
        if self._rotateBytes and self._length() >= self._rotateBytes:
            try:
                self.rotate()
            except OSError as problem:
                self._tellOnce(problem)
            else:
                self._isTold = False
        super().write(lines)

    def _tellOnce(self, problem: OSError) -> None:
        if not self._isTold:
            self._isTold = True
            _log.error(
                "the log {name} cannot be moved away: {problem}",
                name=self.name,
                problem=problem.strerror or str(problem),
            )

    def _length(self) -> int:
        return os.fstat(self._descriptor).st_size

    def reopen(self) -> None:
        """
        Open what is there by that name now.

        @raise OSError: It cannot be opened.
        """
        old, self._descriptor = (
            self._descriptor,
            os.open(self._path, _OPENING, _MODE),
        )
        os.close(old)

    def rotate(self) -> None:
        """
        Move it away, as C{.1}, and what was moved before one number up.  If another
        process has done so, only open the new one.

        @raise OSError: It cannot be moved.
        """
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)  # until it is closed
        try:
            if os.path.samestat(os.fstat(self._descriptor), os.stat(self._path)):
                self._moveAway()
        except FileNotFoundError:
            pass  # somebody else did
        except OSError:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            raise
        self.reopen()

    def _moveAway(self) -> None:
        for number in range(self._rotateFiles - 1, 0, -1):
            older = f"{self._path}.{number}"
            if os.path.exists(older):
                os.replace(older, f"{self._path}.{number + 1}")
        os.replace(self._path, f"{self._path}.1")


def checkFile(path: str) -> None:
    """
    See whether a file could be opened to be written to, or made, without doing so.

    @raise OSError: It could not.
    """
    path = os.path.abspath(path)
    try:
        isFolder = stat.S_ISDIR(os.stat(path).st_mode)
    except FileNotFoundError:
        checkFolder(os.path.dirname(os.path.realpath(path)))
        return
    if isFolder:
        raise _problem(errno.EISDIR, path)
    if not os.access(path, os.W_OK, effective_ids=_EFFECTIVE):
        raise _problem(errno.EACCES, path)


def checkFolder(path: str) -> None:
    """
    See whether a file could be made in a folder.

    @raise OSError: It could not.
    """
    if not stat.S_ISDIR(os.stat(path).st_mode):
        raise _problem(errno.ENOTDIR, path)
    if not os.access(path, os.W_OK | os.X_OK, effective_ids=_EFFECTIVE):
        raise _problem(errno.EACCES, path)


def _problem(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


class _DatagramDestination:
    """
    A UNIX socket that takes one datagram for each line.
    """

    isTimed = True

    def __init__(self, path: str, name: str) -> None:
        self.name = name
        self._path = path
        self._socket: socket.socket | None = None
        self._waiting: list[bytes] = []

    def write(self, lines: Sequence[Line]) -> None:
        """
        Send each.

        @raise OSError: The last ones could not be sent.
        """
        self._waiting += [self.encode(line) for line in lines]
        sent = 0
        try:
            if self._socket is None:
                connecting = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket = connecting
                connecting.connect(self._path)
            for datagram in self._waiting:
                self._socket.send(datagram)
                sent += 1
        except OSError:
            self.reopen()
            raise
        finally:
            del self._waiting[:sent]

    def encode(self, line: Line) -> bytes:
        """
        A line as a datagram.
        """
        raise NotImplementedError

    def reopen(self) -> None:
        """
        Connect again for the next line.
        """
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def rotate(self) -> None:
        """
        That is its own affair.
        """


class SyslogDestination(_DatagramDestination):
    """
    The system's log (RFC 3164, as local daemons take it).
    """

    USER = 1
    DAEMON = 3

    def __init__(
        self, path: str = "", identifier: str = "socks5", facility: int = DAEMON
    ) -> None:
        """
        @param path: The daemon's socket; by default where it usually is.
        """
        super().__init__(path or "/dev/log", "syslog")
        self._identifier = identifier
        self._facility = facility

    def encode(self, line: Line) -> bytes:
        """
        A line as a datagram.
        """
        when = time.strftime("%b %e %H:%M:%S")
        return (
            f"<{self._facility * 8 + line.severity}>{when} "
            f"{self._identifier}[{os.getpid()}]: {line.text}"
        ).encode("utf-8", "replace")


class JournalDestination(_DatagramDestination):
    """
    systemd's journal, by its own protocol
    (U{https://systemd.io/JOURNAL_NATIVE_PROTOCOL/}), with the fields in
    capitals after C{SOCKS5_}.
    """

    def __init__(self, path: str = "", identifier: str = "socks5") -> None:
        """
        @param path: The journal's socket; by default where it usually is.
        """
        super().__init__(path or "/run/systemd/journal/socket", "journald")
        self._identifier = identifier

    def encode(self, line: Line) -> bytes:
        """
        A line as a datagram.
        """
        fields: dict[str, object] = {
            "MESSAGE": line.text,
            "PRIORITY": line.severity,
            "SYSLOG_IDENTIFIER": self._identifier,
        }
        for name, value in line.fields.items():
            fields[f"SOCKS5_{name.upper()}"] = value
        return "".join(f"{name}={value}\n" for name, value in fields.items()).encode(
            "utf-8", "replace"
        )
