# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
UDP ASSOCIATE (RFC 1928, sections 4, 6 and 7) with a started server.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.protocol import DatagramProtocol
from twisted.names import dns

from tests.association import ASSOCIATE, MOST, Association, datagramSocket, frame
from tests.conversation import (
    GREET,
    assertServes,
    failure,
    freePorts,
    loopback6,
    pattern,
    readAll,
    readExactly,
    request,
    reset,
)
from tests.dnsserver import DNSServer
from tests.loopback import inReactor

if TYPE_CHECKING:
    from tests.conftest import Server

    Start = Callable[..., Server]

LARGEST = 65497
TCP6 = "tcp6:0:interface=\\:\\:1"
WITH_NAMESERVER = os.path.join(os.path.dirname(__file__), "withnameserver.py")


@pytest.fixture
def target() -> Iterator[socket.socket]:
    """
    A destination for datagrams on 127.0.0.1.
    """
    with datagramSocket() as opened:
        yield opened


@pytest.fixture
def target6() -> Iterator[socket.socket]:
    """
    A destination for datagrams on ::1.
    """
    loopback6().close()
    with datagramSocket("::1") as opened:
        yield opened


def assertNothingCame(*sockets: socket.socket) -> None:
    assert not select.select(sockets, [], [], 0.2)[0]


def dial6(server: Server) -> socket.socket:
    """
    A connection over IPv6.
    """
    return socket.create_connection(server.address(TCP6), 10)


def drops(server: Server, session: int = 2) -> dict[str, int]:
    """
    How many datagrams of a session, once it has ended, were dropped why.
    """
    server.waitForLog(f" session={session} ")
    (line,) = (
        line for line in server.output().splitlines() if f" session={session} " in line
    )
    found = re.search(r" dropped=(\S+)", line)
    if found is None:
        return {}
    pairs = (pair.rpartition(":") for pair in found[1].split(","))
    return {reason: int(count) for reason, _, count in pairs}


# -- the way there and back -----------------------------------------------------


def test_thereAndBack(
    start: Start, target: socket.socket, listener: socket.socket
) -> None:
    server = start()
    with Association(server) as client:
        assert client.relay[0] == "127.0.0.1"
        host, port = target.getsockname()
        header = b"\0\0\0\x01" + socket.inet_aton(host) + port.to_bytes(2)
        client.socket.sendto(header + b"one", client.relay)
        payload, source = target.recvfrom(MOST)
        assert payload == b"one"
        target.sendto(b"answer", source)
        assert client.socket.recv(MOST) == header + b"answer"
        target.sendto(b"", source)
        assert client.socket.recv(MOST) == header
    server.waitForLog("session=2 ")
    for field in (
        *("command=ASSOCIATE", "reply=00", "up=3 down=6"),
        *("datagramsUp=1", "datagramsDown=2"),
    ):
        server.waitForLog(f" {field}")
    assert drops(server) == {}
    server.waitForDescriptors(0)
    assertServes(server, listener)


def test_reservedOctetsAreIgnored(start: Start, target: socket.socket) -> None:
    server = start()
    with server.connect() as control:
        control.sendall(GREET + bytes.fromhex("0503ff01 00000000 0000"))
        reply = readExactly(control, 12)
        assert reply[:6] == b"\x05\x00\x05\x00\x00\x01"


def test_overIPv6(start: Start, target: socket.socket, target6: socket.socket) -> None:
    server = start("--port", TCP6)
    with Association(server, dial6(server), "::") as client:
        assert client.relay[0] == "::1"
        client.assertServed(target6)
        client.assertServed(target)
        # IPv4 within IPv6 is IPv4.
        client.assertServed(target, "::ffff:127.0.0.1")


def test_allKindsInOneAssociation(
    start: Start, target: socket.socket, target6: socket.socket
) -> None:
    server = start()
    with Association(server) as client:
        for _ in range(2):
            client.assertServed(target)
            client.assertServed(target6)
        # Both of its addresses would do.
        port = target.getsockname()[1]
        with datagramSocket("::1", port) as same:
            for name in ("localhost", "LOCALHOST."):
                client.send(b"by name", (name, port))
                ready, _, _ = select.select([target, same], [], [], 10)
                payload, source = ready[0].recvfrom(MOST)
                assert payload == b"by name"
                ready[0].sendto(b"answer", source)
                assert client.receive() == (b"answer", ready[0].getsockname()[:2])
        server.waitForDescriptors(4)  # connection, relay, one a family


