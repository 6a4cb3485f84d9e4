# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Two nodes behind HAProxy, as C{deploy/haproxy.cfg} has it; one of them dies.
"""

from __future__ import annotations

import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conversation import connectTo, readExactly
from tests.interop.otherservers import Program, freePort

if TYPE_CHECKING:
    from tests.conftest import Server

CONFIGURATION = Path(__file__).parent.parent.parent / "deploy" / "haproxy.cfg"
LOGIN = b"\x05\x01\x02\x01\x05alice\x0awonderland"
REPLY = 2 + 2 + 10
SESSIONS = 20

# By these the destination sees which node a client has come through.
ONE, TWO = "127.0.0.101", "127.0.0.102"

Start = Callable[..., "Server"]


class Nodes:
    """
    The balancer, and what is behind it.
    """

    def __init__(self, start: Start, folder: Path, accounts: tuple[str, str]) -> None:
        self.start = start
        self.folder = folder
        self.accounts = accounts
        self.ports = {ONE: freePort(), TWO: freePort()}
        self.running = {address: self.begin(address) for address in self.ports}

    def begin(self, address: str) -> Server:
        """
        Start a node, which goes out from an address.
        """
        rules = self.folder / f"{address}.toml"
        rules.write_text(
            f'[[rule]]\naction = "allow"\nto = ["loopback"]\nbind = "{address}"\n'
        )
        endpoint = f"haproxy:tcp:{self.ports[address]}:interface=127.0.0.1"
        rule = "--rules", str(rules)
        grace = "--set", "timeout.grace=30"
        return self.start("--port", endpoint, *rule, *grace, *self.accounts)

    def configuration(self, port: int) -> str:
        """
        That of the balancer, with nodes and ports that are there.
        """
        text = CONFIGURATION.read_text()
        for here, there in {
            "bind :1080": f"bind 127.0.0.1:{port}",
            "one one:1080": f"one 127.0.0.1:{self.ports[ONE]}",
            "two two:1080": f"two 127.0.0.1:{self.ports[TWO]}",
            "    parse-resolv-conf\n": "",
        }.items():
            assert text.count(here) == 1, here
            text = text.replace(here, there)
        return text


class Client:
    """
    Goes through the balancer to a destination.

    @ivar node: From where its node goes out.
    """

    def __init__(self, port: int, listener: socket.socket, host: str) -> None:
        self.socket = socket.create_connection(
            ("127.0.0.1", port), 10, source_address=(host, 0)
        )
        self.name = "{}:{}".format(*self.socket.getsockname())
        self.socket.sendall(LOGIN + connectTo(listener.getsockname()[1]))
        assert readExactly(self.socket, REPLY)[:6] == b"\x05\x02\x01\x00\x05\x00"
        self.destination, peer = listener.accept()
        self.node: str = peer[0]
        self.destination.settimeout(10)

    def isLost(self) -> bool:
        """
        Whether its tunnel is not there any more.
        """
        try:
            self.destination.sendall(b"ping")
            if self.socket.recv(4) != b"ping":
                return True
        except ConnectionError:
            return True
        self.socket.sendall(b"pong")
        return readExactly(self.destination, 4) != b"pong"

    def close(self) -> None:
        """
        Leave.
        """
        self.socket.close()
        self.destination.close()


@pytest.fixture
def nodes(start: Start, tmp_path: Path, accounts: tuple[str, str]) -> Nodes:
    return Nodes(start, tmp_path, accounts)


@pytest.fixture
def balancer(
    program: Callable[..., str], nodes: Nodes, tmp_path: Path
) -> Iterator[Program]:
    port = freePort()
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(nodes.configuration(port))
    command = [program("haproxy"), "-db", "-f", str(configuration)]
    running = Program(command, port, tmp_path / "haproxy.log")
    try:
        running.waitForIt()
        yield running
    finally:
        running.stop()


@pytest.fixture
def come(
    balancer: Program, listener: socket.socket
) -> Iterator[Callable[[str], Client]]:
    """
    Makes clients.
    """
    clients: list[Client] = []

    def coming(host: str) -> Client:
        clients.append(Client(balancer.port, listener, host))
        return clients[-1]

    yield coming
    for client in clients:
        client.close()


def test_configuration(run: Callable[..., Any], program: Callable[..., str]) -> None:
    """
    HAProxy takes it as it is.
    """
    done = run(program("haproxy"), "-c", "-f", str(CONFIGURATION))
    assert done.returncode == 0, done.stderr


def test_oneDies(
    nodes: Nodes, come: Callable[[str], Client], sessions: Callable[..., Any]
) -> None:
    """
    That costs its own sessions, and nothing else: neither those of the other
    node, nor a single new one.
    """
    clients = [come(f"127.0.1.{number}") for number in range(SESSIONS)]
    assert Counter(client.node for client in clients) == {
        ONE: SESSIONS / 2,
        TWO: SESSIONS / 2,
    }
    assert not any(client.isLost() for client in clients)

    nodes.running[ONE].process.send_signal(signal.SIGKILL)
    nodes.running[ONE].process.wait(10)
    # The balancer is not told; whoever comes now shows it.
    late = [come(f"127.0.2.{number}") for number in range(SESSIONS)]
    assert {client.node for client in late} == {TWO}
    lost = [client for client in clients if client.isLost()]
    assert [client.node for client in lost] == [ONE] * (SESSIONS // 2)
    assert not any(client.isLost() for client in late)

    # The node knows where its clients are.
    stayed = [client for client in (*clients, *late) if client.node == TWO]
    for client in stayed:
        client.close()
    ended = sessions(nodes.running[TWO], len(stayed), True)
    told = {one["client"] for one in ended if one["down"]}  # the balancer's own: none
    assert told == {client.name for client in stayed}


def test_oneIsToldToStop(nodes: Nodes, come: Callable[[str], Client]) -> None:
    """
    That costs nobody anything: its sessions go on until they have ended by
    themselves, and with the last one it ends.
    """
    clients = [come(f"127.0.1.{number}") for number in range(SESSIONS)]
    node = nodes.running[ONE]
    node.process.send_signal(signal.SIGTERM)
    node.waitForLog(f"Port {nodes.ports[ONE]} Closed")
    late = [come(f"127.0.2.{number}") for number in range(SESSIONS)]
    assert {client.node for client in late} == {TWO}
    assert not any(client.isLost() for client in (*clients, *late))
    own = [client for client in clients if client.node == ONE]
    for client in own[1:]:
        client.close()
    assert not own[0].isLost()
    own[0].close()
    node.process.wait(10)
    assert len(own) == SESSIONS / 2


def test_itComesBack(nodes: Nodes, come: Callable[[str], Client]) -> None:
    """
    The balancer finds it by itself, and new clients are led there: it has fewer.
    """
    nodes.running[ONE].process.send_signal(signal.SIGKILL)
    nodes.running[ONE].process.wait(10)
    assert {come("127.0.1.1").node for _ in range(10)} == {TWO}
    nodes.running[ONE] = nodes.begin(ONE)

    def isBack() -> bool:
        client = come("127.0.1.2")
        if client.node == TWO:
            client.close()
        return client.node == ONE

    nodes.running[ONE].waitUntil(isBack)
    assert {come("127.0.1.3").node for _ in range(5)} == {ONE}
