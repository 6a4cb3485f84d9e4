# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Configuration, accounts and certificates that change while a server runs.
"""

from __future__ import annotations

import signal
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bcrypt
import pytest
from twisted.cred.checkers import (
    FilePasswordDB,
    ICredentialsChecker,
    InMemoryUsernamePasswordDatabaseDontUse,
)
from twisted.internet import defer
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.certificates import selfSigned
from tests.conversation import (
    GREET,
    LOGIN,
    connectTo,
    failure,
    readAll,
    readExactly,
    tunnel,
)
from tests.test_revising import assertEnded, assertPasses
from twisted_socks5 import (
    Identity,
    NoAuthentication,
    UsernamePasswordAuthenticator,
)
from twisted_socks5.authenticators.certificate import CertificateAuthenticator
from twisted_socks5.interfaces import IAccountAuthenticator, IChangingAccounts
from twisted_socks5.passwords.checker import HashedPasswordChecker
from twisted_socks5.service.configuration import Configuration
from twisted_socks5.service.options import SOCKS5Options
from twisted_socks5.service.reload import Reload

if TYPE_CHECKING:
    from tests.conftest import Server

    Start = Callable[..., Server]

LOADED = "the configuration was loaded"
KEPT = "the old configuration stays in force"
LET_IN = b"\x05\x02\x01\x00"
DONE = b"\x05\x00\x00\x01"


class Configured:
    """
    A server with a configuration file.
    """

    def __init__(self, start: Start, folder: Path) -> None:
        self._start = start
        self.folder = folder
        self.path = folder / "server.toml"
        self.server: Server

    def start(self, text: str, *arguments: str) -> Server:
        """
        Have it begin with a configuration.
        """
        self.write(text)
        self.server = self._start("--config", str(self.path), *arguments, port=())
        return self.server

    def write(self, text: str) -> None:
        """
        Change the file.
        """
        self.path.write_text(text)
        self.path.chmod(0o600)

    def become(self, text: str, says: str = LOADED) -> None:
        """
        Change the file, and wait until it was read.
        """
        self.write(text)
        self.reload(says)

    def reload(self, says: str = LOADED) -> None:
        """
        Have the file read again.
        """
        times = self.server.output().count(says)
        self.server.process.send_signal(signal.SIGHUP)
        self.server.waitForLog(says, times + 1)


@pytest.fixture
def configured(start: Start, tmp_path: Path) -> Configured:
    return Configured(start, tmp_path)


def login(server: Server, listener: socket.socket, sent: bytes = LOGIN) -> Any:
    """
    A client that is let in, and its destination.
    """
    client = server.connect()
    client.sendall(sent + connectTo(listener.getsockname()[1]))
    assert readExactly(client, 14)[:8] == LET_IN + DONE
    destination, _ = listener.accept()
    destination.settimeout(10)
    return client, destination


def answer(server: Server, sent: bytes) -> bytes:
    """
    All that a client is told.
    """
    with server.connect() as client:
        client.sendall(sent)
        return readAll(client)


def test_policyAndMethods(configured: Configured, listener: socket.socket) -> None:
    """
    They are others for who comes from now on; who is here is asked again.
    """
    server = configured.start("port = 0\nauth = 'memory:user:password'")
    stays, itsDestination = login(server, listener)
    assert answer(server, GREET) == b"\x05\xff"
    configured.become("port = 0\nauth = 'memory:user:password'\nauthenticator = 'none'")
    goes, itsOther = tunnel(server, listener)
    assertPasses(stays, itsDestination)
    configured.become("port = 0\nauth = 'memory:user:password'")
    assertEnded(goes, itsOther)
    server.waitForLog("revised: the method that let it in is gone")
    assertPasses(stays, itsDestination)
    configured.become(
        "port = 0\nauth = 'memory:user:password'\npolicy = 'guard:local=elsewhere'"
    )
    assertEnded(stays, itsDestination)
    server.waitForLog("revised: ", 2)
    request = connectTo(listener.getsockname()[1])
    assert answer(server, LOGIN + request) == LET_IN + failure(2)


@pytest.mark.parametrize(
    "wrong",
    [
        "port = 0\npolicy = 'nobody'",
        "port = 0\nrules = 'none.toml'",
        "port = 0\n[timeout]\nidle = 'x'",
        "port = 0\nauth = 'file:nobody'",
        "port = 0\nunknown = 1",
        "port = [0, 'tcp:0']",
        "port = [0, 'ssl:0:privateKey=none']",
        "no toml",
        "port = [0, {taken}]",
    ],
)
def test_wrongFile(configured: Configured, listener: socket.socket, wrong: str) -> None:
    """
    Nothing changes at all; there is one line about it.  (That nothing is left open is
    seen when the server is stopped.)
    """
    server = configured.start("port = 0\nauth = 'memory:user:password'")
    server.defects = 1  # that line
    stays, itsDestination = login(server, listener)
    configured.become(wrong.replace("{taken}", str(listener.getsockname()[1])), KEPT)
    assertPasses(stays, itsDestination)
    assert answer(server, GREET) == b"\x05\xff"
    lines = [line for line in server.output().splitlines() if KEPT in line]
    assert len(lines) == 1
    assert f"{configured.path}:" in lines[0] or "none.toml" in lines[0]
    assert server.output().count("SOCKS5 at") == 1
    stays.close()
    itsDestination.close()


def test_openByAccident(configured: Configured) -> None:
    """
    One that stays lets nobody in from elsewhere either who need not say who it is.
    """
    ports = "port = [0, 'tcp:0']\n"
    server = configured.start(ports + "auth = 'memory:user:password'")
    server.defects = 1
    configured.become(ports, KEPT)
    server.waitForLog("port tcp:0: anybody could use this proxy")
    assert answer(server, GREET) == b"\x05\xff"
    configured.become(ports + "open = true")


def test_fileThatIsGone(configured: Configured) -> None:
    server = configured.start("port = 0")
    server.defects = 1
    configured.path.unlink()
    configured.reload(KEPT)
    server.waitForLog(f"{KEPT}: {configured.path}: No such file")


def test_listeners(configured: Configured, listener: socket.socket) -> None:
    """
    New ones are opened, and those that are no longer named are closed; whoever has
    come by them stays.
    """
    own = "[[listener]]\nendpoint = 'tcp:0:interface=127.0.0.2'\n"
    server = configured.start("port = 0")
    configured.become("port = 0\n" + own)
    place = server.address("tcp:0:interface=127.0.0.2")
    client = socket.create_connection(place, 10)
    client.settimeout(10)
    tunnelled = tunnel(server, listener, client)
    refused = answer(server, GREET + connectTo(place[1], place[0]))
    assert refused == b"\x05\x00" + failure(2)
    configured.become("port = 0\n" + own + "policy = 'guard:local=elsewhere'\n")
    assertEnded(*tunnelled)
    client = socket.create_connection(place, 10)
    client.settimeout(10)
    client.sendall(GREET + connectTo(listener.getsockname()[1]))
    assert readAll(client) == b"\x05\x00" + failure(2)
    client.close()

    configured.become("port = 0\n" + own)
    client = socket.create_connection(place, 10)
    client.settimeout(10)
    stays = tunnel(server, listener, client)
    configured.become("port = 0")
    server.waitForLog("SOCKS5 no more at 127.0.0.2")
    server.waitUntil(lambda: not isListening(place))
    assertPasses(*stays)
    configured.become("port = 0\npolicy = 'guard:local=elsewhere'")
    assertEnded(*stays)


def isListening(place: tuple[str, int]) -> bool:
    try:
        socket.create_connection(place, 10).close()
    except ConnectionRefusedError:
        return False
    return True


def test_settings(configured: Configured) -> None:
    """
    Deadlines are others at once; what is read at the start only is told of.
    """
    server = configured.start("port = 0\n[timeout]\nhandshake = 300\n")
    configured.become(
        "port = 0\naccess-log = 'json'\n[timeout]\nhandshake = 0.2\n[limit]\nsessions=1\n"
        "[log]\nsample = 7"
    )
    with server.connect() as client:
        assert client.recv(1) == b""
    told = "changed since the start, which takes hold at the next start: "
    server.waitForLog(told + "access-log, log.sample\n")
    configured.reload()  # they still wait
    server.waitForLog(told + "access-log, log.sample\n", 2)
    configured.become("port = 0\nmetrics = 0")
    server.waitForLog(told + "metrics\n")
    configured.become("port = 0")
    configured.reload()
    assert server.output().count("at the next start") == 3


def test_commandLineStays(configured: Configured) -> None:
    server = configured.start("port = 0", "--set", "timeout.handshake=0.2")
    configured.become("port = 0\n[timeout]\nhandshake = 300")
    with server.connect() as client:
        assert client.recv(1) == b""


# -- accounts --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "hashed"])
def test_accountIsGone(
    configured: Configured, listener: socket.socket, kind: str
) -> None:
    """
    Nobody logs in with it any more, and who has is ended; others stay.  Whose password
    has changed is ended where that can be told.
    """
    users = configured.folder / "users"

    def write(*accounts: str) -> None:
        users.write_text("".join(f"{account}\n" for account in accounts))
        users.chmod(0o600)

    user, other, changed = accountsOf(kind)
    write(user, other)
    server = configured.start(f"port = 0\nauth = '{kind}:users'")
    otherLogin = LOGIN.replace(b"\x04user", b"\x05other")
    goes = login(server, listener)
    stays = login(server, listener, otherLogin)
    write(changed)
    configured.reload()
    assertEnded(*goes)
    ended = 1
    if kind == "hashed":
        assertEnded(*stays)
        ended = 2
    else:
        assertPasses(*stays)
    server.waitForLog("revised: the account is gone or has changed", ended)
    assert server.output().count("revised: the account is gone") == ended
    refused = b"\x05\x02\x01\x01"
    assert answer(server, LOGIN + connectTo(1)) == refused
    assert answer(server, otherLogin + connectTo(1)) == refused


@pytest.mark.parametrize("kind", ["file", "hashed"])
def test_accountsAreGone(configured: Configured, kind: str) -> None:
    """
    The file is read at each login, whatever the configuration is; so the log says that
    nobody gets in, until it is back.
    """
    users = configured.folder / "users"
    account, *_ = accountsOf(kind)
    users.write_text(account + "\n")
    users.chmod(0o600)
    server = configured.start(f"port = 0\nauth = '{kind}:users'")
    server.defects = 2  # what is asserted here, and the checker's own line
    users.rename(configured.folder / "away")
    configured.reload(KEPT)
    server.waitForLog(
        f"{KEPT}: {configured.path}:2: auth {kind}: {users}: No such file or directory; "
        "but accounts are read at each login: nobody gets in whom that file has not now"
    )
    assert answer(server, LOGIN + connectTo(1)) == b"\x05\x02\x01\x01"
    (configured.folder / "away").rename(users)
    configured.reload()
    with server.connect() as client:
        client.sendall(LOGIN)
        assert readExactly(client, 4) == LET_IN


def hashOf(password: bytes) -> str:
    return bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()


def accountsOf(kind: str) -> tuple[str, ...]:
    """
    Lines of a file: of a user, of another, and of the other with another password.
    """
    first, second = b"password", b"changed"
    if kind == "hashed":
        first, second = hashOf(first).encode(), hashOf(second).encode()
    return tuple(
        f"{name}:{stored.decode()}"
        for name, stored in (("user", first), ("other", first), ("other", second))
    )


def test_accountsAsTheyAre(tmp_path: Path) -> None:
    """
    Each kind of checker tells; where one cannot tell, accounts are there.
    """
    path = tmp_path / "users"
    path.write_bytes(b"user:password\n")
    hashed = tmp_path / "hashed"
    hashed.write_text(f"user:{hashOf(b'password')}\n")
    user, other = (Identity(name, name.encode(), method=2) for name in ("user", "x"))
    tells: list[ICredentialsChecker] = [
        FilePasswordDB(str(path)),
        InMemoryUsernamePasswordDatabaseDontUse(user=b"password"),
        HashedPasswordChecker(Clock(), str(hashed)),
    ]
    for checker in tells:
        for checkers in ([checker], [checker, *tells]):
            authenticator = UsernamePasswordAuthenticator.withCheckers(*checkers)
            assert IAccountAuthenticator.providedBy(authenticator)
            assert has(authenticator, user)
            assert not has(authenticator, other)
        authenticator = UsernamePasswordAuthenticator.withCheckers(checker, Silent())
        assert has(authenticator, other)
    path.unlink()
    authenticator = UsernamePasswordAuthenticator.withCheckers(tells[0])
    assert not has(authenticator, user)
    assert NoAuthentication().hasAccount(Identity())
    assert not NoAuthentication().hasAccount(user)
    assert CertificateAuthenticator().hasAccount(user)
    assert not CertificateAuthenticator().hasAccount(Identity())


def test_accountWhosePasswordHasChanged(tmp_path: Path) -> None:
    """
    Only who logged in with the old one is told apart, and nothing of it is shown.
    """
    path = tmp_path / "hashed"
    path.write_text(f"user:{hashOf(b'password')}\n")
    checker = HashedPasswordChecker(Clock(), str(path))
    verifyObject(IChangingAccounts, checker)
    authenticator = UsernamePasswordAuthenticator.withCheckers(checker)
    mark = checker.markOf(b"user")
    assert mark is not None
    assert checker.markOf(b"other") is None
    identity = Identity("user", b"user", (), 2, frozenset([mark]))
    assert identity == Identity("user", b"user", (), 2)
    assert repr(mark) not in repr(identity)
    assert "marks" not in repr(identity)
    assert has(authenticator, identity)
    again = HashedPasswordChecker(Clock(), str(path), threads=1)
    assert has(UsernamePasswordAuthenticator.withCheckers(again), identity)
    path.write_text(f"user:{hashOf(b'password')}\nother:{hashOf(b'x')}\n")
    assert not has(authenticator, identity)
    assert has(authenticator, Identity("user", b"user", (), 2))
    silent = UsernamePasswordAuthenticator.withCheckers(checker, Silent())
    assert has(silent, identity)


@implementer(ICredentialsChecker)
class Silent:
    """
    A checker that tells of nobody.
    """

    credentialInterfaces = ()

    def requestAvatarId(self, credentials: Any) -> Any:
        raise NotImplementedError


def has(authenticator: UsernamePasswordAuthenticator, identity: Identity) -> bool:
    outcome: list[bool] = []
    Deferred.fromCoroutine(authenticator.hasAccount(identity)).addCallback(
        outcome.append
    )
    return outcome[0]


def test_whileAuthenticating(configured: Configured, listener: socket.socket) -> None:
    """
    Who was let in a moment before, and asks for something after, is looked at too.
    """
    server = configured.start("port = 0")
    with server.connect() as client:
        client.sendall(GREET)
        assert readExactly(client, 2) == b"\x05\x00"
        configured.become("port = 0\nauth = 'memory:user:password'")
        client.sendall(connectTo(listener.getsockname()[1]))
        assert readAll(client) == failure(2)
    server.waitForLog("the method that let it in is gone")


# -- certificates ----------------------------------------------------------------------


def shown(place: tuple[str, int]) -> bytes:
    """
    The certificate that a listener shows.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(place, 10) as plain,
        context.wrap_socket(plain) as client,
    ):
        certificate = client.getpeercert(True)
        assert certificate is not None
        return certificate