def test_emptyPayload(start: Start, target: socket.socket) -> None:
    with Association(start()) as client:
        client.send(b"", target.getsockname())
        assert target.recv(MOST) == b""
        client.assertServed(target)


def test_largestPayload(start: Start, target: socket.socket) -> None:
    """
    More than that has no room for its header in a datagram over IPv4: it is
    dropped, never cut.
    """
    server = start()
    with Association(server) as client:
        payload = pattern("payload", LARGEST + 1)
        source = client.assertServed(target)
        client.send(payload[:LARGEST], target.getsockname())
        assert target.recv(MOST) == payload[:LARGEST]
        target.sendto(payload[:LARGEST], source)
        assert client.receive() == (payload[:LARGEST], target.getsockname())
        target.sendto(payload, source)
        client.assertServed(target)
    assert drops(server) == {"size": 1}


def test_largestPayloadOverIPv6(start: Start, target6: socket.socket) -> None:
    server = start("--port", TCP6)
    with Association(server, dial6(server), "::") as client:
        payload = pattern("payload", 65527)
        source = client.assertServed(target6)
        client.send(payload[:LARGEST], target6.getsockname()[:2])
        assert target6.recv(MOST) == payload[:LARGEST]
        target6.sendto(payload[:LARGEST], source)
        assert client.receive()[0] == payload[:LARGEST]
        target6.sendto(payload, source)
        client.assertServed(target6)
    assert drops(server) == {"size": 1}


def test_largePayloadFromIPv6ToIPv4(start: Start, target: socket.socket) -> None:
    """
    What comes in one datagram over IPv6, and does not fit into one over IPv4.
    """
    server = start("--port", TCP6)
    with Association(server, dial6(server), "::") as client:
        client.send(bytes(65508), target.getsockname())
        client.assertServed(target)
    assert drops(server) == {"size": 1}


def test_burst(start: Start, target: socket.socket) -> None:
    """
    None of it is lost, though it is more than a socket keeps by default.
    """
    with Association(start()) as client:
        source = client.assertServed(target)
        burst = [pattern(number, 1000) for number in range(150)]
        for payload in burst:
            client.send(payload, target.getsockname())
        assert [target.recv(MOST) for _ in burst] == burst
        for payload in burst:
            target.sendto(payload, source)
        assert [client.receive()[0] for _ in burst] == burst


# -- whose datagrams they are ---------------------------------------------------


def test_anotherAddress(start: Start, target: socket.socket) -> None:
    """
    Before the client's port is known, and after.
    """
    server = start()
    with Association(server) as client, datagramSocket("127.0.0.2") as stranger:
        for _ in range(2):
            stranger.sendto(frame(b"mine", target.getsockname()), client.relay)
            client.assertServed(target)
        assertNothingCame(stranger)
    assert drops(server) == {"source": 2}


def test_portOfTheRequestIsAHint(start: Start, target: socket.socket) -> None:
    """
    NAT changes it; the first valid datagram tells the real one.
    """
    server = start()
    with datagramSocket() as hinted:
        with Association(server, asked=hinted.getsockname()) as client:
            client.assertServed(target)
            hinted.sendto(frame(b"mine", target.getsockname()), client.relay)
            client.assertServed(target)
            assertNothingCame(hinted)
    assert drops(server) == {"source": 1}


def test_portIsLearntFromAValidDatagram(start: Start, target: socket.socket) -> None:
    with Association(start()) as client, datagramSocket() as another:
        for datagram in (b"", b"\0\0\0", b"\0\0\0\x05 1234567890", b"\0\0\0\x03\xffa"):
            another.sendto(datagram, client.relay)
        client.assertServed(target)


@pytest.mark.parametrize("asked", ["0", "localhost", "127.0.0.1", "no.such.invalid"])
def test_whatTheRequestNames(start: Start, target: socket.socket, asked: str) -> None:
    """
    It is no destination, and is not looked up.
    """
    with Association(start(), asked=asked) as client:
        client.assertServed(target)


