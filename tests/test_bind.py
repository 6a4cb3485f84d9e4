# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
BIND (RFC 1928, sections 4 and 6) with a started server.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conversation import (
    GREET,
    assertServes,
    failure,
    freePorts,
    loopback6,
    pattern,
    readAll,
    readExactly,
    readReply,
    request,
    reset,
    sending,
)

if TYPE_CHECKING:
    from tests.conftest import Server

    Start = Callable[..., Server]

BIND = 2
Bound = tuple[str, int]


def bind(
    server: Server,
    host: str = "127.0.0.1",
    client: socket.socket | None = None,
    port: int = 0,
) -> tuple[socket.socket, Bound]:
    """
    A client, and where a port has been opened for it.
    """
    client = client or server.connect()
    client.settimeout(10)
    client.sendall(GREET + request(BIND, host, port))
    assert readExactly(client, 2) == b"\x05\x00"
    reply, bound = readReply(client)
    assert reply == 0
    assert bound[1] != 0
    return client, bound


def come(bound: Bound, source: str | None = None) -> socket.socket:
    """
    A peer that connects to an open port.
    """
    peer = socket.create_connection(
        bound, 10, source_address=(source, 0) if source else None
    )
    peer.settimeout(10)
    return peer


def assertTunnel(client: socket.socket, peer: socket.socket) -> None:
    """
    The second reply tells who the peer is, and bytes pass both ways.
    """
    assert readReply(client) == (0, peer.getsockname()[:2])
    client.sendall(b"ping")
    assert readExactly(peer, 4) == b"ping"
    peer.sendall(b"pong")
    assert readExactly(client, 4) == b"pong"


def assertTurnedAway(peer: socket.socket) -> None:
    """
    The peer is closed without a byte.
    """
    with peer:
        try:
            assert peer.recv(1) == b""
        except ConnectionResetError:
            pass


def assertSilent(client: socket.socket) -> None:
    """
    Nothing has come, nor has it been closed.
    """
    assert not select.select([client], [], [], 0.3)[0]


def isOpen(bound: Bound) -> bool:
    """
    Whether somebody could connect.
    """
    try:
        come(bound).close()
    except OSError:
        return False
    return True


def test_bothReplies(start: Start, listener: socket.socket) -> None:
    server = start()
    client, bound = bind(server, port=21)
    assert bound[0] == "127.0.0.1"
    with client, come(bound) as peer:
        assertTunnel(client, peer)
        name, port = peer.getsockname()
    server.waitForLog("session=2 ")
    (line,) = (one for one in server.output().splitlines() if " session=2 " in one)
    for field in ("command=BIND", f"dialled={name}:{port}", "reply=00", "up=4 down=4"):
        assert field in line
    server.waitForDescriptors(0)
    assertServes(server, listener)


def test_reservedOctetIsIgnored(start: Start) -> None:
    with start().connect() as client:
        client.sendall(GREET + bytes.fromhex("0502ff01 7f000001 0000"))
        assert readExactly(client, 12)[:6] == b"\x05\x00\x05\x00\x00\x01"


def test_intruderAndThenThePeer(start: Start) -> None:
    server = start()
    client, bound = bind(server, "127.0.0.9")
    with client:
        assertTurnedAway(come(bound, "127.0.0.1"))
        assertSilent(client)
        intruder = come(bound, "127.0.0.8")
        intruder.sendall(b"bytes that nobody is to read")
        assertTurnedAway(intruder)
        assertSilent(client)
        with come(bound, "127.0.0.9") as peer:
            assertTunnel(client, peer)


def test_nobodyComes(start: Start) -> None:
    """
    The deadline is BIND's own, not that of the handshake or of silence.
    """
    server = start(
        *("--set", "timeout.bind=2", "--set", "timeout.handshake=1"),
        *("--set", "timeout.idle=1"),
    )
    client, bound = bind(server)
    with client:
        assert readAll(client) == failure(6)
    assert not isOpen(bound)


