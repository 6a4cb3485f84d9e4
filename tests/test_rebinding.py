# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Names that change their minds, and addresses in disguise: what rules and guard deny
is never dialled, listened for or sent to.

The clients are taken for elsewhere, so that the guard denies them loopback
addresses; one of those, 127.0.0.5, is allowed by the rules, and stands for a public
one.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.names import dns

from tests.association import MOST, Association, datagramSocket
from tests.conversation import GREET, failure, readAll, readExactly, readReply, request
from tests.dnsserver import DNSServer
from tests.loopback import inReactor

if TYPE_CHECKING:
    from tests.conftest import Server

    Start = Callable[..., Server]

CONNECT, BIND = 1, 2
PUBLIC, DENIED = "127.0.0.5", "127.0.0.1"
WITH_NAMESERVER = os.path.join(os.path.dirname(__file__), "withnameserver.py")

RULES = f"""
[[rule]]
action = "deny"
to = ["denied.test", "*.denied.test"]

[[rule]]
action = "allow"
to = "{PUBLIC}"

[[rule]]
action = "allow"
to = ["*.test", "0.0.0.0/0", "::/0"]
"""

SPELLINGS = [
    *("127.0.0.1", "127.0.0.1.", "127.9.8.7", "0.0.0.0", "0.0.0.1", "::", "::1"),
    *("::ffff:127.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1"),
    *("64:ff9b::127.0.0.1", "64:ff9b:1::127.0.0.1", "2002:7f00:1::1"),
    *("2001:0:7f00:1::f7f7:f7f7", "2001:0:808:808::80ff:fffe"),
    *("2606:4700::5efe:127.0.0.1", "fe80::5efe:127.0.0.1", "::1."),
    *("localhost", "LOCALHOST.", "a.localhost", "one.test", "ONE.Test."),
    *("denied.test", "DENIED.test.", "a.b.denied.TEST"),
    # A name server may say what it likes of names that look like addresses.
    *("127.1", "0x7f.1", "2130706433", "017700000001", "127.0.0.1.test", "0"),
]


def asNames() -> Iterator[bytes]:
    """
    The same in the bytes of an ATYP 03, IP addresses too.
    """
    for spelling in SPELLINGS:
        yield b"\x03" + bytes((len(spelling),)) + spelling.encode()


class Names(DNSServer):
    """
    A name server that says something else each time it is asked for a name's IPv4
    addresses.
    """

    def __init__(self) -> None:
        super().__init__(reactor)
        self._turns: dict[str, Iterator[tuple[str, ...]]] = {}
        for name in SPELLINGS:
            name = name.lower().removesuffix(".")
            self.has(name, PUBLIC if "denied" in name else DENIED)

    def turns(self, name: str, *answers: tuple[str, ...]) -> None:
        """
        What to say one time after the other.
        """
        self._turns[name] = iter(answers)

    def messageReceived(
        self, message: dns.Message, protocol: Any, address: Any = None
    ) -> None:
        query = message.queries[0]
        name = query.name.name.decode().lower()
        if name in self._turns and query.type == dns.A:
            self.has(name, *next(self._turns[name]))
        elif name in self._turns:
            self.answers[name, dns.AAAA] = []
        super().messageReceived(message, protocol, address)


def withNames(
    test: Callable[[Server, Names], None],
) -> Callable[[Start, Path], Coroutine[Deferred[Any], Any, None]]:
    """
    Run a test, in a thread, with a server that asks our name server.
    """

    @inReactor
    async def running(start: Start, tmp_path: Path) -> None:
        names = Names()
        rules = tmp_path / "rules.toml"
        rules.write_text(RULES)
        server = start(
            *("--policy", "guard:local=elsewhere", "--rules", str(rules)),
            *("--set", "timeout.bind=5"),
            command=(WITH_NAMESERVER, str(names.port)),
        )
        try:
            await deferToThread(test, server, names)
        finally:
            await names.stop()

    running.__name__ = test.__name__
    running.__doc__ = test.__doc__
    return running  # type: ignore[return-value]  # a coroutine will do


@contextmanager
def targets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """
    The allowed destination and the denied one, with the same port.
    """
    with socket.socket() as public, socket.socket() as denied:
        denied.bind((DENIED, 0))
        public.bind((PUBLIC, denied.getsockname()[1]))
        for one in (public, denied):
            one.listen()
            one.settimeout(10)
        yield public, denied


def ask(server: Server, command: int, host: str, port: int) -> bytes:
    """
    A request, and its reply up to REP.
    """
    with server.connect() as client:
        client.sendall(GREET + request(command, host, port))
        assert readExactly(client, 2) == b"\x05\x00"
        return readExactly(client, 2)


def assertNobodyCame(*sockets: socket.socket) -> None:
    assert not select.select(sockets, [], [], 0.2)[0]