def test_twoAssociations(start: Start, target: socket.socket) -> None:
    server = start()
    with Association(server) as one, Association(server) as other:
        assert one.relay != other.relay
        sources = []
        for client in (one, other):
            client.send(b"", target.getsockname())
            sources.append(target.recvfrom(MOST)[1])
        assert sources[0] != sources[1]
        target.sendto(b"to the other", sources[1])
        target.sendto(b"to the one", sources[0])
        assert one.receive()[0] == b"to the one"
        assert other.receive()[0] == b"to the other"
        assertNothingCame(one.socket, other.socket)


# -- who may answer -------------------------------------------------------------


def test_strangersAnswer(start: Start, target: socket.socket) -> None:
    """
    Hosts that the client has sent to may answer, from any port of theirs.
    """
    server = start()
    with Association(server) as client, datagramSocket("127.0.0.5") as stranger:
        source = client.assertServed(target)
        stranger.sendto(b"unasked", source)
        with datagramSocket() as anotherPort:
            anotherPort.sendto(b"answer", source)
            assert client.receive() == (b"answer", anotherPort.getsockname())
        assertNothingCame(client.socket)
        client.assertServed(stranger)
    assert drops(server) == {"stranger": 1}


def test_strangersMayAnswer(start: Start, target: socket.socket) -> None:
    server = start("--set", "udp.replies=any")
    with Association(server) as client, datagramSocket("127.0.0.5") as stranger:
        source = client.assertServed(target)
        stranger.sendto(b"unasked", source)
        assert client.receive() == (b"unasked", stranger.getsockname())
    assert drops(server) == {}


# -- what is dropped ------------------------------------------------------------


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\0",
        b"\0\0\0",
        b"\0\0\0\x01\x7f\0\0\x01\0",
        b"\0\0\0\x05\x7f\0\0\x01\0\x09data",
        b"\0\0\0\0\x7f\0\0\x01\0\x09data",
        b"\0\0\0\x03\xfflocalhost\0\x09data",
        b"\0\0\0\x03\x09localhost\0",
        b"\0\0\0\x04" + bytes(16) + b"\0",
    ],
)
def test_malformed(start: Start, target: socket.socket, datagram: bytes) -> None:
    server = start()
    with Association(server) as client:
        for _ in range(2):
            client.socket.sendto(datagram, client.relay)
            client.assertServed(target)
    assert drops(server) == {"malformed": 2}


def test_fragments(start: Start, target: socket.socket) -> None:
    server = start()
    with Association(server) as client:
        for number in (0x01, 0x81, 0x7F, 0x80, 0xFF):
            client.send(b"piece", target.getsockname(), number)
            client.assertServed(target)
    assert drops(server) == {"fragment": 5}


def test_whereNothingCanBeSent(start: Start, target: socket.socket) -> None:
    """
    What the kernel refuses, and what nobody would look up.
    """
    server = start()
    names = [
        *(("127.0.0.1", 0), ("255.255.255.255", 9), ("127.255.255.255", 9)),
        *(("::ffff:127.0.0.1", 0), ("no.such.invalid", 9), ("", 9), ("a b", 9)),
        *(("a" * 64, 9), ("a\n", 9), ("." * 255, 9)),
    ]
    with Association(server) as client:
        for _ in range(2):
            for name in names:
                client.send(b"data", name)
            client.assertServed(target)
    dropped = drops(server)
    assert sum(dropped.values()) == 2 * len(names), dropped


def test_closedPort(start: Start, target: socket.socket) -> None:
    """
    ICMP's port unreachable, from both sides.
    """
    with datagramSocket() as closed, Association(start()) as client:
        name = closed.getsockname()
        closed.close()
        for _ in range(3):
            client.send(b"data", name)
            source = client.assertServed(target)
        port = client.socket.getsockname()[1]
        client.socket.close()
        for _ in range(3):  # nobody is there any more
            target.sendto(b"answer", source)
        client.socket = datagramSocket(port=port)
        client.send(b"ping", target.getsockname())
        assert target.recv(MOST) == b"ping"
        target.sendto(b"pong", source)
        while (received := client.receive()[0]) != b"pong":
            assert received == b"answer"  # after all, it is the same port


# -- policy ---------------------------------------------------------------------


def test_denied(start: Start, denying: None) -> None:
    server = start("--policy", "denying:ASSOCIATE")
    with server.connect() as client:
        client.sendall(GREET + request(ASSOCIATE, "0.0.0.0"))
        assert readAll(client) == b"\x05\x00" + failure(2)


