# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Rules that change while sessions live.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import DatagramProtocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, capturedLogs, formatEvent
from zope.interface import implementer

from tests.association import MOST, Association, datagramSocket
from tests.conversation import (
    GREET,
    connectTo,
    connectToName,
    deaf,
    failure,
    pattern,
    readAll,
    readExactly,
    readReply,
)
from tests.loopback import Place, inReactor
from tests.test_bind import assertTunnel, bind, come
from twisted_socks5 import (
    Decision,
    Guard,
    NoAuthentication,
    SOCKS5DatagramEndpoint,
    SOCKS5ServerFactory,
    ThroughProxy,
)
from twisted_socks5.addresses import Address
from twisted_socks5.authenticators import Identity
from twisted_socks5.errors import GeneralFailure
from twisted_socks5.interfaces import IAccountAuthenticator, IConnectPolicy, IRequest
from twisted_socks5.routes.datagrams import DirectDatagrams
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
    An address that was allowed when it was dialled is none to be connected to: the
    client is never told of success.
    """
    server = rules.server
    with deaf() as listening, server.connect() as client:
        port = listening.getsockname()[1]
        client.sendall(GREET + connectToName(b"localhost", port))
        assert readExactly(client, 2) == b"\x05\x00"
        server.waitForDescriptors(2)
        rules.become(DENY + "to = '127.0.0.1'\n" + ALLOW + "to = 'localhost.'\n")
        listening.accept()[0].close()  # which makes room for ours
        assert readAll(client) == failure(2)
        server.waitForLog("reply=02 up=0 down=0")
        server.waitForLog('reason="rule 1 (deny to=127.0.0.1)"')


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


def bindTo(server: Server, host: str) -> tuple[socket.socket, socket.socket]:
    """
    A client, and the peer at an address that has come to its port.
    """
    client, bound = bind(server, host)
    peer = come(bound, host)
    assert readReply(client)[0] == 0
    return client, peer


class Busy:
    """
    Sessions that carry bytes all the time.
    """

    def __init__(self) -> None:
        self.harmed: list[BaseException] = []
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.rounds = 0

    def start(self, work: Callable[[int], object]) -> None:
        """
        Do something again and again.
        """
        thread = threading.Thread(target=self._run, args=(work,))
        self._threads.append(thread)
        thread.start()

    def _run(self, work: Callable[[int], object]) -> None:
        try:
            while not self._stop.is_set():
                work(self.rounds)
                self.rounds += 1
        except BaseException as error:
            self.harmed.append(error)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def passing(pairs: list[tuple[socket.socket, socket.socket]]) -> Callable[[int], None]:
    """
    Bytes both ways through each of some tunnels, each its own.
    """

    def work(times: int) -> None:
        for number, pair in enumerate(pairs):
            for sender in pair:
                sender.sendall(pattern(f"{number} {times}", 1000))
            for receiver in pair:
                assert readExactly(receiver, 1000) == pattern(f"{number} {times}", 1000)

    return work


def serving(client: Association, target: socket.socket) -> Callable[[int], object]:
    """
    A datagram there and back.
    """
    return lambda times: client.assertServed(target)


DENY_ALL_5 = (
    f'{DENY}to = "127.0.0.5"\n{DENY}command = "ASSOCIATE"\nuser = "bob"\n{ALLOW}'
)
WRONG = ["", DENY + "too = 'x'\n", DENY_5 + "[[rule", ALLOW + "route = 'x'\n"]


def test_againAndAgainUnderLoad(startEach: Start, tmp_path: Path) -> None:
    """
    None that stays allowed is harmed, and none that is denied survives: tunnels,
    ports of BIND, associations and their destinations; also where files come between
    that are wrong.
    """
    (tmp_path / "users").touch(0o600)
    (tmp_path / "users").write_text("bob:builder\n")
    accounts = ("--auth", f"file:{tmp_path}/users", "--authenticator", "none")
    rules = Rules(startEach, tmp_path, *accounts, "--set", "limit.binds-per-client=0")
    server, path = rules.server, rules.path
    busy = Busy()
    staying = [tunnelTo(server, "127.0.0.1") for _ in range(200)]
    staying += [bindTo(server, "127.0.0.1") for _ in range(30)]
    times, denials = 12, 0
    with ExitStack() as kept:
        for pair in staying:
            for one in pair:
                kept.enter_context(one)
        waiting = [bind(server) for _ in range(10)]
        for some in range(0, len(staying), 40):
            busy.start(passing(staying[some : some + 40]))
        denied5 = kept.enter_context(datagramSocket("127.0.0.5"))
        clients = []
        for _ in range(10):
            target = kept.enter_context(datagramSocket())
            clients.append(kept.enter_context(Association(server)))
            busy.start(serving(clients[-1], target))
        stop = busy.stop
        kept.callback(stop)
        for _ in range(times):
            denied = [tunnelTo(server, "127.0.0.5") for _ in range(10)]
            denied += [bindTo(server, "127.0.0.5") for _ in range(3)]
            associated = [bobs(server) for _ in range(3)]
            quiet = kept.enter_context(Association(server))
            source = quiet.assertServed(denied5)
            rules.become(DENY_ALL_5)
            quiet.send(b"no", denied5.getsockname())
            denied5.sendto(b"no", source)
            for pair in denied:
                assertEnded(*pair)
            for association in associated:
                assertEnded(association.control)
                association.socket.close()
            denials += len(denied) + len(associated)
            for text in WRONG:
                path.write_text(text)
                server.process.send_signal(signal.SIGHUP)
                server.defects += 1
                server.waitForLog(
                    "the old configuration stays in force", server.defects
                )
            with server.connect() as client:
                client.sendall(GREET + connectTo(1, "127.0.0.5"))
                assert readAll(client) == b"\x05\x00" + failure(2)
            rules.become(ALLOW)
            quiet.assertServed(denied5)
        stop()
        assert not busy.harmed
        assert busy.rounds > 50
        for client, bound in waiting:
            with client, come(bound) as peer:
                assertTunnel(client, peer)
        assert server.output().count("revised: ") == denials


def bobs(server: Server) -> Association:
    """
    An association of a user, that its client keeps.
    """
    control = server.connect()
    control.sendall(b"\x05\x01\x02\x01\x03bob\x07builder")
    assert readExactly(control, 4) == b"\x05\x02\x01\x00"
    return Association(server, control, isGreeted=True)


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

    def __init__(self, policy: Any = None) -> None:
        self.policy = policy or Slow()
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


@implementer(IConnectPolicy)
class Stubborn:
    """
    A policy that, when nobody waits any more, says yes all the same.
    """

    async def decide(self, request: IRequest) -> Decision:
        try:
            await Deferred()
        except CancelledError:
            pass
        return Decision.allow()

    def checkAddress(self, request: IRequest, address: Address) -> Decision:
        return Decision.allow()


def test_anAnswerThatNobodyWaitsFor() -> None:
    """
    A session that is over is not begun by it, and a deadline that has passed is not
    kept by it.
    """
    served = Served(Stubborn())
    served.protocol.connectionLost(connectionDone)
    assert served.state is State.ENDED
    assert served.factory.reactor.getDelayedCalls() == []
    late = Served(Stubborn())
    with capturedLogs() as events:
        late.factory.reactor.advance(10)
    assert late.transport.value() == b"\x05\x00" + failure(2)
    assert "no answer within 10 s" in formatEvent(events[0])
    late.factory.reactor.advance(1)


def test_anAccountThatNobodyWaitsFor() -> None:
    """
    Neither does one who was asked whether there is an account still.
    """
    served = Served()
    served.factory.authenticators[0] = Forgetful()
    served.factory.reviseSessions()
    served.policy.questions.pop().callback(Decision.allow())
    served.protocol.connectionLost(connectionDone)
    assert served.state is State.ENDED
    assert served.policy.questions == []


@implementer(IAccountAuthenticator)
class Forgetful(NoAuthentication):
    """
    Does not heed that nobody waits any more.
    """

    def hasAccount(self, identity: Identity) -> Any:
        return Deferred(lambda it: it.callback(True))


@pytest.mark.parametrize("way", ["decide", "checkAddress"])
@pytest.mark.parametrize("isOver", [True, False])
@pytest.mark.parametrize("route", ["direct", "proxy"])
@inReactor
async def test_associationThatEndsMeanwhile(
    place: Place, route: str, isOver: bool, way: str
) -> None:
    """
    Nothing is asked any more for a session that is over, nothing of it is left, and
    nobody waits for that; nor is it asked on when it is to be asked anew.
    """
    policy = SlowThen(way)
    options: dict[str, Any] = {}
    if route == "proxy":
        second: Any = await place.proxy()
        options["route"] = ThroughProxy(place.reactor, place.to(second.port))
    factory: Any = await place.proxy(policy=policy, **options)
    endpoint = SOCKS5DatagramEndpoint(place.reactor, place.to(factory.port))
    port = await endpoint.listen(DatagramProtocol())
    (session,) = factory.registry
    for number in (7, 9):
        port.write(b"hello", ("127.0.0.1", number))
    await place.until(lambda: session.traffic.datagramsUp == 2)
    policy.isSlow = True
    with capturedLogs() as events:
        revised = factory.reviseSessions()
        assert len(policy.questions) == 1
        if isOver:
            await port.stopListening()
            await place.until(lambda: not len(factory.registry))
        else:
            policy.isSlow = False
            await factory.reviseSessions()
        await place.until(lambda: revised.called, 5)
    assert len(policy.questions) == 1
    assert policy.cancelled == 1
    assert [one for one in events if one["log_level"] >= LogLevel.warn] == []
    if not isOver:
        assert session.state is State.RUNNING
        await port.stopListening()
        await place.until(lambda: not len(factory.registry))
    if route == "proxy":
        await place.until(lambda: not len(second.registry))


class SlowThen(Guard):
    """
    A policy that answers at once, until the test says otherwise.
    """

    isSlow = False

    def __init__(self, way: str) -> None:
        Guard.__init__(self)
        self.way = way
        self.questions: list[Deferred[Decision]] = []
        self.cancelled = 0

    def _answer(self, way: str) -> Any:
        if not self.isSlow or way != self.way:
            return Decision.allow()
        self.questions.append(Deferred(self._cancel))
        return self.questions[-1]

    def _cancel(self, question: object) -> None:
        self.cancelled += 1

    def decide(self, request: Any) -> Any:
        return self._answer("decide")

    def checkAddress(self, request: Any, address: Any) -> Any:
        return self._answer("checkAddress")


@inReactor
async def test_aNameThatIsLookedUpTooLate(place: Place) -> None:
    """
    No port is opened for an association that is over.
    """
    found: Deferred[Address] = Deferred()
    ways = DirectDatagrams(place.reactor, lambda _: found, Guard, None, "any")  # type: ignore[arg-type]  # nothing is judged again
    receiver: Any = object()
    ways.start(receiver)
    asked = Deferred.fromCoroutine(ways.sender(Address("example.org.", 7)))
    ways.close()
    found.callback(Address(ip_address("127.0.0.1"), 7))
    with pytest.raises(GeneralFailure, match="the association is over"):
        await asked
    assert list(ways.ports) == []