def test_onlyIntrudersCome(start: Start) -> None:
    """
    They do not put the deadline off.
    """
    client, bound = bind(start("--set", "timeout.bind=1"), "127.0.0.9")
    with client:
        for _ in range(50):
            isOpen(bound)
            if select.select([client], [], [], 0.1)[0]:
                break
        assert readAll(client) == failure(6)


@pytest.mark.parametrize(
    "leave", [socket.socket.close, reset, lambda client: client.shutdown(1)]
)
def test_clientLeaves(start: Start, leave: Callable[[socket.socket], None]) -> None:
    server = start()
    client, bound = bind(server)
    with client:
        leave(client)
        server.waitForDescriptors(0)
        assert not isOpen(bound)


def test_peersRace(start: Start) -> None:
    """
    One is served, and the others are turned away.
    """
    server = start()
    client, bound = bind(server)
    peers = []
    for _ in range(8):
        peer = socket.socket()
        peer.setblocking(False)
        peer.connect_ex(bound)
        peers.append(peer)
    with client:
        reply, (host, port) = readReply(client)
        assert (reply, host) == (0, "127.0.0.1")
        client.sendall(b"winner")
        client.shutdown(socket.SHUT_WR)
        for peer in peers:
            isWinner = peer.getsockname()[1] == port
            peer.settimeout(10)
            if isWinner:
                assert readAll(peer) == b"winner"
                peer.sendall(b"prize")
            else:
                # One that came as the port was closed may learn of it by this.
                with contextlib.suppress(ConnectionError):
                    peer.sendall(b"loser")
                    assert readAll(peer) == b""
            peer.close()
        assert readAll(client) == b"prize"


def test_peerSpeaksAtOnce(start: Start) -> None:
    client, bound = bind(start())
    banner = pattern("banner", 100_000)
    with client, come(bound) as peer, sending(peer, banner, thenEnd=True):
        assert readReply(client) == (0, peer.getsockname())
        assert readAll(client) == banner


def test_clientSpeaksBeforeTheSecondReply(start: Start) -> None:
    """
    In one segment with the request, and while it waits.
    """
    server = start()
    client = server.connect()
    client.sendall(GREET + request(BIND, "127.0.0.1") + b"sent with it, ")
    assert readExactly(client, 2) == b"\x05\x00"
    reply, bound = readReply(client)
    assert reply == 0
    client.sendall(b"and after it")
    with client, come(bound) as peer:
        assert readReply(client)[0] == 0
        assert readExactly(peer, 26) == b"sent with it, and after it"


def test_manyBytesWhileItWaits(start: Start) -> None:
    """
    What the server keeps is bounded, and none is lost.
    """
    server = start()
    client, bound = bind(server)
    payload = pattern("payload", 16 << 20)
    before = server.memory()
    with client, sending(client, payload):
        assertSilent(client)
        assert server.memory() - before < 4 << 20
        with come(bound) as peer:
            assert readExactly(peer, len(payload)) == payload


@pytest.mark.parametrize("byClient", [True, False])
def test_halfClose(start: Start, byClient: bool) -> None:
    client, bound = bind(start())
    with client, come(bound) as peer:
        assert readReply(client)[0] == 0
        one, other = (client, peer) if byClient else (peer, client)
        one.sendall(b"last words")
        one.shutdown(socket.SHUT_WR)
        assert readAll(other) == b"last words"
        other.sendall(b"answer")
        other.close()
        assert readAll(one) == b"answer"


@pytest.mark.parametrize("byClient", [True, False])
def test_reset(start: Start, byClient: bool) -> None:
    client, bound = bind(start())
    with client, come(bound) as peer:
        assertTunnel(client, peer)
        one, other = (client, peer) if byClient else (peer, client)
        reset(one)
        with pytest.raises(ConnectionResetError):
            other.recv(1)