def test_deniedDestinations(start: Start, denying: None, target: socket.socket) -> None:
    """
    Nothing is sent there, and nothing taken from there.
    """
    server = start("--policy", "denying:127.0.0.1")
    port = target.getsockname()[1]
    with Association(server) as client, datagramSocket("127.0.0.5") as allowed:
        for _ in range(2):
            client.send(b"data", ("127.0.0.1", port))
            client.send(b"data", ("::ffff:127.0.0.1", port))
            client.assertServed(allowed)
        assertNothingCame(target)
        # It has not been sent to: it may not answer, either.
        source = client.assertServed(allowed)
        target.sendto(b"unasked", source)
        client.assertServed(allowed)
    assert drops(server) == {"denied": 4, "stranger": 1}


def test_deniedName(start: Start, target: socket.socket) -> None:
    """
    The guard, to a client from elsewhere: it judges what the name resolves to.
    """
    server = start("--policy", "guard:local=elsewhere")
    host, port = target.getsockname()
    with Association(server) as client:
        for name in ("localhost", "127.0.0.1", "::1", "::ffff:7f00:1", "127.0.0.1."):
            client.send(b"data", (name, port))
        assertNothingCame(target)
        server.waitForDescriptors(2)
    assert drops(server) == {"denied": 5}


def test_ownListeners(start: Start, target: socket.socket) -> None:
    """
    The proxy's own UDP ports are no way into it.
    """
    server = start()
    with Association(server) as client, Association(server) as other:
        # The datagram says to the other association: send this to the target.
        inner = frame(b"data", target.getsockname())
        client.send(inner, other.relay)
        client.send(inner, client.relay)
        client.assertServed(target)
        assertNothingCame(target)
        other.assertServed(target)


# -- fragments ------------------------------------------------------------------


def test_reassembly(start: Start, target: socket.socket) -> None:
    server = start("--set", "udp.fragments=reassemble")
    name = target.getsockname()
    with Association(server) as client:

        def send(*pieces: tuple[int, bytes]) -> None:
            for number, payload in pieces:
                client.send(payload, name, number)

        send((1, b"one "), (2, b"two "), (0x83, b"three"))
        assert target.recv(MOST) == b"one two three"
        send((0x81, b"alone"))
        assert target.recv(MOST) == b"alone"
        # A gap discards it; so does a lower number, which begins another.
        send((1, b"one "), (3, b"three "), (0x84, b"four"))
        client.assertServed(target)
        send((1, b"old "), (2, b"old "), (1, b"one "), (0x82, b"two"))
        assert target.recv(MOST) == b"one two"
        send((1, b"old "), (2, b"old "), (2, b"two "), (0x83, b"three"))
        client.assertServed(target)
        send((2, b"no beginning "), (0x83, b"three"))
        client.assertServed(target)
        # One that is whole passes meanwhile.
        send((1, b"one "))
        client.assertServed(target)
        send((0x82, b"two"))
        assert target.recv(MOST) in (b"one two", b"two")


def test_reassemblyOfMany(start: Start, target: socket.socket) -> None:
    """
    All the numbers there are; and more bytes than a datagram can have.
    """
    server = start("--set", "udp.fragments=reassemble")
    name = target.getsockname()
    with Association(server) as client:
        whole = pattern("whole", 127 * 500)
        for number in range(1, 127):
            client.send(whole[(number - 1) * 500 : number * 500], name, number)
        client.send(whole[126 * 500 :], name, 0xFF)
        assert target.recv(MOST) == whole
        client.assertServed(target)
        before = server.memory()
        for _ in range(20):
            for number in range(1, 127):
                client.send(bytes(60_000), name, number)
        client.send(bytes(60_000), name, 0xFF)
        client.assertServed(target)
        assert server.memory() - before < 8 << 20


def test_reassemblyTakesTooLong(start: Start, target: socket.socket) -> None:
    """
    RFC 1928 wants 5 seconds at least.
    """
    server = start("--set", "udp.fragments=reassemble")
    name = target.getsockname()
    with Association(server) as slow, Association(server) as client:
        slow.send(b"one ", name, 1)
        client.send(b"one ", name, 1)
        time.sleep(3)  # within the time
        client.send(b"two", name, 0x82)
        assert target.recv(MOST) == b"one two"
        time.sleep(3)  # beyond it
        slow.send(b"two", name, 0x82)
        slow.assertServed(target)


