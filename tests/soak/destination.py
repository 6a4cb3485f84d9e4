# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Destinations that send back what they get, in a process of their own.
"""

from __future__ import annotations

import select
import socket
from multiprocessing.connection import Connection

PLACES = [f"127.2.0.{number}" for number in range(1, 33)]
"""
Where it listens.  From one address of the proxy's, 28,000 connections can be
open or linger to each, as far as the kernel chooses the ports.
"""


def serve(control: Connection) -> None:
    """
    Listen at one port of all places, which is told, until the other end of the
    control closes.
    """
    poll = select.epoll()
    listening: dict[int, socket.socket] = {}
    port = 0
    for place in PLACES:
        one = socket.create_server((place, port), backlog=4096)
        port = one.getsockname()[1]
        one.setblocking(False)
        listening[one.fileno()] = one
        poll.register(one, select.EPOLLIN)
    poll.register(control, select.EPOLLIN)
    control.send(port)
    clients: dict[int, socket.socket] = {}
    while True:
        for number, _ in poll.poll():
            if number == control.fileno():
                return
            if number in listening:
                _accept(listening[number], clients, poll)
            elif not _answer(clients[number]):
                poll.unregister(number)
                clients.pop(number).close()


def _accept(
    listening: socket.socket, clients: dict[int, socket.socket], poll: select.epoll
) -> None:
    while True:
        try:
            client, _ = listening.accept()
        except BlockingIOError:
            return
        client.setblocking(False)
        clients[client.fileno()] = client
        poll.register(client, select.EPOLLIN)


def _answer(client: socket.socket) -> bool:
    """
    @return: Whether the connection goes on.
    """
    try:
        data = client.recv(4096)
        client.sendall(data)
    except OSError:
        return False
    return data != b""
