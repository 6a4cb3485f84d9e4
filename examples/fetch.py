# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Fetch pages over HTTP through a SOCKS5 proxy: fetch.py URL...
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import react
from twisted.web.client import Agent, readBody

from twisted_socks5 import SOCKS5AgentEndpointFactory, SOCKS5ConnectionPool


async def main(reactor, urls):
    proxy = TCP4ClientEndpoint(reactor, "127.0.0.1", 1080)
    pool = SOCKS5ConnectionPool(reactor)
    agent = Agent.usingEndpointFactory(
        reactor, SOCKS5AgentEndpointFactory(proxy, reactor=reactor), pool
    )
    for url in urls:
        response = await agent.request(b"GET", url.encode())
        print(response.code, (await readBody(response)).decode())
    await pool.closeCachedConnections()


react(lambda reactor: Deferred.fromCoroutine(main(reactor, sys.argv[1:])))