# -- names ----------------------------------------------------------------------


class NameServer:
    """
    A name server that answers when the test has it answer.
    """

    def __init__(self) -> None:
        self.socket = datagramSocket()
        self.port: int = self.socket.getsockname()[1]

    def question(self) -> tuple[dns.Message, tuple[str, int]]:
        """
        The next question, and who asks.
        """
        data, asker = self.socket.recvfrom(MOST)
        message = dns.Message()
        message.fromStr(data)
        return message, asker

    def answer(self, question: tuple[dns.Message, tuple[str, int]], *ips: str) -> None:
        """
        Say which IPv4 addresses the name has.
        """
        message, asker = question
        query = message.queries[0]
        response = dns.Message(message.id, answer=1, recDes=1, recAv=1)
        response.queries = message.queries
        if query.type == dns.A:
            name = query.name.name
            response.answers = [
                dns.RRHeader(name, dns.A, payload=dns.Record_A(ip)) for ip in ips
            ]
        self.socket.sendto(response.toStr(), asker)


@pytest.fixture
def nameServer() -> Iterator[NameServer]:
    """
    A name server on loopback.
    """
    server = NameServer()
    with server.socket:
        yield server


def startWith(start: Start, nameServer: NameServer, *arguments: str) -> Server:
    return start(*arguments, command=(WITH_NAMESERVER, str(nameServer.port)))


def test_slowName(start: Start, target: socket.socket, nameServer: NameServer) -> None:
    """
    It holds up its own datagrams, and no others, and keeps their order.
    """
    with Association(startWith(start, nameServer)) as client:
        name = ("slow.test", target.getsockname()[1])
        client.send(b"first", name)
        questions = [nameServer.question(), nameServer.question()]  # A and AAAA
        client.assertServed(target)
        client.send(b"second", name)
        client.assertServed(target)
        for question in questions:
            nameServer.answer(question, "127.0.0.1")
        assert [target.recv(MOST), target.recv(MOST)] == [b"first", b"second"]
        # What came of it is kept, and not asked for again.
        client.send(b"third", name)
        assert target.recv(MOST) == b"third"
        assertNothingCame(nameServer.socket)


def test_slowNameKeepsLittle(
    start: Start, target: socket.socket, nameServer: NameServer
) -> None:
    """
    What waits for it is bounded; the rest is dropped.
    """
    server = startWith(start, nameServer)
    with Association(server) as client:
        port = target.getsockname()[1]
        client.send(b"0", ("slow.test", port))
        questions = [nameServer.question(), nameServer.question()]
        before = server.memory()
        for number in range(1, 1000):
            client.send(bytes(20_000) + b"%d" % number, ("slow.test", port))
            if not number % 20:
                client.assertServed(target)  # so that the kernel drops none
        client.assertServed(target)
        assert server.memory() - before < 6 << 20
        for question in questions:
            nameServer.answer(question, "127.0.0.1")
        assert target.recv(MOST) == b"0"
        got = 1
        while select.select([target], [], [], 0.5)[0]:
            assert target.recv(MOST) == bytes(20_000) + b"%d" % got
            got += 1
        assert got < 1000
    assert drops(server) == {"queue": 1000 - got}


def test_slowNameAndTheEnd(
    start: Start, target: socket.socket, nameServer: NameServer
) -> None:
    """
    The association ends while something waits for a name.
    """
    server = startWith(start, nameServer)
    with Association(server) as client:
        client.send(b"data", ("slow.test", target.getsockname()[1]))
        questions = [nameServer.question(), nameServer.question()]
    server.waitForDescriptors(0)
    for question in questions:
        nameServer.answer(question, "127.0.0.1")
    assertNothingCame(target)


def test_nameWithDeniedAddresses(
    start: Start, denying: None, target: socket.socket, nameServer: NameServer
) -> None:
    """
    Datagrams go to one that is allowed, or nowhere.
    """
    server = startWith(start, nameServer, "--policy", "denying:127.0.0.1:127.0.0.2")
    port = target.getsockname()[1]
    with Association(server) as client, datagramSocket("127.0.0.5", port) as allowed:
        for name, addresses in (
            ("both.test", ("127.0.0.1", "127.0.0.2")),
            ("one.test", ("127.0.0.1",)),
            ("mixed.test", ("127.0.0.1", "127.0.0.5")),
        ):
            client.send(name.encode(), (name, port))
            for _ in range(2):
                nameServer.answer(nameServer.question(), *addresses)
        if select.select([allowed], [], [], 0.5)[0]:
            assert allowed.recv(MOST) == b"mixed.test"
        client.assertServed(allowed)
        assertNothingCame(target)


