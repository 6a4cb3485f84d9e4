# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Datagrams through chains of started proxies.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.association import ASSOCIATE, Association, datagramSocket
from tests.conversation import (
    GREET,
    failure,
    loopback6,
    pattern,
    readAll,
    request,
)
from tests.test_revising import ALLOW, DENY, Rules, assertEnded

if TYPE_CHECKING:
    from tests.conftest import Server

    Start = Callable[..., Server]

VIA = f"{ALLOW}route = 'via'\n"
NONE = f"{DENY}command = 'ASSOCIATE'\n{ALLOW}"


class Chain:
    """
    A server that leaves through some proxies, one after the other.

    @ivar hops: Those proxies, the nearest first.
    @ivar first: The server, and its rules.
    @ivar server: It.
    """

    def __init__(self, start: Start, folder: Path, count: int) -> None:
        def rules(name: str, *arguments: str) -> Rules:
            (folder / name).mkdir()
            return Rules(start, folder / name, *arguments)

        self.hops = [
            rules(f"hop{number}", "--auth", f"memory:user{number}:secret{number}")
            for number in range(count)
        ]
        self.first = rules("first")
        self.server = self.first.server
        self.via = VIA
        for number, hop in enumerate(self.hops):
            (folder / "first" / f"password{number}").touch(0o600)
            (folder / "first" / f"password{number}").write_text(f"secret{number}")
            self.via += (
                f"[route.r{number}]\nproxy = 'tcp:127.0.0.1:{hop.server.port}'\n"
                f"user = 'user{number}'\npassword-file = 'password{number}'\n"
            )
        names = [f"r{number}" for number in range(count)]
        self.via += f"[route.via]\nchain = {names}\n"
        self.first.become(self.via)

    def become(self, text: str) -> None:
        """
        Have the server go by other rules, which come before that of the chain.
        """
        self.first.become(text + self.via)

    def assertNothingIsLeft(self) -> None:
        for each in (self.first, *self.hops):
            each.server.waitForDescriptors(0)


@pytest.fixture
def hops() -> int:
    """
    How many proxies there are.
    """
    return 3


@pytest.fixture
def chain(hops: int, start: Start, tmp_path: Path) -> Chain:
    return Chain(start, tmp_path, hops)


@pytest.fixture
def target() -> Iterator[socket.socket]:
    with datagramSocket() as opened:
        yield opened


@pytest.mark.parametrize("hops", [2, 3])
def test_thereAndBack(hops: int, chain: Chain, target: socket.socket) -> None:
    """
    To IPv4 and IPv6 addresses and names, which the last one sends to; whole, as long
    as all headers have room.
    """
    loopback6().close()
    largest = 65507 - 10 * hops
    with (
        datagramSocket("::1") as target6,
        Association(chain.server) as client,
        Association(chain.server) as other,
    ):
        source = client.assertServed(target)
        assert source[1] in _udpPorts(chain.hops[-1].server)
        assert other.assertServed(target) != source
        client.assertServed(target6)
        client.assertServed(target, "localhost")
        payload = pattern(1, largest)
        client.send(payload, target.getsockname())
        assert target.recvfrom(65535) == (payload, source)
        target.sendto(payload, source)
        assert client.receive() == (payload, target.getsockname())
        client.send(payload + b"1", target.getsockname())
        client.assertServed(target)
    chain.server.waitForLog("dropped=size:1")
    chain.hops[-1].server.waitForLog(" command=ASSOCIATE ", 2)
    chain.assertNothingIsLeft()


def _udpPorts(server: Server) -> set[int]:
    """
    The UDP ports of a server.
    """
    folder = Path(f"/proc/{server.process.pid}")
    inodes = set()
    for descriptor in (folder / "fd").iterdir():
        inodes.add(str(descriptor.readlink()).removeprefix("socket:[").rstrip("]"))
    rows = [line.split() for line in (folder / "net/udp").read_text().splitlines()[1:]]
    return {int(row[1].partition(":")[2], 16) for row in rows if row[9] in inodes}


