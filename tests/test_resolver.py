# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Looking names up: the hosts file, resolv.conf, and real name servers on
loopback.
"""

from __future__ import annotations

import gc
import os
import resource
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import blockon
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.names import dns
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.dnsserver import SILENCE, DNSServer
from tests.loopback import inReactor
from twisted_socks5.addresses import IPAddress
from twisted_socks5.errors import GeneralFailure, NameNotFound, TimedOut
from twisted_socks5.interfaces import IResolver
from twisted_socks5.routes.resolver import NameResolver

MakeResolver = Callable[..., NameResolver]


def ips(*texts: str) -> list[IPAddress]:
    return [ip_address(text) for text in texts]


def openSockets() -> set[str]:
    """
    The sockets of this process.
    """
    names = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            names.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        except FileNotFoundError:  # the one that listed them
            continue
    return {name for name in names if name.startswith("socket:")}


@pytest.fixture
def events() -> Iterator[list[LogEvent]]:
    """
    What is logged meanwhile.
    """
    events: list[LogEvent] = []

    @implementer(ILogObserver)
    def observer(event: LogEvent) -> None:
        events.append(event)

    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)


@pytest.fixture(autouse=True)
def _nothingGoesWrong(events: list[LogEvent]) -> Iterator[None]:
    """
    No error is logged, also of Deferreds whose failure nobody took.
    """
    yield
    gc.collect()
    assert [e for e in events if e["log_level"] >= LogLevel.error] == []


@pytest.fixture
def server() -> Iterator[DNSServer]:
    server = DNSServer(reactor)
    yield server
    blockon(Deferred.fromCoroutine(server.stop()))


@pytest.fixture
def makeResolver(tmp_path: Path) -> MakeResolver:
    """
    Makes a resolver with files of its own.
    """

    def make(
        *servers: tuple[str, int], hosts: str = "", resolvConf: str = ""
    ) -> NameResolver:
        (tmp_path / "hosts").write_text(hosts)
        (tmp_path / "resolv.conf").write_text(resolvConf)
        return NameResolver(
            reactor,
            str(tmp_path / "resolv.conf"),
            str(tmp_path / "hosts"),
            servers=servers,
        )

    return make


def outcomeOf(deferred: Deferred[Any]) -> Any:
    """
    What a Deferred that must have fired already has fired with.
    """
    outcomes: list[Any] = []
    deferred.addCallbacks(outcomes.append, lambda f: outcomes.append(f.value))
    (outcome,) = outcomes
    return outcome


def fails(deferred: Deferred[Any], error: type[Exception]) -> None:
    assert type(outcomeOf(deferred)) is error


def test_interface(makeResolver: MakeResolver) -> None:
    assert verifyObject(IResolver, makeResolver())


# -- without asking anybody ------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("both.example", ["2001:db8::1", "192.0.2.1", "192.0.2.2"]),
        ("alias", ["2001:db8::1"]),
        ("mixed.example", ["192.0.2.3"]),
        ("dotted.example", ["192.0.2.4"]),
        ("localhost", ["192.0.2.5"]),
        ("named.invalid", ["192.0.2.6"]),
    ],
)
def test_hostsFile(makeResolver: MakeResolver, name: str, expected: list[str]) -> None:
    resolver = makeResolver(
        hosts="# comment\n\n"
        "192.0.2.1 both.example # alias\n"
        "192.0.2.2\tboth.example\r\n"
        "192.0.2.2\tboth.example\n"
        "2001:db8::1 both.example alias\n"
        "192.0.2.3 Mixed.Example\n"
        "192.0.2.4 dotted.example.\n"
        "192.0.2.5 localhost\n"
        "192.0.2.6 named.invalid\n"
        "not-an-address both.example\n"
        "127.1 both.example\n"
        "192.0.2.7\n"
    )
    assert list(outcomeOf(resolver.resolve(name))) == ips(*expected)


def test_hostsFileThatChanges(makeResolver: MakeResolver, tmp_path: Path) -> None:
    resolver = makeResolver(hosts="192.0.2.1 a.localhost\n")
    assert list(outcomeOf(resolver.resolve("a.localhost"))) == ips("192.0.2.1")
    (tmp_path / "new").write_text("192.0.2.2 a.localhost\n")
    (tmp_path / "new").replace(tmp_path / "hosts")
    assert list(outcomeOf(resolver.resolve("a.localhost"))) == ips("192.0.2.2")
    (tmp_path / "hosts").unlink()
    assert list(outcomeOf(resolver.resolve("a.localhost"))) == ips("::1", "127.0.0.1")
    (tmp_path / "hosts").write_text("192.0.2.3 a.localhost\n")
    assert list(outcomeOf(resolver.resolve("a.localhost"))) == ips("192.0.2.3")


@pytest.mark.parametrize("name", ["localhost", "a.localhost", "a.b.localhost"])
def test_localhost(makeResolver: MakeResolver, name: str) -> None:
    resolver = makeResolver()
    assert list(outcomeOf(resolver.resolve(name))) == ips("::1", "127.0.0.1")


@pytest.mark.parametrize("name", ["invalid", "a.invalid", "a.onion"])
def test_namesThatAreNowhere(makeResolver: MakeResolver, name: str) -> None:
    # No name server is listening, so that it would be another error.
    fails(makeResolver(("127.0.0.1", 1)).resolve(name), NameNotFound)


@inReactor
async def test_theHostsFileAnswersAlone(
    server: DNSServer, makeResolver: MakeResolver
) -> None:
    server.has("a.example", "2001:db8::1", "192.0.2.1")
    resolver = makeResolver(server.address, hosts="192.0.2.9 a.example\n")
    assert list(await resolver.resolve("a.example")) == ips("192.0.2.9")
    assert server.asked == []


# -- answers ---------------------------------------------------------------------


@inReactor
async def test_bothFamilies(server: DNSServer, makeResolver: MakeResolver) -> None:
    server.has(
        "a.example",
        "192.0.2.2",
        "192.0.2.1",
        "192.0.2.2",
        "2001:db8::2",
        "192.0.2.3",
        "2001:db8::1",
    )
    addresses = await makeResolver(server.address).resolve("a.example")
    assert list(addresses) == ips(
        "2001:db8::2", "192.0.2.2", "2001:db8::1", "192.0.2.1", "192.0.2.3"
    )
    assert sorted(server.asked) == [("a.example", dns.A), ("a.example", dns.AAAA)]


@inReactor
@pytest.mark.parametrize(
    ("silent", "address"), [(dns.AAAA, "192.0.2.1"), (dns.A, "2001:db8::1")]
)
@pytest.mark.parametrize("other", [SILENCE, dns.ESERVER, dns.ENAME, []])
async def test_oneFamilyWillDo(
    server: DNSServer,
    makeResolver: MakeResolver,
    silent: int,
    address: str,
    other: Any,
) -> None:
    sockets = openSockets()
    server.has("a.example", address)
    server.answers["a.example", silent] = other
    addresses = await makeResolver(server.address).resolve("a.example")
    assert list(addresses) == ips(address)
    assert openSockets() == sockets


@inReactor
async def test_aliases(server: DNSServer, makeResolver: MakeResolver) -> None:
    server.answers["a.example", dns.A] = [
        server.cname("a.example", "B.example"),
        server.cname("b.example", "c.example"),
        server.a("C.EXAMPLE", "192.0.2.1"),
        server.a("other.example", "192.0.2.66"),
        server.aaaa("c.example", "2001:db8::66"),
    ]
    server.answers["a.example", dns.AAAA] = [server.cname("a.example", "b.example")]
    addresses = await makeResolver(server.address).resolve("a.example")
    assert list(addresses) == ips("192.0.2.1")


@inReactor
@pytest.mark.parametrize("count", [100, 3000])
async def test_anAnswerTooLongForADatagram(
    server: DNSServer, makeResolver: MakeResolver, count: int
) -> None:
    sockets = openSockets()
    addresses = [f"10.1.{n // 256}.{n % 256}" for n in range(count)]
    server.has("a.example", *addresses)
    found = await makeResolver(server.address).resolve("a.example")
    assert list(found) == ips(*addresses[:32])
    assert server.askedOverTCP == [("a.example", dns.A)]
    await server.whenDisconnected()
    assert openSockets() == sockets


# -- failures --------------------------------------------------------------------


@inReactor
async def test_noSuchName(server: DNSServer, makeResolver: MakeResolver) -> None:
    with pytest.raises(NameNotFound):
        await makeResolver(server.address).resolve("a.example")
    assert len(server.asked) == 2


@inReactor
async def test_aNameWithoutAddresses(
    server: DNSServer, makeResolver: MakeResolver
) -> None:
    server.has("a.example")
    with pytest.raises(NameNotFound):
        await makeResolver(server.address).resolve("a.example")


@inReactor
@pytest.mark.parametrize("rcode", [dns.EFORMAT, dns.ESERVER, dns.ENOTIMP, dns.EREFUSED])
@pytest.mark.parametrize("other", [None, []])
async def test_aServerThatFails(
    server: DNSServer, makeResolver: MakeResolver, rcode: int, other: Any
) -> None:
    server.answers["a.example", dns.A] = rcode
    server.answers["a.example", dns.AAAA] = rcode if other is None else other
    with pytest.raises(GeneralFailure):
        await makeResolver(server.address).resolve("a.example")


@inReactor
async def test_noAnswer(server: DNSServer, makeResolver: MakeResolver) -> None:
    server.hush("a.example")
    sockets = openSockets()
    resolver = makeResolver(server.address, resolvConf="options timeout:1 attempts:2")
    with pytest.raises(TimedOut):
        await resolver.resolve("a.example")
    assert len(server.asked) == 4
    assert openSockets() == sockets


@inReactor
@pytest.mark.parametrize(
    "address",
    [
        pytest.param(("127.0.0.1", 1), id="nobody listens"),
        pytest.param(("255.255.255.255", 53), id="not to be sent to"),
        pytest.param(("fe80::1%nosuchinterface", 53), id="no such interface"),
    ],
)
async def test_aServerThatCannotBeReached(
    server: DNSServer, makeResolver: MakeResolver, address: tuple[str, int]
) -> None:
    server.has("a.example", "192.0.2.1")
    with pytest.raises(GeneralFailure):
        await makeResolver(address).resolve("a.example")
    resolver = makeResolver(address, server.address)
    assert list(await resolver.resolve("a.example")) == ips("192.0.2.1")


@inReactor
async def test_theNextServerIsAskedAfterOneThatFailedOrWasSilent(
    server: DNSServer, makeResolver: MakeResolver
) -> None:
    server.hush("silent.example")
    server.answers["broken.example", dns.A] = dns.ESERVER
    server.answers["broken.example", dns.AAAA] = dns.EREFUSED
    second = DNSServer(reactor)
    second.has("silent.example", "192.0.2.1")
    second.has("broken.example", "192.0.2.2")
    second.has("gone.example", "192.0.2.3")
    resolver = makeResolver(
        server.address, second.address, resolvConf="options timeout:1"
    )
    assert list(await resolver.resolve("silent.example")) == ips("192.0.2.1")
    assert list(await resolver.resolve("broken.example")) == ips("192.0.2.2")
    # Where the first one knows that there is none, the second is not asked.
    with pytest.raises(NameNotFound):
        await resolver.resolve("gone.example")
    await second.stop()


@inReactor
async def test_noDescriptorsLeft(
    server: DNSServer, makeResolver: MakeResolver, tmp_path: Path
) -> None:
    server.has("a.example", "192.0.2.1")
    resolver = makeResolver(server.address, hosts="192.0.2.2 b.example\n")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        # First the hosts file cannot be read, ...
        fails(resolver.resolve("b.example"), GeneralFailure)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert list(await resolver.resolve("b.example")) == ips("192.0.2.2")
    assert list(await resolver.resolve("a.example")) == ips("192.0.2.1")
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        # ... then it need not be, but there is no socket.
        assert list(await resolver.resolve("b.example")) == ips("192.0.2.2")
        fails(resolver.resolve("a.example"), GeneralFailure)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert list(await resolver.resolve("a.example")) == ips("192.0.2.1")


@inReactor
async def test_whatIsNoAnswerIsPassedOver(makeResolver: MakeResolver) -> None:
    """
    Garbage, the question itself, another question's answer and an answer with
    another ID are not taken; the true one that follows is.
    """

    class Confused(DNSServer):
        def messageReceived(
            self,
            message: dns.Message,
            protocol: Any,
            address: tuple[str, int] | None = None,
        ) -> None:
            forged = dns.Message(message.id, answer=1)
            forged.queries = [dns.Query("b.example", message.queries[0].type)]
            forged.answers = [self.a("b.example", "192.0.2.66")]
            wrongID = dns.Message(message.id ^ 1, answer=1)
            wrongID.queries = message.queries
            wrongID.answers = [self.a("a.example", "192.0.2.66")]
            for data in (
                b"",
                b"\0",
                message.toStr(),
                forged.toStr(),
                wrongID.toStr(),
                b"\xff" * 600,
            ):
                protocol.transport.write(data, address)
            super().messageReceived(message, protocol, address)

    server = Confused(reactor)
    server.has("a.example", "192.0.2.1")
    addresses = await makeResolver(server.address).resolve("a.example")
    assert list(addresses) == ips("192.0.2.1")
    await server.stop()


# -- the search list -------------------------------------------------------------


@inReactor
@pytest.mark.parametrize(
    ("resolvConf", "name", "asked"),
    [
        ("search one.test two.test", "a", ["a.one.test", "a.two.test", "a"]),
        ("search one.test", "a.b", ["a.b", "a.b.one.test"]),
        ("domain one.test", "a", ["a.one.test", "a"]),
        ("search one.test\ndomain two.test", "a", ["a.two.test", "a"]),
        ("search one.test\noptions ndots:2", "a.b", ["a.b.one.test", "a.b"]),
        ("search one.test\noptions ndots:2", "a.b.c", ["a.b.c", "a.b.c.one.test"]),
        ("search one.test\noptions ndots:0", "a", ["a", "a.one.test"]),
        ("search One.Test.", "a", ["a.one.test", "a"]),
        ("search . " + "x" * 64, "a", ["a"]),
        ("", "a", ["a"]),
        (
            "search\ndomain\nnameserver\nnameserver x\noptions\noptions ndots ndots:x\n"
            "options ndots:-1 timeout: attempts:0\n; comment\nnonsense \xff\x00\n",
            "a",
            ["a"],
        ),
    ],
)
async def test_search(
    server: DNSServer,
    makeResolver: MakeResolver,
    resolvConf: str,
    name: str,
    asked: list[str],
) -> None:
    resolver = makeResolver(server.address, resolvConf=resolvConf)
    with pytest.raises(NameNotFound):
        await resolver.resolve(name)
    names = [name for name, recordType in server.asked if recordType == dns.A]
    assert names == asked


@inReactor
async def test_theSearchEndsWithTheFirstNameThatHasAddresses(
    server: DNSServer, makeResolver: MakeResolver
) -> None:
    server.answers["a.one.test", dns.A] = dns.ESERVER
    server.answers["a.one.test", dns.AAAA] = dns.ESERVER
    server.has("a.two.test", "192.0.2.1")
    server.has("a", "192.0.2.66")
    resolver = makeResolver(server.address, resolvConf="search one.test two.test\n")
    assert list(await resolver.resolve("a")) == ips("192.0.2.1")


@inReactor
async def test_aDomainThatFailsLeavesItUncertain(
    server: DNSServer, makeResolver: MakeResolver
) -> None:
    server.answers["a.one.test", dns.A] = dns.ESERVER
    resolver = makeResolver(server.address, resolvConf="search one.test\n")
    with pytest.raises(GeneralFailure):
        await resolver.resolve("a")


@inReactor
async def test_resolvConfThatChanges(
    server: DNSServer, makeResolver: MakeResolver, tmp_path: Path
) -> None:
    server.has("a.one.test", "192.0.2.1")
    server.has("a.three.test", "192.0.2.3")
    resolver = makeResolver(server.address, resolvConf="search one.test\n")
    assert list(await resolver.resolve("a")) == ips("192.0.2.1")
    (tmp_path / "resolv.conf").write_text("search three.test\n")
    assert list(await resolver.resolve("a")) == ips("192.0.2.3")


# -- many at once, and none ------------------------------------------------------


@inReactor
async def test_namesThatHangHoldUpNobody(
    server: DNSServer, makeResolver: MakeResolver
) -> None:
    sockets = openSockets()
    names = [f"hangs{n}.example" for n in range(200)]
    for name in names:
        server.hush(name)
    server.has("good.example", "192.0.2.1")
    resolver = makeResolver(server.address)
    hanging = []
    for name in names:
        hanging.append(resolver.resolve(name))
        # One by one: the server's socket does not hold 400 questions.
        await server.whenAsked(2 * len(hanging))
    assert list(await resolver.resolve("good.example")) == ips("192.0.2.1")
    assert not any(deferred.called for deferred in hanging)
    for deferred in hanging:
        deferred.cancel()
        fails(deferred, CancelledError)
    assert openSockets() == sockets


@inReactor
async def test_cancellingFreesTheSocketsAtOnce(
    server: DNSServer, makeResolver: MakeResolver
) -> None:
    sockets = openSockets()
    timers = len(reactor.getDelayedCalls())
    server.hush("a.example")
    resolver = makeResolver(server.address)
    looking = resolver.resolve("a.example")
    await server.whenAsked(2)
    assert len(openSockets() - sockets) == 2
    looking.cancel()
    fails(looking, CancelledError)
    assert openSockets() == sockets
    assert len(reactor.getDelayedCalls()) == timers
    server.speak()  # too late for anybody to notice
    # The same name can be asked for again.
    server.has("a.example", "192.0.2.1")
    assert list(await resolver.resolve("a.example")) == ips("192.0.2.1")


@inReactor
async def test_cancellingOverTCP(server: DNSServer, makeResolver: MakeResolver) -> None:
    sockets = openSockets()
    server.has("a.example", *[f"192.0.2.{n}" for n in range(100)])
    server.isSilentOverTCP = True
    looking = makeResolver(server.address).resolve("a.example")
    await server.whenAsked(3)
    assert len(openSockets() - sockets) == 2  # both ends
    looking.cancel()
    fails(looking, CancelledError)
    await server.whenDisconnected()
    assert openSockets() == sockets


@inReactor
async def test_aServerThatHangsUpOverTCP(
    server: DNSServer, makeResolver: MakeResolver
) -> None:
    server.has("a.example", *[f"192.0.2.{n}" for n in range(100)])
    server.isSilentOverTCP = True
    looking = makeResolver(server.address).resolve("a.example")
    await server.whenAsked(3)
    server.hangUp()
    with pytest.raises(GeneralFailure):
        await looking


@inReactor
async def test_aServerThatCannotBeConnectedToInTime(
    server: DNSServer, makeResolver: MakeResolver
) -> None:
    """
    The next one is asked; without one, the look-up has taken too long.
    """
    server.has("a.example", *[f"192.0.2.{n}" for n in range(100)])
    server.jamTCP()
    second = DNSServer(reactor)
    second.has("a.example", "198.51.100.1")
    one = "options timeout:1 attempts:1"
    both = makeResolver(server.address, second.address, resolvConf=one)
    assert list(await both.resolve("a.example")) == ips("198.51.100.1")
    with pytest.raises(TimedOut):
        await makeResolver(server.address, resolvConf=one).resolve("a.example")
    await second.stop()


@inReactor
async def test_theSameNameTwiceIsAskedForOnce(
    server: DNSServer, makeResolver: MakeResolver
) -> None:
    server.hush("a.example")
    resolver = makeResolver(server.address)
    first, second, third = (resolver.resolve("a.example") for _ in range(3))
    await server.whenAsked(2)
    first.cancel()
    fails(first, CancelledError)
    server.has("a.example", "192.0.2.1")
    server.speak()
    for addresses in await gatherResults([second, third]):
        assert list(addresses) == ips("192.0.2.1")
    assert len(server.asked) == 2
    # But nothing is remembered.
    server.has("a.example", "192.0.2.2")
    assert list(await resolver.resolve("a.example")) == ips("192.0.2.2")


@inReactor
async def test_theLastToLeaveEndsIt(
    server: DNSServer, makeResolver: MakeResolver
) -> None:
    sockets = openSockets()
    server.hush("a.example")
    resolver = makeResolver(server.address)
    first, second = (resolver.resolve("a.example") for _ in range(2))
    await server.whenAsked(2)
    for looking, expected in ((second, 2), (first, 0)):
        looking.cancel()
        fails(looking, CancelledError)
        assert len(openSockets() - sockets) == expected


@inReactor
async def test_oneWhoIsAnsweredMayCancelAnother(
    server: DNSServer, makeResolver: MakeResolver
) -> None:
    server.hush("a.example")
    resolver = makeResolver(server.address)
    first, second = (resolver.resolve("a.example") for _ in range(2))
    first.addCallback(lambda _: second.cancel())
    await server.whenAsked(2)
    server.has("a.example", "192.0.2.1")
    server.speak()
    assert await first is None
    fails(second, CancelledError)


@inReactor
async def test_nothingIsLogged(
    server: DNSServer, makeResolver: MakeResolver, events: list[LogEvent]
) -> None:
    server.has("a.example", "192.0.2.1")
    server.hush("b.example")
    resolver = makeResolver(server.address)
    before = len(events)
    await resolver.resolve("a.example")
    looking = resolver.resolve("b.example")
    await server.whenAsked(4)
    looking.cancel()
    fails(looking, CancelledError)
    await resolver.resolve("a.example")
    assert events[before:] == []


def test_aSocketIsASocket() -> None:
    """
    The count of sockets that these tests rely on does count.
    """
    before = openSockets()
    with socket.socket():
        assert len(openSockets() - before) == 1