# -- other listeners ------------------------------------------------------------


def test_PROXYHeader(start: Start, target: socket.socket) -> None:
    """
    It tells where the client is, and so where its datagrams come from.  Where
    they are to go is this host's affair.
    """
    endpoint = "haproxy:tcp:0:interface=127.0.0.1"
    server = start("--open", "--port", endpoint)
    control = socket.create_connection(server.address(endpoint), 10)
    control.sendall(b"PROXY TCP4 127.0.0.2 192.0.2.1 5000 1080\r\n")
    with Association(server, control) as client:
        assert client.relay[0] == "127.0.0.1"
        client.send(b"data", target.getsockname())
        with client.socket, datagramSocket("127.0.0.2") as client.socket:
            client.assertServed(target)
    server.waitForLog("client=127.0.0.2:5000")


def test_IPv4OnAnIPv6Listener(start: Start, target: socket.socket) -> None:
    loopback6().close()
    endpoint = "tcp6:0:interface=\\:\\:ffff\\:127.0.0.1"
    server = start("--port", endpoint)
    port = server.address(endpoint)[1]
    control = socket.create_connection(("127.0.0.1", port), 10)
    with Association(server, control) as client:
        assert client.relay[0] == "127.0.0.1"
        client.assertServed(target)


# -- its life ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "leave", [socket.socket.close, reset, lambda control: control.shutdown(1)]
)
def test_clientLeaves(
    start: Start, target: socket.socket, leave: Callable[[socket.socket], None]
) -> None:
    server = start()
    with Association(server) as client:
        source = client.assertServed(target)
        leave(client.control)
        server.waitForDescriptors(0)
        client.send(b"too late", target.getsockname())
        target.sendto(b"too late", source)
        assertNothingCame(target, client.socket)


def test_bytesOnTheConnectionAreIgnored(start: Start, target: socket.socket) -> None:
    """
    However many, and they do not hide that the client leaves.
    """
    server = start()
    with Association(server) as client:
        client.control.sendall(GREET + request(ASSOCIATE, "0.0.0.0"))
        client.assertServed(target)
        before = server.memory()
        client.control.sendall(bytes(8 << 20))
        client.assertServed(target)
        assert server.memory() - before < 4 << 20
        assertNothingCame(client.control)
        client.control.close()
        server.waitForDescriptors(0)


def test_bytesWithTheRequestAreIgnored(start: Start, target: socket.socket) -> None:
    server = start()
    with server.connect() as control:
        control.sendall(GREET + request(ASSOCIATE, "0.0.0.0") + bytes(100_000))
        assert readExactly(control, 12)[:4] == b"\x05\x00\x05\x00"
        control.close()
        server.waitForDescriptors(0)


def test_idle(start: Start, target: socket.socket) -> None:
    """
    A datagram now and then keeps an association, in whichever direction;
    silence ends it.  The deadline of tunnels is none for it.
    """
    server = start("--set", "timeout.udp-idle=2", "--set", "timeout.idle=1")
    with Association(server) as client:
        source = client.assertServed(target)
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            client.send(b"", target.getsockname())
            target.recv(MOST)
            assert not select.select([client.control], [], [], 0.5)[0]
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            target.sendto(b"", source)
            client.receive()
            assert not select.select([client.control], [], [], 0.5)[0]
        assert client.control.recv(1) == b""
        server.waitForDescriptors(0)
        server.waitForLog("reason=idle")


def test_strangersDoNotKeepIt(start: Start, target: socket.socket) -> None:
    """
    Nor do datagrams of the client that are none.
    """
    server = start("--set", "timeout.udp-idle=1")
    with Association(server) as client, datagramSocket("127.0.0.5") as stranger:
        source = client.assertServed(target)
        while not select.select([client.control], [], [], 0.1)[0]:
            stranger.sendto(frame(b"", target.getsockname()), client.relay)
            stranger.sendto(b"", source)
            client.socket.sendto(b"\0\0\0", client.relay)
        assert client.control.recv(1) == b""