def test_manyBytesBothWays(start: Start) -> None:
    client, bound = bind(start())
    up, down = pattern("up", 4 << 20), pattern("down", 4 << 20)
    with client, come(bound) as peer:
        assert readReply(client)[0] == 0
        with sending(client, up, thenEnd=True), sending(peer, down, thenEnd=True):
            got: list[bytes] = []
            reading = threading.Thread(target=lambda: got.append(readAll(peer)))
            reading.start()
            assert readAll(client) == down
            reading.join()
        assert got == [up]


def test_onePeerOnly(start: Start) -> None:
    server = start()
    client, bound = bind(server)
    with client, come(bound) as peer:
        assertTunnel(client, peer)
        assert not isOpen(bound)
        server.waitForDescriptors(2)


def test_severalAtOnce(start: Start) -> None:
    """
    Each has a port of its own.
    """
    server = start()
    waiting = [bind(server) for _ in range(5)]
    assert len({bound for _, bound in waiting}) == 5
    for client, bound in reversed(waiting):
        with client, come(bound) as peer:
            assertTunnel(client, peer)


# -- whom it waits for --------------------------------------------------------


def test_IPv6(start: Start) -> None:
    loopback6().close()
    client, bound = bind(start(), "::1")
    assert bound[0] == "::1"
    with client, come(bound) as peer:
        assertTunnel(client, peer)


def test_name(start: Start) -> None:
    """
    Any address of it may connect, others not.
    """
    server = start()
    for name in ("localhost", "LocalHost."):
        client, bound = bind(server, name)
        with client:
            if ":" not in bound[0]:
                assertTurnedAway(come(bound, "127.0.0.9"))
                assertSilent(client)
            with come(bound) as peer:
                assertTunnel(client, peer)


def test_nameThatIsAnAddress(start: Start) -> None:
    with start().connect() as client:
        client.sendall(GREET + b"\x05\x02\x00\x03\x09127.0.0.9\x00\x00")
        assert readExactly(client, 2) == b"\x05\x00"
        reply, bound = readReply(client)
        assert reply == 0
        assertTurnedAway(come(bound, "127.0.0.8"))
        with come(bound, "127.0.0.9") as peer:
            assertTunnel(client, peer)


def test_nameThatIsNone(start: Start) -> None:
    server = start()
    for name in ("nobody.invalid", "a b"):
        with server.connect() as client:
            client.sendall(GREET + request(BIND, name))
            assert readAll(client) == b"\x05\x00" + failure(4)


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.9"])
def test_anybody(start: Start, source: str) -> None:
    client, bound = bind(start(), "0.0.0.0")
    assert bound[0] == "127.0.0.1"
    with client, come(bound, source) as peer:
        assertTunnel(client, peer)


def test_anybodyOverIPv6(start: Start) -> None:
    loopback6().close()
    endpoint = "tcp6:0:interface=\\:\\:1"
    server = start("--port", endpoint)
    dialled = socket.create_connection(server.address(endpoint), 10)
    client, bound = bind(server, "::", dialled)
    assert bound[0] == "::1"
    with client, come(bound) as peer:
        assertTunnel(client, peer)


def test_PROXYHeader(start: Start) -> None:
    """
    The address that it says the client has connected to may be another host's.
    """
    endpoint = "haproxy:tcp:0:interface=127.0.0.1"
    server = start("--open", "--port", endpoint)
    for host in ("127.0.0.1", "0.0.0.0"):
        client = socket.create_connection(server.address(endpoint), 10)
        client.sendall(b"PROXY TCP4 127.0.0.2 192.0.2.1 5000 1080\r\n")
        client, bound = bind(server, host, client)
        assert bound[0] == "127.0.0.1"
        with client, come(bound) as peer:
            assertTunnel(client, peer)


# -- policy ---------------------------------------------------------------------


def test_denied(start: Start, denying: None, listener: socket.socket) -> None:
    server = start("--policy", "denying:BIND")
    with server.connect() as client:
        client.sendall(GREET + request(BIND, "127.0.0.1") + b"data")
        assert readAll(client) == b"\x05\x00" + failure(2)
    server.waitForDescriptors(0)
    assertServes(server, listener)


