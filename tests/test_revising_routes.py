# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Rules that change while sessions live whose way out is several, or a chain.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.association import MOST, Association, datagramSocket
from tests.conversation import (
    GREET,
    connectTo,
    failure,
    freePorts,
    readAll,
    readExactly,
    readReply,
)
from tests.test_bind import assertTunnel, bind, come
from tests.test_revising import (
    ALLOW,
    DENY,
    Rules,
    assertEnded,
    assertPasses,
    tunnelTo,
)

if TYPE_CHECKING:
    from tests.conftest import Server

    Start = Callable[..., Server]

DENY_5 = f"{DENY}to = '127.0.0.5'\n"
VIA = f"{ALLOW}route = 'via'\n"
WAYS = {
    "least": "least = ['own', 'one']",
    "first of least": "first = ['gone', 'more']",
    "first of chain": "first = ['gone', 'both']",
}


class Ways:
    """
    A server, and two that it may go out through.
    """

    def __init__(self, start: Start, folder: Path) -> None:
        self.rules = Rules(start, folder)
        self.server = self.rules.server
        self._others = (
            "[route.own]\nbind = '127.0.0.0/28'\n"
            f"[route.gone]\nproxy = 'tcp:127.0.0.1:{freePorts(1)}'\n"
            f"[route.one]\nproxy = 'tcp:127.0.0.1:{start().port}'\n"
            f"[route.two]\nproxy = 'tcp:127.0.0.1:{start().port}'\n"
            "[route.both]\nchain = ['one', 'two']\n"
            "[route.more]\nleast = ['own', 'one']\n"
        )

    def become(self, before: str, way: str, rule: str = VIA) -> None:
        """
        Have other rules before the one by which all go one way.
        """
        self.rules.become(f"{before}{rule}[route.via]\n{way}\n{self._others}")


@pytest.fixture
def ways(start: Start, tmp_path: Path) -> Ways:
    return Ways(start, tmp_path)


@pytest.mark.parametrize("kind", WAYS)
def test_whatIsDeniedNow(ways: Ways, kind: str) -> None:
    """
    Ends, and no other: tunnels, ports that wait, destinations of datagrams.  Since each
    way has a proxy that may have looked the name up, nobody knows its address.
    """
    server, way = ways.server, WAYS[kind]
    ways.become("", way)
    denied, stays = tunnelTo(server, "127.0.0.5"), tunnelTo(server, "127.0.0.1")
    byName = tunnelToName(server)
    waitingFor5, _ = bind(server, "127.0.0.5")
    waiting, bound = bind(server)
    with (
        datagramSocket("127.0.0.5") as no,
        datagramSocket() as yes,
        Association(server) as client,
    ):
        source = client.assertServed(no)
        client.assertServed(yes)
        ways.become(DENY_5, way)
        assertEnded(*denied, *byName, waitingFor5)
        assertPasses(*stays)
        client.send(b"no", no.getsockname())
        no.sendto(b"no", source)
        client.assertServed(yes)
        no.setblocking(False)
        with pytest.raises(BlockingIOError):
            no.recv(MOST)
        ways.become("", way)
        no.settimeout(10)
        client.assertServed(no)
        ways.become(f"{DENY}command = 'ASSOCIATE'\n", way)
        assertEnded(client.control)
    with come(bound) as peer, waiting:
        assertTunnel(waiting, peer)
    assertPasses(*stays)
    ways.become(f"{DENY}command = 'CONNECT'\n", way)
    assertEnded(*stays)
    server.waitForDescriptors(0)
    server.waitForLog('reason="revised: rule 1 (deny to=127.0.0.5)"', 2)


def tunnelToName(server: Server) -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)
        client = server.connect()
        port = listening.getsockname()[1]
        client.sendall(GREET + b"\5\1\0\3\x09localhost" + port.to_bytes(2, "big"))
        assert readExactly(client, 2) == b"\x05\x00"
        assert readReply(client)[0] == 0
        destination, _ = listening.accept()
        destination.settimeout(10)
        return client, destination


@pytest.mark.parametrize("kind", ["least", "first of chain"])
def test_anotherWay(ways: Ways, kind: str) -> None:
    """
    What has been connected goes on by the way that it has; an association does not, if
    that is nobody's any more.
    """
    server = ways.server
    ways.become("", WAYS[kind])
    stays = tunnelTo(server, "127.0.0.1")
    with datagramSocket() as target, Association(server) as client:
        client.assertServed(target)
        ways.become("", "first = ['own', 'gone']")
        assertPasses(*stays)
        assertEnded(client.control)
    for one in stays:
        one.close()
    server.waitForLog("goes another way now")
    server.waitForDescriptors(0)


@pytest.mark.parametrize("isDenied", [True, False])
def test_whileTheFirstOneIsTried(
    start: Start, tmp_path: Path, listener: socket.socket, isDenied: bool
) -> None:
    """
    One that does not answer: what is denied meanwhile is not tried by the next one.
    """
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(10)
        port = silent.getsockname()[1]
        text = (
            f"{VIA}[route.via]\nfirst = ['silent', 'own']\n[route.own]\nbind = '127.0.0.1'\n"
            f"[route.silent]\nproxy = 'tcp:127.0.0.1:{port}'\n"
        )
        rules = Rules(start, tmp_path)
        rules.become(text)
        with rules.server.connect() as client:
            client.sendall(GREET + connectTo(listener.getsockname()[1]))
            assert readExactly(client, 2) == b"\x05\x00"
            asked, _ = silent.accept()
            rules.become((f"{DENY}to = '127.0.0.1'\n" if isDenied else "") + text)
            asked.close()
            if isDenied:
                assert readAll(client) in (failure(2), b"")
                rules.server.waitForLog("deny to=127.0.0.1")
            else:
                assert readReply(client)[0] == 0
                listener.accept()[0].close()
    if isDenied:
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
