# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
HTTP through proxies, with Twisted's Agent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pytest_twisted import blockon
from twisted.internet import reactor as theReactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.ssl import optionsForClientTLS
from twisted.web.client import (
    URI,
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    readBody,
)
from twisted.web.error import SchemeNotSupported
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.certificates import forLocalhost
from tests.loopback import Place, inReactor, passwords
from twisted_socks5 import (
    Login,
    SOCKS5AgentEndpointFactory,
    SOCKS5ConnectionPool,
    errors,
)

ALICE = Login("alice", "wonderland")
BOB = Login("bob", "builder")


class Page(Resource):
    """
    Says where the connection came from.
    """

    isLeaf = True

    def render_GET(self, request: Any) -> bytes:
        return b"%d" % request.getClientAddress().port


@implementer(IPolicyForHTTPS)
class Trusting:
    """
    Believes the tests' certificate.
    """

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        return optionsForClientTLS(hostname.decode(), trustRoot=forLocalhost())


class Web:
    """
    A web server, a proxy for alice and bob, and a pool.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.pools: list[HTTPConnectionPool] = []

    async def start(self, isTLS: bool = False) -> None:
        site: Any = Site(Page())  # type: ignore[no-untyped-call]  # Twisted's has no types
        site.noisy = False
        self.port = await self.place.listen(site, isTLS=isTLS)
        self.proxies = [
            await self.place.proxy(passwords(alice="wonderland", bob="builder"))
            for _ in range(2)
        ]
        scheme = "https" if isTLS else "http"
        self.url = f"{scheme}://localhost:{self.port}/".encode()

    def pool(self, kind: type[HTTPConnectionPool] = SOCKS5ConnectionPool) -> Any:
        self.pools.append(kind(theReactor))
        return self.pools[-1]

    def factory(
        self, *authenticators: Any, proxy: int = 0, policy: Any = None
    ) -> SOCKS5AgentEndpointFactory:
        endpoint = self.place.to(self.proxies[proxy].port)  # type: ignore[attr-defined]  # Place.proxy has added it
        return SOCKS5AgentEndpointFactory(
            endpoint, *authenticators, policyForHTTPS=policy or Trusting()
        )

    async def get(self, factory: Any, pool: Any = None) -> bytes:
        agent: Any = Agent.usingEndpointFactory(theReactor, factory, pool)
        response = await agent.request(b"GET", self.url)
        assert response.code == 200
        body: bytes = await readBody(response)
        return body

    def users(self) -> list[list[str]]:
        """
        The users of each proxy's live sessions.
        """
        return [
            [
                str(session.identity and session.identity.name)
                for session in proxy.registry
            ]
            for proxy in self.proxies
        ]

    async def stop(self) -> None:
        for pool in self.pools:
            await pool.closeCachedConnections()
        await self.place.until(lambda: self.users() == [[], []])
        await self.place.close()


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web(Place(theReactor))
    yield web
    blockon(Deferred.fromCoroutine(web.stop()))


@pytest.mark.parametrize("isTLS", [False, True])
@inReactor
async def test_get(web: Web, isTLS: bool) -> None:
    await web.start(isTLS)
    assert (await web.get(web.factory(ALICE))).isdigit()
    with pytest.raises(errors.AuthenticationFailed):
        await web.get(web.factory(Login("alice", "")))


@inReactor
async def test_anothersCertificate(web: Web) -> None:
    await web.start(isTLS=True)
    factory = web.factory(ALICE, policy=BrowserLikePolicyForHTTPS())
    with pytest.raises(Exception, match="certificate verify failed"):
        await web.get(factory)


@pytest.mark.parametrize("isTLS", [False, True])
@inReactor
async def test_connectionsAreUsedAgain(web: Web, isTLS: bool) -> None:
    await web.start(isTLS)
    pool, factory = web.pool(), web.factory(ALICE)
    assert await web.get(factory, pool) == await web.get(factory, pool)


@inReactor
async def test_connectionsAreKeptApart(web: Web) -> None:
    """
    By proxy, user and policy for HTTPS.
    """
    await web.start(isTLS=True)
    pool = web.pool()
    factories = [
        web.factory(ALICE),
        web.factory(BOB),
        web.factory(ALICE, proxy=1),
        web.factory(ALICE, policy=Trusting()),
    ]
    first = [await web.get(factory, pool) for factory in factories]
    assert len(set(first)) == len(factories)
    assert web.users() == [["alice", "bob", "alice"], ["alice"]]
    assert [await web.get(factory, pool) for factory in factories] == first
    direct: Any = Agent(theReactor, Trusting(), pool=pool)
    response = await direct.request(b"GET", web.url)
    assert await readBody(response) not in first


@inReactor
async def test_twoHundredRequestsOverTwentyConnections(web: Web) -> None:
    await web.start()
    pool = web.pool()
    pool.maxPersistentPerHost = 20
    factory = web.factory(ALICE)
    ports = []
    for _ in range(10):
        ports += await gatherResults(
            Deferred.fromCoroutine(web.get(factory, pool)) for _ in range(20)
        )
    assert len(ports) == 200
    assert len(set(ports)) == 20
    assert web.users() == [["alice"] * 20, []]


def test_otherSchemes() -> None:
    factory = SOCKS5AgentEndpointFactory(Place(theReactor).to(9))
    assert verifyObject(IAgentEndpointFactory, factory)
    with pytest.raises(SchemeNotSupported):
        factory.endpointForURI(URI.fromBytes(b"ftp://example.org/"))