def test_handshakeDeadlineIsNone(start: Start, target: socket.socket) -> None:
    server = start("--set", "timeout.handshake=1")
    with Association(server) as client, server.connect() as another:
        assert readAll(another) == b""  # whose time began later
        client.assertServed(target)


def test_manyDestinations(start: Start) -> None:
    """
    They share one socket a family.
    """
    server = start()
    with Association(server) as client, datagramSocket("0.0.0.0") as everywhere:
        port = everywhere.getsockname()[1]
        before = server.memory()
        for number in range(6000):
            host = f"127.1.{number // 250}.{number % 250 + 1}"
            client.send(host.encode(), (host, port))
            payload, source = everywhere.recvfrom(MOST)
            assert payload == host.encode()
            if not number % 1000:
                with datagramSocket(host) as answering:
                    answering.sendto(b"answer", source)
                    assert client.receive() == (b"answer", answering.getsockname())
        with datagramSocket("127.1.0.1") as first:  # whether it is remembered or not
            client.assertServed(first)
        server.waitForDescriptors(3)
        assert server.memory() - before < 16 << 20


def test_manyAssociations(start: Start, target: socket.socket) -> None:
    server = start()
    clients = [Association(server) for _ in range(200)]
    for client in clients:
        client.assertServed(target)
    server.waitForDescriptors(3 * len(clients))
    for client in clients:
        with client:
            client.assertServed(target)
    server.waitForDescriptors(0)


# -- settings ---------------------------------------------------------------------


def test_portRange(start: Start, target: socket.socket) -> None:
    with datagramSocket() as free:
        port = free.getsockname()[1]
    server = start("--set", f"udp.ports={port}-{port}")
    with Association(server) as client:
        assert client.relay == ("127.0.0.1", port)
        client.assertServed(target)
        with server.connect() as another:
            another.sendall(GREET + request(ASSOCIATE, "0.0.0.0"))
            assert readAll(another) == b"\x05\x00" + failure(1)
    server.waitForDescriptors(0)
    with Association(server) as client:
        assert client.relay == ("127.0.0.1", port)


def test_publicAddress(start: Start, target: socket.socket) -> None:
    with Association(start("--set", "udp.public-address=192.0.2.7")) as client:
        assert client.relay[0] == "192.0.2.7"
        client.relay = ("127.0.0.1", client.relay[1])
        client.assertServed(target)


def dialUNIX(path: str) -> socket.socket:
    control = socket.socket(socket.AF_UNIX)
    control.settimeout(10)
    control.connect(path)
    return control


def test_clientOnAUNIXSocket(start: Start, tmp_path: Path) -> None:
    """
    There is no telling where its datagrams would come from.
    """
    path = f"{tmp_path}/socks"
    start("--port", f"unix:{path}")
    with dialUNIX(path) as client:
        client.sendall(GREET + request(ASSOCIATE, "0.0.0.0"))
        assert readAll(client) == b"\x05\x00" + failure(7)


def test_clientOnAUNIXSocketWithPublicAddress(
    start: Start, target: socket.socket, tmp_path: Path
) -> None:
    path = f"{tmp_path}/socks"
    server = start("--port", f"unix:{path}", "--set", "udp.public-address=127.0.0.1")
    with Association(server, dialUNIX(path)) as client:
        assert client.relay[0] == "127.0.0.1"
        client.assertServed(target)


# -- whatever comes ---------------------------------------------------------------

OCTETS = st.binary(max_size=40)
HEADERS = st.builds(
    lambda *parts: b"".join(parts),
    st.sampled_from([b"\0\0", b"\0\1", b"\xff\xff"]),
    st.binary(min_size=1, max_size=1),
    st.one_of(
        st.builds(lambda ip: b"\x01" + ip, st.binary(min_size=4, max_size=4)),
        st.builds(lambda ip: b"\x04" + ip, st.binary(min_size=16, max_size=16)),
        st.builds(lambda name: b"\x03%c%b" % (len(name), name), OCTETS),
        st.builds(
            lambda length, name: b"\x03%c%b" % (length, name),
            st.integers(0, 255),
            OCTETS,
        ),
        OCTETS,
    ),
    st.binary(min_size=2, max_size=2),
    OCTETS,
)