def test_destinationsAreJudged(chain: Chain, target: socket.socket) -> None:
    """
    As with one proxy: addresses and names by the server, the same and what names come
    to by the last one; those between are asked for the next relay only.
    """
    with (
        datagramSocket("127.0.0.5") as denied,
        datagramSocket("127.0.0.6") as deniedThere,
        Association(chain.server) as client,
    ):
        source = client.assertServed(denied)
        client.assertServed(deniedThere)
        chain.become(f"{DENY}to = ['127.0.0.5', 'evil.example']\n")
        chain.hops[-1].become(f"{DENY}to = '127.0.0.6'\n{ALLOW}")
        client.send(b"no", denied.getsockname())
        client.send(b"no", deniedThere.getsockname())
        client.send(b"no", ("evil.example", 53))
        denied.sendto(b"no", source)
        client.assertServed(target)
        for one in (denied, deniedThere):
            one.setblocking(False)
            with pytest.raises(BlockingIOError):
                one.recv(1)
    chain.server.waitForLog("dropped=denied:2,stranger:1 ")
    chain.hops[-1].server.waitForLog("dropped=denied:1 ")
    for hop in chain.hops:
        assert "evil.example" not in hop.server.output()
    assert "secret" not in chain.server.output()


def test_oneEndsIt(chain: Chain, target: socket.socket) -> None:
    """
    Whichever proxy ends its association, the client's ends, and all others; and one
    that does not let datagrams pass any more says so to the next client.
    """
    for hop in chain.hops:
        client = Association(chain.server)
        client.assertServed(target)
        hop.become(NONE)
        assertEnded(client.control)
        client.socket.close()
        chain.assertNothingIsLeft()
        with chain.server.connect() as refused:
            refused.sendall(GREET + request(ASSOCIATE, "0.0.0.0"))
            assert readAll(refused) == b"\x05\x00" + failure(2)
        chain.assertNothingIsLeft()
        hop.become(ALLOW)
    chain.server.waitForLog('reason="the proxy ended the association"', len(chain.hops))
    with Association(chain.server) as client:
        client.assertServed(target)


def test_theClientGoesAwayMeanwhile(start: Start, tmp_path: Path) -> None:
    """
    While one of the proxies is being asked; nothing of the others is left.
    """
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hop = start()
        text = (
            f"{VIA}[route.via]\nchain = ['silent', 'hop']\n"
            f"[route.silent]\nproxy = 'tcp:127.0.0.1:{silent.getsockname()[1]}'\n"
            f"[route.hop]\nproxy = 'tcp:127.0.0.1:{hop.port}'\n"
        )
        (tmp_path / "rules.toml").write_text(text)
        first = start("--rules", str(tmp_path / "rules.toml"))
        silent.settimeout(10)
        with first.connect() as client:
            client.sendall(GREET + request(ASSOCIATE, "0.0.0.0"))
            # The way to the second is there; the first, asked by itself, is silent.
            asked, _ = silent.accept()
            passed = _passOn(asked, hop.port)
            alone, _ = silent.accept()
            hop.waitForDescriptors(2)
        first.waitForDescriptors(0)
        passed()
        alone.close()
        hop.waitForDescriptors(0)


def _passOn(asked: socket.socket, port: int) -> Any:
    """
    Be a proxy that joins a client with another port, as far as its handshake and
    request for datagrams go.

    @return: What closes both.
    """
    asked.settimeout(10)
    assert asked.recv(99) == b"\x05\x01\x00"
    asked.sendall(b"\x05\x00")
    assert asked.recv(99)[:2] == b"\x05\x01"
    asked.sendall(b"\x05\x00\x00\x01" + bytes(6))
    further = socket.create_connection(("127.0.0.1", port), 10)
    for _ in range(2):
        further.sendall(asked.recv(99))
        asked.sendall(further.recv(99))

    def close() -> None:
        asked.close()
        further.close()

    return close
