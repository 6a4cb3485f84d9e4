# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Ask a name server for an address, over UDP through a SOCKS5 proxy:
ask.py SERVER PORT NAME
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import react
from twisted.names.dns import DNSDatagramProtocol, Query

from twisted_socks5 import SOCKS5DatagramEndpoint


async def main(reactor, server, port, name):
    proxy = TCP4ClientEndpoint(reactor, "127.0.0.1", 1080)
    protocol = DNSDatagramProtocol(None)
    association = await SOCKS5DatagramEndpoint(reactor, proxy).listen(protocol)
    message = await protocol.query((server, int(port)), [Query(name.encode())], 5)
    for answer in message.answers:
        print(answer.payload.dottedQuad())
    await association.stopListening()


react(lambda reactor: Deferred.fromCoroutine(main(reactor, *sys.argv[1:])))