@pytest.mark.parametrize("fragments", ["drop", "reassemble"])
def test_anyBytes(
    start: Start,
    denying: None,
    target: socket.socket,
    nameServer: NameServer,
    fragments: str,
) -> None:
    """
    Whatever a client sends, its association goes on working.  Nothing leaves
    this host.
    """
    server = startWith(
        *(start, nameServer, "--policy", "denying:loopback"),
        *("--set", f"udp.fragments={fragments}"),
    )
    nameServer.socket.close()  # nobody answers: not even that it refuses
    with Association(server) as client:

        @settings(
            max_examples=150,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(st.lists(st.one_of(OCTETS, HEADERS), min_size=1, max_size=10))
        @example([frame(b"", ("127.0.0.1", 0)), frame(b"", ("::", 1))])
        def goesOn(datagrams: list[bytes]) -> None:
            for datagram in datagrams:
                client.socket.sendto(datagram, client.relay)
            client.send(b"ping", target.getsockname())
            while True:
                payload, source = target.recvfrom(MOST)
                if payload == b"ping":
                    break
            target.sendto(b"pong", source)
            while client.receive()[0] != b"pong":
                pass

        goesOn()
        assert not select.select([client.control], [], [], 0)[0]


# -- a name server behind it --------------------------------------------------------


class Asking(DatagramProtocol):
    """
    Asks a name server through an association.
    """

    def __init__(self, association: Association, name: tuple[str, int]) -> None:
        self._relay = association.relay
        self._header = frame(b"", name)
        self._asked: dict[int, Deferred[dns.Message]] = {}

    def ask(self, number: int) -> Deferred[dns.Message]:
        """
        Ask for a name that has this number in it.
        """
        message = dns.Message(number, recDes=1)
        message.addQuery(f"host{number}.test", dns.A)
        assert self.transport is not None
        self.transport.write(self._header + message.toStr(), self._relay)
        self._asked[number] = Deferred()
        return self._asked[number]

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """
        An answer.
        """
        assert datagram[: len(self._header)] == self._header
        message = dns.Message()
        message.fromStr(datagram[len(self._header) :])
        self._asked.pop(message.id).callback(message)


@inReactor
async def test_thousandQueries(start: Start) -> None:
    """
    None is lost, though 50 are on their way at a time.
    """
    running: Any = reactor
    server = start()
    nameServer = DNSServer(running)
    for number in range(1000):
        address = f"10.1.{number // 250}.{number % 250}"
        nameServer.has(f"host{number}.test", address)
    with Association(server) as client:
        asking = Asking(client, nameServer.address)
        port = running.listenUDP(0, asking, interface="127.0.0.1")
        atOnce = DeferredSemaphore(50)
        answers = await gatherResults(
            [atOnce.run(asking.ask, number) for number in range(1000)]
        ).addTimeout(30, running)
        for number, answer in enumerate(answers):
            (record,) = answer.answers
            assert isinstance(record.payload, dns.Record_A)
            address = f"10.1.{number // 250}.{number % 250}"
            assert record.payload.dottedQuad() == address
        assert len(nameServer.asked) == 1000
        await port.stopListening()
    await nameServer.stop()
    assert drops(server) == {}


def test_relayThatOpensLater(start: Start, target: socket.socket) -> None:
    """
    Where another client was allowed to send when nobody was there yet.
    """
    first = freePorts(2)
    server = start("--set", f"udp.ports={first}-{first + 1}")
    with Association(server) as one:
        free = ("127.0.0.1", 2 * first + 1 - one.relay[1])
        one.send(b"nobody there", free)
        one.assertServed(target)
        with Association(server) as other:
            assert other.relay == free
            one.send(frame(b"data", target.getsockname()), free)
            one.assertServed(target)
            assertNothingCame(target)
            other.assertServed(target)


def test_relayThatHasEnded(start: Start, target: socket.socket) -> None:
    """
    What it has sent may be received by another only then.
    """
    server = start()
    with Association(server) as one, Association(server) as other:
        os.kill(server.process.pid, signal.SIGSTOP)
        one.send(frame(b"data", target.getsockname()), other.relay)
        one.control.close()
        os.kill(server.process.pid, signal.SIGCONT)
        server.waitForLog("command=ASSOCIATE")
        assertNothingCame(target)
        other.assertServed(target)