@pytest.mark.parametrize(
    "endpoint",
    [
        "ssl:0:interface=127.0.0.1:privateKey=key.pem",
        "haproxy:ssl:0:interface=127.0.0.1:privateKey=key.pem",
        "mtls:0:interface=127.0.0.1:privateKey=key.pem:clientCA=key.pem"
        ":clients=optional",
    ],
)
def test_certificates(
    configured: Configured, listener: socket.socket, endpoint: str
) -> None:
    """
    They are read again for who comes from now on; a connection that is there keeps
    what it has.  If they cannot be used, nothing changes.
    """
    key = configured.folder / "key.pem"
    key.write_bytes(selfSigned())
    text = f"auth = 'memory:a:b'\nport = [0, '{endpoint}']\n"
    server = configured.start(text)
    place = server.address(endpoint)
    first = shown(place)
    assert shown(place) == first
    key.write_bytes(selfSigned())
    configured.reload()
    second = shown(place)
    assert second != first
    key.write_bytes(b"no key")
    server.defects = server.output().count("#error") + 1
    configured.reload(KEPT)
    server.waitForLog("port " + endpoint)
    if endpoint.startswith("ssl:"):
        assert shown(place) == second


# -- under load ------------------------------------------------------------------------


def test_underLoad(configured: Configured, listener: socket.socket) -> None:
    """
    While it reloads again and again, right and wrong configurations, nobody who
    connects is refused, and nothing of what sessions carry is lost.
    """
    listener.listen(1000)
    server = configured.start("port = 0\n[timeout]\nhandshake = 30")
    stays = tunnel(server, listener)
    served = [0, 0]
    problems: list[object] = []
    isOver = threading.Event()

    def work(number: int) -> None:
        request = GREET + connectTo(listener.getsockname()[1])
        try:
            while not isOver.is_set():
                with server.connect() as client:
                    client.sendall(request)
                    answered = readExactly(client, 12)
                    assert answered[:4] == b"\x05\x00\x05\x00", answered
                    served[number] += 1
        except BaseException as problem:
            problems.append(problem)

    def accept() -> None:
        while not isOver.is_set():
            listener.accept()[0].close()

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    threads.append(threading.Thread(target=accept, daemon=True))
    for thread in threads:
        thread.start()
    for turn in range(10):
        most = sum(served) + 20
        configured.become(
            f"port = 0\n[timeout]\nhandshake = {30 + turn}\n[[listener]]\n"
            f"endpoint = 'tcp:0:interface=127.0.0.{2 + turn}'\n"
        )
        configured.become("port = 0\nno such key", KEPT)
        assertPasses(*stays)
        server.waitUntil(partial(hasServed, served, most, problems))
    isOver.set()
    for thread in threads[:2]:
        thread.join(30)
    assert not problems
    server.defects = 10
    configured.become("port = 0")
    for one in stays:
        one.close()
    socket.create_connection(listener.getsockname(), 10).close()
    threads[2].join(30)


