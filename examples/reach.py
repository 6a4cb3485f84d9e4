# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Reach a service through a SOCKS5 proxy: reach.py HOST PORT
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import react

from twisted_socks5 import Login, SOCKS5ClientEndpoint


class Fetch(Protocol):
    def connectionMade(self):
        self.page = b""
        self.done = Deferred()
        self.transport.write(b"GET / HTTP/1.0\r\n\r\n")

    def dataReceived(self, data):
        self.page += data

    def connectionLost(self, reason):
        self.done.callback(self.page)


async def main(reactor, host, port):
    proxy = TCP4ClientEndpoint(reactor, "127.0.0.1", 1080)
    service = SOCKS5ClientEndpoint(
        proxy, host, int(port), Login("alice", "wonderland"), reactor=reactor
    )
    fetch = await connectProtocol(service, Fetch())
    print((await fetch.done).decode())


react(lambda reactor: Deferred.fromCoroutine(main(reactor, *sys.argv[1:])))
