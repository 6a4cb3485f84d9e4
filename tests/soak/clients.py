# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Clients of a proxy, thousands in one thread: what there is for each is a socket,
and what it still waits for.
"""

from __future__ import annotations

import itertools
import select
import socket
import time
from collections.abc import Iterator

from tests.soak.destination import PLACES

GREETING = b"\x05\x01\x00"
REPLY = 2 + 10
"""
How many bytes come of the server's own.
"""

PATIENCE = 20.0
"""
How long, in seconds, a client waits for what it is to get, before it has failed.
"""

IP_BIND_ADDRESS_NO_PORT = 24
"""
Of Linux: the port is chosen when it is known where to, so that it can be
used to several places at once.
"""

Name = tuple[str, int]


class Client:
    """
    One that asks to be connected to a destination, and has it send back a byte.

    @ivar name: Its address and port.
    @ivar began: When it was made.
    """

    def __init__(self, source: str, proxy: Name, target: Name) -> None:
        self.began = time.monotonic()
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        self.socket.bind((source, 0))
        self.socket.connect_ex(proxy)
        self.name: Name = self.socket.getsockname()
        host, port = target
        self._toSend = (
            GREETING
            + b"\x05\x01\x00\x01"
            + socket.inet_aton(host)
            + port.to_bytes(2)
            + b"?"
        )
        self._toCome = REPLY + 1
        self._got = b""

    @property
    def isServed(self) -> bool:
        """
        Whether it has got all that it waits for.
        """
        return len(self._got) == self._toCome

    def isReady(self, events: int) -> None:
        """
        Something can be sent, or has come.

        @raise OSError: It has failed.
        """
        if self._toSend:
            error = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, "not connected")
            self.socket.sendall(self._toSend)
            self._toSend = b""
        elif events & ~select.EPOLLOUT:
            data = self.socket.recv(100)
            self._got += data
            if self._toCome > REPLY and len(self._got) > 3 and self._got[3]:
                raise OSError(f"refused with {self._got[3]:02X}")
            if not data or len(self._got) > self._toCome:
                raise OSError("closed" if not data else "more than was asked for")

    def ping(self) -> None:
        """
        Have another byte sent back.

        @raise OSError: It is not there any more.
        """
        self._toCome = 1
        self._got = b""
        self.socket.sendall(b"?")


class Crowd:
    """
    Clients of one proxy that live now.

    @ivar failed: Those that have failed, with the reason.
    """

    def __init__(self, proxy: Name, port: int, network: str) -> None:
        """
        @param port: That of the destinations.
        @param network: Where clients come from: the first two parts of an
            address.
        """
        self.proxy = proxy
        self.failed: dict[Name, str] = {}
        self.poll = select.epoll()
        self.clients: dict[int, Client] = {}
        self._waiting: dict[int, float] = {}
        self._targets = itertools.cycle([(place, port) for place in PLACES])
        self._sources: Iterator[str] = itertools.cycle(
            f"{network}.{third}.{fourth}"
            for third in range(1, 17)
            for fourth in range(1, 251)
        )

    def add(self) -> None:
        """
        One more client.
        """
        client = Client(next(self._sources), self.proxy, next(self._targets))
        number = client.socket.fileno()
        self.clients[number] = client
        self._waiting[number] = client.began
        self.poll.register(number, select.EPOLLOUT)

    def ping(self) -> None:
        """
        Have all of them show that they are there.
        """
        now = time.monotonic()
        for number, client in list(self.clients.items()):
            try:
                client.ping()
            except OSError as error:
                self._fail(number, str(error))
            else:
                self._waiting[number] = now

    def names(self) -> set[Name]:
        """
        Those that live now.
        """
        return {client.name for client in self.clients.values()}

    @property
    def waiting(self) -> int:
        """
        How many wait for what they are to get.
        """
        return len(self._waiting)

    def turn(self, seconds: float) -> Iterator[Client]:
        """
        See to what happens within some time, or the first of it.

        @return: Those that have got what they waited for.
        """
        for number, events in self.poll.poll(max(0.0, seconds), 1000):
            client = self.clients[number]
            try:
                client.isReady(events)
            except OSError as error:
                self._fail(number, str(error))
                continue
            if client.isServed:
                if self._waiting.pop(number, None) is not None:
                    yield client
            else:
                self.poll.modify(number, select.EPOLLIN)
        self._giveUp()

    def remove(self, client: Client) -> None:
        """
        Have a client leave.
        """
        del self.clients[client.socket.fileno()]
        client.socket.close()

    def _giveUp(self) -> None:
        """
        Those that wait are in the order in which they began to.
        """
        late = time.monotonic() - PATIENCE
        while self._waiting:
            number, since = next(iter(self._waiting.items()))
            if since > late:
                return
            self._fail(number, "no answer")

    def _fail(self, number: int, reason: str) -> None:
        client = self.clients.pop(number)
        self._waiting.pop(number, None)
        self.failed[client.name] = reason
        client.socket.close()
