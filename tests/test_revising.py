# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Rules that change while sessions live.
"""

from __future__ import annotations

import select
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from tests.association import MOST, Association, datagramSocket
from tests.conversation import (
    GREET,
    connectTo,
    connectToName,
    deaf,
    failure,
    readAll,
    readExactly,
    readReply,
)
from tests.test_bind import bind, come
from twisted_socks5 import Decision, NoAuthentication, SOCKS5ServerFactory
from twisted_socks5.addresses import Address
from twisted_socks5.interfaces import IConnectPolicy, IRequest
from twisted_socks5.server.session import State

if TYPE_CHECKING:
    from tests.conftest import Server

    Start = Callable[..., Server]

ALLOW = '[[rule]]\naction = "allow"\n'
DENY = '[[rule]]\naction = "deny"\n'
DENY_5 = DENY + 'to = "127.0.0.5"\n' + ALLOW


class Rules:
    """
    A file of rules, and the server that goes by it.
    """

    def __init__(self, start: Start, path: Path, *arguments: str) -> None:
        self.path = path / "rules.toml"
        self.path.write_text(ALLOW)
        self._times = 0
        self.server = start("--rules", str(self.path), *arguments)

    def become(self, text: str) -> None:
        """
        Change them, and wait until they have taken hold.
        """
        self.path.write_text(text)
        self._times += 1
        self.server.process.send_signal(signal.SIGHUP)
        self.server.waitForLog("the configuration was loaded", self._times)


@pytest.fixture
def rules(startEach: Start, tmp_path: Path) -> Rules:
    return Rules(startEach, tmp_path)


def tunnelTo(server: Server, host: str) -> tuple[socket.socket, socket.socket]:
    """
    A client, and the destination at an address that it is connected to.
    """
    with socket.create_server((host, 0)) as listening:
        listening.settimeout(10)
        client = server.connect()
        client.sendall(GREET + connectTo(listening.getsockname()[1], host))
        assert readExactly(client, 12)[:4] == b"\x05\x00\x05\x00"
        destination, _ = listening.accept()
        destination.settimeout(10)
        return client, destination


def assertEnded(*sockets: socket.socket) -> None:
    for one in sockets:
        with one:
            try:
                assert one.recv(1) == b""
            except ConnectionResetError:
                pass


def assertPasses(one: socket.socket, other: socket.socket) -> None:
    for sender, receiver in ((one, other), (other, one)):
        sender.sendall(b"ping")
        assert readExactly(receiver, 4) == b"ping"


def test_tunnels(rules: Rules) -> None:
    """
    Those that are denied now are ended, with the reason; the others stay.
    """
    server = rules.server
    denied, stays = tunnelTo(server, "127.0.0.5"), tunnelTo(server, "127.0.0.1")
    greeted = server.connect()
    greeted.sendall(GREET)
    assert readExactly(greeted, 2) == b"\x05\x00"
    rules.become(DENY_5)
    assertEnded(*denied)
    server.waitForLog('reason="revised: rule 1 (deny to=127.0.0.5)"')
    assertPasses(*stays)
    with greeted:
        greeted.sendall(connectTo(1, "127.0.0.5"))
        assert readAll(greeted) == failure(2)
    rules.become(ALLOW)
    others = tunnelTo(server, "127.0.0.5")
    assertPasses(*others)
    rules.become(DENY + "command = 'CONNECT'\n" + ALLOW)
    assertEnded(*stays, *others)


def test_aFileThatDoesNotLoad(rules: Rules) -> None:
    server = rules.server
    rules.become(DENY_5)
    client, destination = tunnelTo(server, "127.0.0.1")
    path = rules.path
    path.write_text(DENY + "too = 'x'\n")
    server.process.send_signal(signal.SIGHUP)
    server.waitForLog(
        f"the old configuration stays in force: {path}:3: unknown key 'too': did you mean to?"
    )
    server.defects = 1
    assertPasses(client, destination)
    client.close()
    destination.close()
    with server.connect() as other:
        other.sendall(GREET + connectTo(1, "127.0.0.5"))
        assert readAll(other) == b"\x05\x00" + failure(2)
    rules.become(ALLOW)
    for one in tunnelTo(server, "127.0.0.5"):
        one.close()


def test_whileConnecting(rules: Rules) -> None:
    """
    An address that was allowed when it was dialled is none to stay connected to.
    """
    server = rules.server
    with deaf() as listening, server.connect() as client:
        port = listening.getsockname()[1]
        client.sendall(GREET + connectToName(b"localhost", port))
        assert readExactly(client, 2) == b"\x05\x00"
        server.waitForDescriptors(2)
        rules.become(DENY + "to = '127.0.0.1'\n" + ALLOW + "to = 'localhost.'\n")
        accepted = []

        def isEnded() -> bool:
            if select.select([listening], [], [], 0)[0]:
                accepted.append(listening.accept()[0])
            return "revised: rule 1 (deny to=127.0.0.1)" in server.output()

        server.waitUntil(isEnded)
        for one in accepted:
            one.close()


def test_bind(rules: Rules) -> None:
    server = rules.server
    waiting, _ = bind(server)
    accepted, other = bind(server)
    with come(other) as peer:
        assert readReply(accepted)[0] == 0
        rules.become(DENY + "command = 'BIND'\nport = 9\n" + ALLOW)
        assertPasses(accepted, peer)
        rules.become(DENY + "command = 'BIND'\n" + ALLOW)
        assertEnded(accepted, waiting)
    server.waitForLog("revised: rule 1 (deny command=BIND)", 2)


def test_datagrams(rules: Rules) -> None:
    """
    Nothing is sent any more to what is denied now, nor taken from there.
    """
    server = rules.server
    with (
        datagramSocket("127.0.0.5") as denied,
        datagramSocket("127.0.0.1") as stays,
        Association(server) as client,
    ):
        source = client.assertServed(denied)
        client.assertServed(stays)
        rules.become(DENY_5)
        client.send(b"no", denied.getsockname())
        denied.sendto(b"no", source)
        stays.sendto(b"unasked", source)  # since the client has sent there
        assert client.receive() == (b"unasked", stays.getsockname())
        client.assertServed(stays)
        rules.become(ALLOW)
        client.assertServed(denied)
        client.send(b"last", denied.getsockname())
        assert denied.recv(MOST) == b"last"
        rules.become(DENY + "command = 'ASSOCIATE'\n" + ALLOW)
        assertEnded(client.control)
    server.waitForLog('dropped=denied:1,stranger:1 denial="rule 1 (deny to=127.0.0.5)"')
    server.waitForLog("revised: rule 1 (deny command=ASSOCIATE)")


def test_aDeniedPortOfAHost(rules: Rules) -> None:
    """
    A host stays known as long as one of its ports may be sent to.
    """
    server = rules.server
    with (
        datagramSocket() as one,
        datagramSocket() as other,
        Association(server) as client,
    ):
        source = client.assertServed(one)
        client.assertServed(other)
        rules.become(DENY + f"port = {one.getsockname()[1]}\n" + ALLOW)
        other.sendto(b"unasked", source)
        assert client.receive() == (b"unasked", other.getsockname())
        rules.become(DENY + "to = '127.0.0.0/8'\n" + ALLOW)
        other.sendto(b"no", source)
        rules.become(ALLOW)
        client.assertServed(other)


def test_againAndAgainUnderLoad(rules: Rules) -> None:
    """
    None that stays allowed is harmed, and none that is denied survives.
    """
    server = rules.server
    staying = [tunnelTo(server, "127.0.0.1") for _ in range(10)]
    stop = threading.Event()
    harmed: list[BaseException] = []

    def work(pair: tuple[socket.socket, socket.socket]) -> None:
        try:
            while not stop.is_set():
                assertPasses(*pair)
        except BaseException as error:
            harmed.append(error)

    threads = [threading.Thread(target=work, args=(pair,)) for pair in staying]
    for thread in threads:
        thread.start()
    try:
        for _ in range(15):
            denied = [tunnelTo(server, "127.0.0.5") for _ in range(5)]
            rules.become(DENY_5)
            for pair in denied:
                assertEnded(*pair)
            rules.become(ALLOW)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not harmed
    for pair in staying:
        assertPasses(*pair)
        for one in pair:
            one.close()
    assert server.output().count("revised: ") == 15 * 5


# -- policies that take their time -------------------------------------------------


@implementer(IConnectPolicy)
class Slow:
    """
    A policy that answers when it is told to.
    """

    def __init__(self) -> None:
        self.questions: list[Deferred[Decision]] = []

    def decide(self, request: IRequest) -> Deferred[Decision]:
        self.questions.append(Deferred())
        return self.questions[-1]

    def checkAddress(self, request: IRequest, address: Address) -> Decision:
        return Decision.allow()


class Served:
    """
    A client whose request is being judged.
    """

    protocol: Any

    def __init__(self) -> None:
        self.policy = Slow()
        factory: Any = SOCKS5ServerFactory(
            Clock(), [NoAuthentication()], policy=self.policy
        )
        self.factory = factory
        self.transport = StringTransport()
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        self.protocol.dataReceived(GREET + connectTo(1))
        assert self.state is State.DECIDING

    @property
    def state(self) -> State:
        state: State = self.protocol.session.state
        return state


def test_theAnswerIsOld() -> None:
    """
    What a policy says before it changes, and is heard of after that, is asked again.
    """
    served = Served()
    revised = served.factory.reviseSessions()
    assert revised.called
    first = served.policy.questions.pop()
    first.callback(Decision.allow())
    assert served.state is State.DECIDING
    (again,) = served.policy.questions
    again.callback(Decision.deny(0x05, "changed"))
    assert served.transport.value() == b"\x05\x00" + failure(5)
    assert served.protocol.session.reason == "changed"


def test_anAnswerIsEnough() -> None:
    served = Served()
    (question,) = served.policy.questions
    question.callback(Decision.deny())
    assert served.transport.value() == b"\x05\x00" + failure(2)
    assert len(served.policy.questions) == 1
