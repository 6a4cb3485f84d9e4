# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Pipes of the kernel, through which bytes go from one socket to another without
coming up to us.
"""

from __future__ import annotations

import fcntl
import os
import resource
from typing import Any

SIZES = (1024 * 1024, 256 * 1024, 64 * 1024)
"""
How many bytes a pipe is to hold, the best first.  An ordinary user is granted
about 64 of the largest by Linux (C{pipe-user-pages-soft}).
"""

MOST = 64
"""
How many pipes there are at most: with all of them full, 64 MiB wait in the
kernel.
"""

_TRIM = 0.5
"""
After how many seconds without use a pipe is closed.
"""


class Pipe:
    """
    An empty pipe, or one with bytes on their way.

    @ivar source: The descriptor to read from.
    @ivar sink: The descriptor to write to.
    @ivar size: How many bytes it holds at most.
    @ivar held: How many are in it.
    """

    __slots__ = ("held", "sink", "size", "source")

    def __init__(self) -> None:
        """
        @raise OSError: There is none to be had, or only a tiny one.
        """
        self.held = 0
        self.source, self.sink = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for size in SIZES:
            try:
                self.size = fcntl.fcntl(self.sink, fcntl.F_SETPIPE_SZ, size)
            except OSError as error:
                problem = error
            else:
                return
        self.close()
        raise problem

    def fill(self, descriptor: int) -> int:
        """
        Take bytes from a socket; only while there are none in the pipe, so that
        C{BlockingIOError} tells of the socket.

        @return: How many came; 0 at the end.
        @raise OSError: The socket has failed, or has nothing now.
        """
        self.held = os.splice(
            descriptor, self.sink, self.size, flags=os.SPLICE_F_NONBLOCK
        )
        return self.held

    def drain(self, descriptor: int) -> None:
        """
        Send bytes to a socket.

        @raise OSError: The socket has failed, or takes nothing now.
        """
        self.held -= os.splice(
            self.source, descriptor, self.held, flags=os.SPLICE_F_NONBLOCK
        )

    def close(self) -> None:
        """
        Drop it with what is in it.
        """
        os.close(self.source)
        os.close(self.sink)


class PipePool:
    """
    Pipes for whoever has much to move right now.  There are as many as are in
    use at once, up to a bound, and those that nobody needed for a while are
    closed.
    """

    def __init__(self, reactor: Any, most: int | None = None) -> None:
        """
        @param most: How many pipes there may be; by default L{MOST}, and no
            more than take a quarter of the descriptors that the process may
            have.
        """
        self._reactor = reactor
        self._most = min(MOST, _affordable()) if most is None else most
        self._spare: list[Pipe] = []
        self._fewestSpare = 0
        self._count = 0
        self._isDry = False
        self._timer: Any = None

    def take(self) -> Pipe | None:
        """
        An empty pipe, to be given back by L{give} or L{drop}.

        @return: L{None} if there is none to be had at this time.
        """
        if self._spare:
            pipe = self._spare.pop()
            if len(self._spare) < self._fewestSpare:
                self._fewestSpare = len(self._spare)
            return pipe
        if self._isDry or self._count >= self._most:
            return None
        try:
            pipe = Pipe()
        except OSError:
            self._isDry = True  # until a while has passed
            self._watch()
            return None
        self._count += 1
        return pipe

    def give(self, pipe: Pipe) -> None:
        """
        Give an empty pipe back.
        """
        self._spare.append(pipe)
        if self._timer is None:
            self._watch()

    def drop(self, pipe: Pipe) -> None:
        """
        Give up a pipe whose bytes nobody wants any more.
        """
        pipe.close()
        self._count -= 1

    def clear(self) -> None:
        """
        Close all that are not in use, at once.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._isDry = False
        self._close(len(self._spare))

    def _watch(self) -> None:
        if self._timer is None:
            self._fewestSpare = len(self._spare)
            self._timer = self._reactor.callLater(_TRIM, self._trim)

    def _trim(self) -> None:
        """
        Close those that were spare all the time since it was last done.
        """
        self._timer = None
        self._isDry = False
        self._close(self._fewestSpare)
        if self._spare:
            self._watch()

    def _close(self, count: int) -> None:
        """
        Close those that have been spare for longest.
        """
        for pipe in self._spare[:count]:
            self.drop(pipe)
        del self._spare[:count]


def _affordable() -> int:
    """
    How many pipes take a quarter of the descriptors that we may have.
    """
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if descriptors == resource.RLIM_INFINITY else descriptors // 8
