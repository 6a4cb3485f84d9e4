# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The examples of rules in the documentation, each in force at a proxy with real
sockets.  What is theirs of the world is replaced by what is there: ports, networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from ipaddress import ip_address
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from tests.loopback import Peer, Place, factoryOf, inReactor
from tests.test_docs import BLOCKS
from tests.test_throughproxy import Answering, Keeping
from twisted_socks5 import errors
from twisted_socks5.addresses import IPAddress
from twisted_socks5.authenticators import Authenticated, Identity
from twisted_socks5.client import (
    SOCKS5ClientEndpoint,
    SOCKS5DatagramEndpoint,
    SOCKS5ServerEndpoint,
)
from twisted_socks5.interfaces import IAuthenticator, IExchange, IResolver
from twisted_socks5.policy import Guard, RulePolicy
from twisted_socks5.policy.rulesfile import parseRules
from twisted_socks5.routes import DirectRoute
from twisted_socks5.service.routes import RouteMaker
from twisted_socks5.service.rules import policyOf, takeRules

NOON = datetime(2026, 6, 1, 12, 0, tzinfo=ZoneInfo("Europe/Berlin"))  # a Monday


def example(name: str, replaced: dict[str, object] | None = None) -> str:
    """
    An example, with some of its words replaced.
    """
    (text,) = (block.text for block in BLOCKS if block.fileName == name)
    for old, new in (replaced or {}).items():
        assert old in text
        text = text.replace(old, str(new))
    return text


@implementer(IAuthenticator)
class Known:
    """
    Has all clients be who the test says.
    """

    method, strength, failureReply = 0, 0, b""

    def __init__(self) -> None:
        self.user = "nobody"
        self.groups: Any = ()

    def isAvailable(self, exchange: IExchange) -> bool:
        return True

    def authenticate(self, exchange: IExchange) -> Authenticated:
        raw = self.user.encode()
        return Authenticated(Identity(self.user, raw, self.groups, 0x02))


@implementer(IResolver)
class AllHere:
    """
    All names are 127.0.0.1.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def resolve(self, name: str) -> Sequence[IPAddress]:
        self.asked.append(name)
        return [ip_address("127.0.0.1")]


class Ruled:
    """
    A proxy with the rules of an example, and a destination.

    @ivar now: What its clock shows.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.who = Known()
        self.names = AllHere()
        self.now = NOON

    async def start(self, text: str) -> None:
        loaded = parseRules(text)
        policy: RulePolicy = policyOf(loaded, lambda: self.now.timestamp(), Guard())
        self.route: Any = DirectRoute(reactor, self.names)
        factory: Any = await self.place.proxy(self.who, policy=policy, route=self.route)
        takeRules(policy, loaded, self.route, RouteMaker(reactor, self.route))
        self.factory = factory
        self.proxy = self.place.to(factory.port)

    async def connect(self, host: str, port: int) -> str:
        """
        @return: Where the destination sees the connection come from.
        """
        before = len(self.place.protocols)
        endpoint = SOCKS5ClientEndpoint(self.proxy, host, port, reactor=reactor)
        peer: Any = await endpoint.connect(factoryOf(Peer))
        await self.place.until(lambda: len(self.place.protocols) > before)
        destination: Any = self.place.protocols[before]
        destination.transport.write(b"hello")
        await self.place.until(lambda: peer.received == b"hello")
        source: str = destination.transport.getPeer().host
        peer.transport.loseConnection()
        await self.place.until(lambda: destination.reason)
        return source

    async def refused(self, host: str, port: int, *error: type[Exception]) -> None:
        with pytest.raises(error or errors.ConnectionNotAllowed):
            await self.connect(host, port)

    async def associate(self) -> tuple[Any, Keeping]:
        protocol = Keeping()
        port = await SOCKS5DatagramEndpoint(reactor, self.proxy).listen(protocol)
        return port, protocol


@pytest.fixture
def ruled(place: Place) -> Ruled:
    return Ruled(place)


async def answering(place: Place, host: str = "127.0.0.1") -> int:
    """
    The port of a destination of datagrams.
    """
    port = place.reactor.listenUDP(0, Answering(), interface=host)
    place.ports.append(port)
    number: int = port.getHost().port
    return number


@inReactor
async def test_allowList(place: Place, ruled: Ruled) -> None:
    port, ssh = await place.serve(Peer), await place.serve(Peer)
    udp = await answering(place)
    replaced = {"[80, 443]": [udp, port], "22": ssh, "10.20.0.0/16": "127.0.0.0/16"}
    await ruled.start(example("allowlist.toml", replaced))
    for name in ("example.org", "www.example.org", "Updates.Example.com."):
        assert await ruled.connect(name, port) == "127.0.0.1"
    await ruled.refused("www.example.net", port)
    await ruled.refused("example.com", port)
    await ruled.refused("www.example.org", ssh)
    await ruled.refused("127.0.0.1", port)
    await ruled.refused("127.0.0.1", ssh)
    asked = set(ruled.names.asked)
    assert asked == {"example.org", "www.example.org", "updates.example.com"}
    association, protocol = await ruled.associate()
    for name in ("example.net", "127.0.0.1"):
        association.write(b"no", (name, udp))
    association.write(b"yes", ("example.org", udp))
    await place.until(lambda: protocol.received)
    assert protocol.received == [(b"yes", ("127.0.0.1", udp))]
    await association.stopListening()
    ruled.who.groups = ("admins",)
    assert await ruled.connect("127.0.0.1", ssh) == "127.0.0.1"
    await ruled.refused("127.1.0.1", ssh)
    await ruled.refused("127.0.0.1", port)