def test_deniedPeer(start: Start, denying: None) -> None:
    """
    The policy is asked about who really comes.
    """
    client, bound = bind(start("--policy", "denying:127.0.0.7"), "0.0.0.0")
    with client:
        assertTurnedAway(come(bound, "127.0.0.7"))
        assertSilent(client)
        with come(bound, "127.0.0.8") as peer:
            assertTunnel(client, peer)


def test_deniedPeerThatWasAskedFor(start: Start, denying: None) -> None:
    """
    Whether its address is judged before or when it comes.
    """
    server = start("--policy", "denying:127.0.0.7", "--set", "timeout.bind=1")
    with server.connect() as client:
        client.sendall(GREET + request(BIND, "127.0.0.7"))
        assert readExactly(client, 2) == b"\x05\x00"
        reply, bound = readReply(client)
        if reply == 0:
            assertTurnedAway(come(bound, "127.0.0.7"))
            assert readAll(client) == failure(6)
        else:
            assert (reply, bound) == (2, ("0.0.0.0", 0))


def test_guard(start: Start) -> None:
    """
    To a client from elsewhere, nobody on this host may come.
    """
    client, bound = bind(start("--policy", "guard:local=elsewhere"), "0.0.0.0")
    with client:
        assertTurnedAway(come(bound))
        assertSilent(client)


# -- settings -------------------------------------------------------------------


def test_portRange(start: Start) -> None:
    first = freePorts(2)
    server = start("--set", f"bind.ports={first}-{first + 1}")
    one, boundOne = bind(server)
    two, boundTwo = bind(server)
    assert {boundOne[1], boundTwo[1]} == {first, first + 1}
    with one:
        with server.connect() as third:
            third.sendall(GREET + request(BIND, "127.0.0.1"))
            assert readAll(third) == b"\x05\x00" + failure(1)
        with two, come(boundTwo) as peer:
            assertTunnel(two, peer)
            third, bound = bind(server)  # for its port is free again
            third.close()
            assert bound == boundTwo
        server.waitForDescriptors(2)


def test_publicAddress(start: Start) -> None:
    server = start("--set", "bind.public-address=192.0.2.7")
    client, bound = bind(server)
    assert bound[0] == "192.0.2.7"
    with client, come(("127.0.0.1", bound[1])) as peer:
        assertTunnel(client, peer)


def test_limit(start: Start) -> None:
    server = start("--set", "limit.binds-per-client=2")

    def dial(source: str) -> socket.socket:
        return socket.create_connection(
            ("127.0.0.1", server.port), 10, source_address=(source, 0)
        )

    def assertRefused() -> None:
        with dial("127.0.0.7") as client:
            client.sendall(GREET + request(BIND, "127.0.0.1"))
            answer = readAll(client)
            assert answer[3] != 0
            assert answer == b"\x05\x00" + failure(answer[3])

    one, _ = bind(server, client=dial("127.0.0.7"))
    two, _ = bind(server, client=dial("127.0.0.7"))
    with one, two:
        assertRefused()
        bind(server, client=dial("127.0.0.8"))[0].close()
        one.close()
        server.waitForDescriptors(2)
        three, _ = bind(server, client=dial("127.0.0.7"))
        with three:
            assertRefused()


@pytest.mark.parametrize("isPublic", [False, True])
def test_clientOnAUNIXSocket(start: Start, tmp_path: Path, isPublic: bool) -> None:
    """
    It has no IP address of ours, so that one must be configured.
    """
    path = f"{tmp_path}/socks"
    settings = ["--set", "bind.public-address=127.0.0.1"] if isPublic else []
    server = start("--port", f"unix:{path}", *settings)
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    if isPublic:
        client, bound = bind(server, client=client)
        assert bound[0] == "127.0.0.1"
        with client, come(bound) as peer:
            assertTunnel(client, peer)
    else:
        with client:
            client.settimeout(10)
            client.sendall(GREET + request(BIND, "127.0.0.1"))
            assert readAll(client) == b"\x05\x00" + failure(7)