@withNames
def test_connect(server: Server, names: Names) -> None:
    """
    What a name was first is dialled; what it is next is not, be it that of the
    same request or of another.
    """
    with targets() as (public, denied):
        port = public.getsockname()[1]
        names.turns("one.test", (PUBLIC,), (DENIED,), (PUBLIC,), (DENIED, "127.0.0.9"))
        for reply in (b"\x05\x00", b"\x05\x02", b"\x05\x00", b"\x05\x02"):
            assert ask(server, CONNECT, "one.test", port) == reply
            if reply == b"\x05\x00":
                public.accept()[0].close()
        assertNobodyCame(public, denied)
        assert names.asked.count(("one.test", dns.A)) == 4


@withNames
def test_mixed(server: Server, names: Names) -> None:
    """
    Only the allowed ones are dialled, even if those do not answer.
    """
    with targets() as (public, denied):
        port = public.getsockname()[1]
        names.has("two.test", DENIED, "::1", PUBLIC, "127.0.0.9", "64:ff9b::7f00:1")
        assert ask(server, CONNECT, "two.test", port) == b"\x05\x00"
        public.accept()[0].close()
        public.close()
        assert ask(server, CONNECT, "two.test", port) == b"\x05\x05"
        assertNobodyCame(denied)


@withNames
def test_spellings(server: Server, names: Names) -> None:
    """
    A denied destination is denied however it is spelt; a name that the rules deny
    is not even looked up.
    """
    with targets() as (public, denied):
        port = denied.getsockname()[1]
        for spelling in SPELLINGS:
            with server.connect() as client:
                client.sendall(GREET + request(CONNECT, spelling, port))
                assert readAll(client) == b"\x05\x00" + failure(2), spelling
        for name in asNames():
            with server.connect() as client:
                client.sendall(GREET + b"\x05\x01\x00" + name + port.to_bytes(2))
                assert readAll(client) == b"\x05\x00" + failure(2), name
        assertNobodyCame(public, denied)
        assert not [name for name, _ in names.asked if "denied" in name]


@withNames
def test_bind(server: Server, names: Names) -> None:
    """
    Neither is anybody listened for, nor taken if somebody else was meant.
    """
    for spelling in SPELLINGS:
        if spelling in ("0.0.0.0", "::"):  # anybody, see below
            continue
        assert ask(server, BIND, spelling, 21) == b"\x05\x02", spelling
    for name in asNames():
        if name[2:] in (b"0.0.0.0", b"::"):
            continue
        with server.connect() as client:
            client.sendall(GREET + b"\x05\x02\x00" + name + b"\0\x15")
            assert readAll(client) == b"\x05\x00" + failure(2), name
    names.turns("one.test", (PUBLIC,), (DENIED,))
    names.has("two.test", DENIED, PUBLIC)
    for host in ("one.test", "two.test", "0.0.0.0"):
        with server.connect() as client:
            client.sendall(GREET + request(BIND, host, 0))
            assert readExactly(client, 2) == b"\x05\x00"
            reply, bound = readReply(client)
            assert reply == 0
            where = (PUBLIC, bound[1])
            if host != "0.0.0.0":
                where = bound
            with socket.create_connection(where, 10, (DENIED, 0)) as intruder:
                intruder.settimeout(10)
                assert intruder.recv(1) == b""
            with socket.create_connection(where, 10, (PUBLIC, 0)) as peer:
                assert readReply(client) == (0, peer.getsockname())


@withNames
def test_datagrams(server: Server, names: Names) -> None:
    """
    Each destination is judged; what a name was first it stays for the
    association.
    """
    with (
        datagramSocket(DENIED) as denied,
        datagramSocket(PUBLIC, denied.getsockname()[1]) as public,
        Association(server) as client,
    ):
        port = public.getsockname()[1]
        for spelling in SPELLINGS:
            client.send(b"no", (spelling, port))
        for named in asNames():
            datagram = b"\0\0\0" + named + port.to_bytes(2) + b"no"
            client.socket.sendto(datagram, client.relay)
        names.turns("three.test", (PUBLIC,), (DENIED,))
        names.has("two.test", DENIED, PUBLIC, "::1")
        for name in ("three.test", "three.test", "two.test", PUBLIC):
            client.send(name.encode(), (name, port))
            assert public.recv(MOST) == name.encode()
        with Association(server) as other:
            other.send(b"no", ("three.test", port))
            # Asked for after it, and so answered after it.
            other.send(b"after it", ("two.test", port))
            assert public.recv(MOST) == b"after it"
            other.assertServed(public)
        assertNobodyCame(public, denied)
        assert not [name for name, _ in names.asked if "denied" in name]
    server.waitForLog(f"dropped=denied:{2 * len(SPELLINGS)} ")
    guard = "guard: loopback destination for a client elsewhere"
    server.waitForLog(f'dropped=denied:1 denial="{guard}"')


@pytest.mark.parametrize("where", ["0.0.0.0", "10.0.0.1", "denied.test", "0"])
def test_whatIsSaidOfTheClientIsNoDestination(
    start: Start, tmp_path: Path, where: str
) -> None:
    """
    ASSOCIATE's address, which clients get wrong, neither allows nor denies.
    """
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    server = start("--rules", str(rules))
    with datagramSocket(PUBLIC) as public, Association(server, asked=where) as client:
        client.assertServed(public)