@inReactor
async def test_egress(place: Place, ruled: Ruled) -> None:
    port = await place.serve(Peer)
    await ruled.start(example("egress.toml"))
    for user, source in (("alice", "127.0.0.2"), ("bob", "127.0.0.3")):
        ruled.who.user = user
        assert await ruled.connect("127.0.0.1", port) == source
        assert await ruled.connect("example.org", port) == source
        listening: Any = await SOCKS5ServerEndpoint(
            ruled.proxy, "127.0.0.1", 0, reactor=reactor
        ).listen(factoryOf(Peer))
        assert listening.getHost().host == source
        await listening.stopListening()
        association, protocol = await ruled.associate()
        seeing = Seeing()
        udp = place.reactor.listenUDP(0, seeing, interface="127.0.0.1")
        place.ports.append(udp)
        association.write(b"hello", ("127.0.0.1", udp.getHost().port))
        await place.until(lambda seeing=seeing: seeing.sources)  # type: ignore[misc]  # mypy does not type defaults of lambdas
        assert seeing.sources == [source]
        await association.stopListening()
    for user in ("carol", "Alice", ""):
        ruled.who.user = user
        await ruled.refused("127.0.0.1", port)


class Seeing(DatagramProtocol):
    """
    Takes down who sends.
    """

    def __init__(self) -> None:
        self.sources: list[str] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.sources.append(addr[0])


@inReactor
async def test_noMail(place: Place, ruled: Ruled) -> None:
    port, smtp = await place.serve(Peer), await place.serve(Peer)
    udp = await answering(place)
    replaced = {"10.0.0.25": "127.0.0.5", "25": smtp, "465": udp}
    await ruled.start(example("mail.toml", replaced))
    assert await ruled.connect("127.0.0.1", port) == "127.0.0.1"
    await ruled.refused("127.0.0.1", smtp, errors.ConnectionRefused)
    await ruled.refused("example.org", smtp, errors.ConnectionRefused)
    association, protocol = await ruled.associate()
    association.write(b"no", ("127.0.0.1", udp))
    (session,) = ruled.factory.registry
    await place.until(lambda: session.traffic.drops["denied"] == 1)
    await association.stopListening()
    ruled.proxy = TCP4ClientEndpoint(
        reactor, "127.0.0.1", ruled.factory.port, bindAddress=("127.0.0.5", 0)
    )
    assert await ruled.connect("example.org", smtp) == "127.0.0.1"


@inReactor
async def test_split(place: Place, ruled: Ruled) -> None:
    """
    Names under onion are Tor's, here one that has them all at 127.0.0.1.
    """
    port = await place.serve(Peer)
    onions: Any = AllHere()
    tor: Any = await place.proxy(route=DirectRoute(reactor, onions))
    await ruled.start(example("split.toml", {"9050": tor.port}))
    await ruled.connect("example.org", port)
    assert not tor.registry
    with pytest.raises(errors.SOCKSError):
        await ruled.connect("example.onion", port ^ 1)
    await ruled.connect("a.Example.ONION.", port)
    assert onions.asked == ["example.onion", "a.example.onion"]
    assert ruled.names.asked == ["example.org"]
    for host in ("a.onion", "b.example.onion"):
        with pytest.raises(errors.ConnectionNotAllowed):
            await SOCKS5ServerEndpoint(ruled.proxy, host, 0, reactor=reactor).listen(
                factoryOf(Peer)
            )
    association, protocol = await ruled.associate()
    udp = await answering(place)
    (session,) = ruled.factory.registry
    association.write(b"no", ("a.onion", udp))
    await place.until(lambda: session.traffic.drops["denied"] == 1)
    association.write(b"yes", ("example.org", udp))
    await place.until(lambda: protocol.received)
    assert protocol.received == [(b"yes", ("127.0.0.1", udp))]
    await association.stopListening()


@inReactor
async def test_officeHours(place: Place, ruled: Ruled) -> None:
    port = await place.serve(Peer)
    await ruled.start(example("hours.toml"))
    for day, hour, minute, isOpen in (
        (1, 12, 0, True),
        (1, 8, 0, True),
        (1, 7, 59, False),
        (5, 17, 59, True),
        (5, 18, 0, False),
        (6, 12, 0, False),
    ):
        ruled.now = NOON.replace(day=day, hour=hour, minute=minute)
        if isOpen:
            await ruled.connect("127.0.0.1", port)
        else:
            await ruled.refused("127.0.0.1", port)
    ruled.who.groups = ("on-call",)
    await ruled.connect("127.0.0.1", port)
