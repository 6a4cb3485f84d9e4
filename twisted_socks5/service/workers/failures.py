# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Failed logins, which all workers count together: each counts its own and is told of
those of the others, so no login waits for an answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from twisted_socks5.server.throttle import Failures, Throttle

_AT_ONCE = 40
"""
How many there is room for in one message: a name has up to 255 octets, each of which
may be written as C{\\\\x00}.
"""


class IsTold(Protocol):
    """
    A worker.

    @ivar isReady: Whether it serves.
    """

    isReady: bool

    def tellFailures(self, encoded: bytes) -> None:
        """
        Have it count what has failed elsewhere.
        """


class SharedFailures:
    """
    Has all workers know of what has failed in one of them.
    """

    def __init__(
        self, throttle: Throttle, workers: Callable[[], Iterable[IsTold]]
    ) -> None:
        """
        @param throttle: The supervisor's, which counts those of all, and logs.
        @param workers: Tells which there are.
        """
        self._throttle = throttle
        self._workers = workers

    def failed(self, source: IsTold, encoded: bytes) -> None:
        """
        Something has failed in one of them.
        """
        for key, count in decode(encoded):
            self._throttle.failed(key, count)
        for worker in self._workers():
            if worker is not source and worker.isReady:
                worker.tellFailures(encoded)

    def tellAll(self, worker: IsTold) -> None:
        """
        Have a new one know of all.
        """
        known = list(self._throttle.failures())
        for first in range(0, len(known), _AT_ONCE):
            worker.tellFailures(encode(known[first : first + _AT_ONCE]))


def encode(failures: Failures) -> bytes:
    """
    Failures, as they are sent.
    """
    return json.dumps([(*key, count) for key, count in failures]).encode()


def decode(encoded: bytes) -> Iterator[tuple[tuple[str, str], int]]:
    """
    Failures that were sent.
    """
    for kind, name, count in json.loads(encoded):
        yield (kind, name), count