def hasServed(served: list[int], most: int, problems: list[object]) -> bool:
    """
    Whether more were served, or somebody was not.
    """
    return sum(served) > most or bool(problems)


# -- the seam --------------------------------------------------------------------------


class Seam:
    """
    What takes part in a reload.
    """

    def __init__(self) -> None:
        self.configurations: list[Configuration] = []
        self.committed = 0
        self.problem: Exception | None = None
        self.done: Deferred[None] = succeed(None)

    def prepare(self, configuration: Configuration) -> Callable[[], Deferred[None]]:
        if self.problem is not None:
            raise self.problem
        self.configurations.append(configuration)
        return self.commit

    def commit(self) -> Deferred[None]:
        self.committed += 1
        return self.done


def outcomeOf(reload: Reload) -> list[Any]:
    outcome: list[Any] = []
    reload.reload().addBoth(outcome.append)
    return outcome


def seams(configure: Callable[[], Configuration]) -> tuple[Reload, Seam, Seam]:
    reload, one, two = Reload(Clock(), configure), Seam(), Seam()
    reload.add(one.prepare)
    reload.add(two.prepare)
    return reload, one, two


def right() -> Configuration:
    options = SOCKS5Options()
    options.parseOptions([])
    return options.configuration


def test_allOrNothing() -> None:
    """
    Nobody commits before all have prepared.
    """
    reload, one, two = seams(right)
    two.problem = ValueError("no")
    (failed,) = outcomeOf(reload)
    assert failed.check(ValueError) and str(failed.value) == "no"
    assert len(one.configurations) == 1
    assert one.committed == two.committed == 0
    two.problem = None
    assert outcomeOf(reload) == [None]
    assert one.committed == two.committed == 1


def test_waitsForAll() -> None:
    reload, _, two = seams(right)
    two.done = Deferred()
    outcome = outcomeOf(reload)
    assert outcome == []
    two.done.callback(None)
    assert outcome == [None]


def test_theConfigurationIsWrong() -> None:
    def configure() -> Configuration:
        raise ValueError("a\nproblem")

    reload, one, _ = seams(configure)
    (failed,) = outcomeOf(reload)
    assert failed.check(ValueError)
    assert one.configurations == []


def test_whatBreaksIsLogged() -> None:
    """
    In preparing, nothing changes; afterwards, others are in force all the same.
    """
    reload, one, two = seams(right)
    two.problem = RuntimeError("broken")
    (failed,) = outcomeOf(reload)
    assert failed.check(RuntimeError)
    assert one.committed == 0
    two.problem = None
    one.done = defer.fail(RuntimeError("late"))
    with capturedLogs() as events:
        assert outcomeOf(reload) == [None]
    assert two.committed == 1
    told = [event["log_failure"].value for event in events if "log_failure" in event]
    assert [str(problem) for problem in told] == ["late"]
