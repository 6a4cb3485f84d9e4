# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Clients that come all the time, whatever is done to the server meanwhile.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.conversation import GREET, connectTo, readExactly

if TYPE_CHECKING:
    from tests.conftest import Server


@contextmanager
def steadyClients(
    server: Server, listener: socket.socket, count: int
) -> Iterator[None]:
    """
    So many at once, one after the other each, of whom every one must be served.
    """
    isOver = threading.Event()

    def work() -> int:
        served = 0
        while not isOver.is_set():
            with server.connect() as client:
                client.sendall(GREET + connectTo(listener.getsockname()[1]))
                assert readExactly(client, 12)[:4] == b"\x05\x00\x05\x00"
            served += 1
        return served

    def accept() -> None:
        while not isOver.is_set():
            listener.accept()[0].close()

    with ThreadPoolExecutor(count + 1) as pool:
        pool.submit(accept)
        working = [pool.submit(work) for _ in range(count)]
        try:
            yield
        finally:
            isOver.set()
            socket.create_connection(listener.getsockname(), 10).close()
        assert all(each.result() for each in working)
