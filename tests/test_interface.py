# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Routes by a network interface look names up by it; clients at a link-local address of
one are served.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet import reactor as theReactor
from twisted.names import dns

from tests.association import datagramSocket, frame
from tests.conversation import GREET, readExactly, readReply, request
from tests.dnsserver import DNSServer
from tests.loopback import Peer, Place, factoryOf, inReactor
from tests.namespaces import Network, networks
from twisted_socks5.addresses import Address
from twisted_socks5.errors import GeneralFailure, NameNotFound
from twisted_socks5.policy.routesfile import RouteSettings, Straight
from twisted_socks5.routes import DirectRoute, NameResolver
from twisted_socks5.routes.timed import TimedResolver
from twisted_socks5.service.routes import RouteMaker

if TYPE_CHECKING:
    from tests.conftest import Server

reactor: Any = theReactor
NAME_SERVER = "10.99.0.2"
PORT = 5353


@pytest.fixture
def cables() -> Iterator[list[Network]]:
    """
    This host, which has the interfaces C{first} and C{second}, and at the other end
    of each another host, which is a name server of the same address.
    """
    for made in networks(3):
        here, first, second = made
        for name, there, own in (("first", first, "1"), ("second", second, "3")):
            here.join(there, name, "end")
            here.run(f"address add 10.99.0.{own}/24 dev {name}")
            there.run(f"address add {NAME_SERVER}/24 dev end")
        yield made


@asynccontextmanager
async def answering(*networks: Network, **hosts: str) -> AsyncIterator[list[DNSServer]]:
    servers = []
    for network in networks:
        with network.inside():
            servers.append(DNSServer(reactor, NAME_SERVER, PORT))
    try:
        yield servers
    finally:
        for server in servers:
            await server.stop()


def resolver(**options: Any) -> NameResolver:
    servers = [(NAME_SERVER, PORT)]
    return NameResolver(reactor, hosts="/dev/null", servers=servers, **options)


async def resolved(resolver: Any, name: str) -> list[str]:
    return [str(ip) for ip in await resolver.resolve(name)]


@inReactor
async def test_byInterfaces(cables: list[Network], place: Place) -> None:
    """
    Over UDP, and over TCP where the answer is long.
    """
    here, first, second = cables
    async with answering(first, second) as servers:
        for number, server in enumerate(servers):
            server.has("short.example", f"192.0.2.{number}")
            server.has("long.example", *(f"198.51.{number}.{n}" for n in range(1, 60)))
        with here.inside():
            for number, name in enumerate(("first", "second")):
                one = resolver().by(name)
                assert await resolved(one, "short.example") == [f"192.0.2.{number}"]
                found = await resolved(one, "long.example")
                assert found[0] == f"198.51.{number}.1"
                server = servers[number]
                assert server.askedOverTCP == [("long.example", dns.A)]
            with pytest.raises(GeneralFailure, match="cannot be used"):
                await resolved(resolver(interface="nosuch"), "short.example")
        assert [len(server.asked) for server in servers] == [5, 5]


@inReactor
async def test_theServerIsNotThereOverTCP(cables: list[Network], place: Place) -> None:
    here, first, _ = cables
    async with answering(first) as (server,):
        server.has("long.example", *(f"198.51.0.{n}" for n in range(1, 60)))
        await server.refuseTCP()
        with here.inside(), pytest.raises(GeneralFailure, match="cannot be used"):
            await resolved(resolver().by("first"), "long.example")


@inReactor
async def test_aNameServerOfThisHost(cables: list[Network], place: Place) -> None:
    """
    It cannot be reached by another interface; so it is asked as ever.
    """
    here, _, _ = cables
    with here.inside():
        server = DNSServer(reactor)
        server.has("a.example", "192.0.2.9")
        one = NameResolver(reactor, hosts="/dev/null", servers=[server.address])
        assert await resolved(one.by("second"), "a.example") == ["192.0.2.9"]
        await server.stop()


@inReactor
async def test_routes(cables: list[Network], place: Place) -> None:
    """
    A route of a file has what it connects to, and what that is, from its interface.
    """
    here, first, second = cables
    took: list[str] = []
    names = TimedResolver(resolver(), lambda outcome, _: took.append(outcome))
    maker = RouteMaker(reactor, DirectRoute(reactor, names))
    async with answering(first, second) as (other, server):
        other.answers["a.example", dns.A] = dns.ENAME
        server.has("a.example", NAME_SERVER)
        with second.inside():
            number = await place.listen(
                factoryOf(Peer), f"tcp:0:interface={NAME_SERVER}"
            )
        with here.inside():
            routes, _ = maker.make(
                {
                    "first": RouteSettings(Straight(interface="first")),
                    "second": RouteSettings(Straight(interface="second")),
                }
            )
            asked = Address("a.example", number)
            by: Any = routes
            outbound = await by["second"].connect(asked, allow)
            assert str(outbound.local.host) == "10.99.0.3"
            outbound.abort()
            with pytest.raises(NameNotFound):
                await by["first"].connect(asked, allow)
    assert took == ["succeeded", "failed"]


async def allow(address: Address, asked: Address | None = None) -> None: ...


@pytest.fixture
def cable() -> Iterator[tuple[Network, Network]]:
    """
    Two hosts that know nothing but link-local addresses of each other.
    """
    for here, there in networks(2):
        here.join(there, "here", "there")
        for network, name, host in ((here, "here", "1"), (there, "there", "2")):
            network.run(f"address add fe80::{host}/64 dev {name} nodad")
        yield here, there


def test_datagramsOfALinkLocalClient(
    cable: tuple[Network, Network], start: Callable[..., Server]
) -> None:
    """
    The relay is where the client has connected to, on the interface that this was
    by, and no other.
    """
    here, there = cable
    with here.inside():
        start("--port", "tcp6:1080:interface=\\:\\:", "--open")
        here.run("address add 8.8.8.8/32 dev lo")
        target = datagramSocket("8.8.8.8")
    with there.inside(), target:
        control = socket.create_connection(("fe80::1%there", 1080), 10)
        with control:
            control.settimeout(10)
            control.sendall(GREET + request(3, "0.0.0.0"))
            assert readExactly(control, 2) == b"\x05\x00"
            reply, relay = readReply(control)
            assert (reply, relay[0]) == (0, "fe80::1")
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
                client.settimeout(10)
                client.connect((*relay, 0, socket.if_nametoindex("there")))
                client.send(frame(b"ping", target.getsockname()))
                payload, source = target.recvfrom(99)
                assert payload == b"ping"
                target.sendto(b"pong", source)
                assert client.recv(99) == frame(b"pong", target.getsockname())
