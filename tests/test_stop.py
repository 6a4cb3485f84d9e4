# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A server that is told to stop.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.association import Association
from tests.conversation import (
    GREET,
    readExactly,
    readReply,
    request,
    sendUntilBlocked,
    tunnel,
)

if TYPE_CHECKING:
    from tests.conftest import Server

BIND = 2


def test_everySessionIsLogged(
    startEach: Callable[..., Server], listener: socket.socket
) -> None:
    """
    Whatever it is doing; and why it has ended.
    """
    server = startEach()
    waiting = server.connect()
    waiting.sendall(b"\x05")
    binding = server.connect()
    binding.sendall(GREET + request(BIND, "127.0.0.1", 21))
    assert readExactly(binding, 2) == b"\x05\x00"
    assert readReply(binding)[0] == 0
    idle = tunnel(server, listener)
    full = tunnel(server, listener)
    for one in full:
        sendUntilBlocked(one, bytes(32 * 1024 * 1024))
    with Association(server):
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(5)
    output = server.output()
    assert output.count('reason="the server stops"') == 5, output
    for one in (waiting, binding, *idle, *full):
        one.close()
