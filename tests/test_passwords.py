# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Hashed passwords: the checker, its file, and the command that writes it.
"""

from __future__ import annotations

import gc
import os
import pty
import socket
import stat
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec
from unittest.mock import ANY

import pytest
from pytest_twisted import ensureDeferred
from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.cred.strcred import makeChecker
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import implementer

from tests.conftest import twistdIn
from tests.conversation import readAll, readExactly
from tests.test_start import refused
from twisted_socks5.passwords import checker as checkerModule
from twisted_socks5.passwords.accountfile import changeAccount, parseAccounts
from twisted_socks5.passwords.checker import HashedPasswordChecker
from twisted_socks5.passwords.hashes import isRight, kindOf, newHash

if TYPE_CHECKING:
    from tests.conftest import Server

KINDS = ["argon2id", "bcrypt"]
Arguments = ParamSpec("Arguments")


def awaited(
    test: Callable[Arguments, Coroutine[Any, Any, None]],
) -> Callable[Arguments, None]:
    """
    A test that is awaited on the running reactor.
    """
    waited: Callable[Arguments, None] = ensureDeferred(test)
    return waited


@pytest.fixture(scope="module")
def hashes() -> dict[str, str]:
    """
    Hashes of C{wonderland} and C{builder}.
    """
    import argon2
    import bcrypt

    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    return {
        "alice": cheap.hash(b"wonderland"),
        "bob": bcrypt.hashpw(b"builder", bcrypt.gensalt(4)).decode(),
    }


@pytest.fixture
def users(tmp_path: Path, hashes: dict[str, str]) -> Path:
    path = tmp_path / "users"
    path.touch(0o600)
    path.write_text("".join(f"{name}:{text}\n" for name, text in hashes.items()))
    return path


class Reactor:
    """
    The running one, with a time of the test's.
    """

    now = 1000.0

    def seconds(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class Work:
    """
    Stands for the comparison, and takes down what it was asked.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, bytes]] = []
        self.threads: set[int] = set()
        self.atOnce = self.most = 0
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Semaphore(0)
        self.lock = threading.Lock()
        monkeypatch.setattr(checkerModule, "isRight", self)

    def __call__(self, stored: str, password: bytes) -> bool:
        with self.lock:
            self.asked.append((stored, password))
            self.threads.add(threading.get_ident())
            self.atOnce += 1
            self.most = max(self.most, self.atOnce)
        self.begun.release()
        assert self.go.wait(30)
        with self.lock:
            self.atOnce -= 1
        return isRight(stored, password)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


@pytest.fixture
def logged(request: pytest.FixtureRequest) -> list[str]:
    """
    What is logged as a warning or worse.
    """
    lines: list[str] = []

    @implementer(ILogObserver)
    def observe(event: Any) -> None:
        if event["log_level"].name in ("warn", "error", "critical"):
            lines.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    request.addfinalizer(lambda: globalLogPublisher.removeObserver(observe))
    return lines


async def letsIn(checker: Any, name: Any, password: Any) -> bool:
    try:
        answer = await checker.requestAvatarId(UsernamePassword(name, password))
    except UnauthorizedLogin:
        return False
    assert answer == name
    return True


# -- comparing ------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_hash(kind: str) -> None:
    """
    Each has a salt of its own, and only the one password fits.
    """
    password = b"p\xc3\xa4ss:\xff"
    one, other = newHash(password, kind), newHash(password, kind)
    assert one != other
    assert isRight(one, password)
    assert not isRight(one, password + b"x")
    assert not isRight(one, b"")


@pytest.mark.parametrize(
    ("stored", "password"),
    [  # from the self-test of crypt_blowfish 1.3
        ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", b"U*U"),
        (
            "$2y$05$/OK.fbVrR/bpIqNJ5ianF.CE5elHaaO4EbggVDjb8P19RukzXSM3e",
            b"\xff\xff\xa3",
        ),
    ],
)
def test_hashOfOthers(stored: str, password: bytes) -> None:
    assert isRight(stored, password)
    assert not isRight(stored, b"another")


@pytest.mark.parametrize(
    "stored",
    [
        *(f"$2b${cost}${'a' * 53}" for cost in ["00", "03", "32", "99"]),
        f"$2b$10${'a' * 52}",
        "$argon2id$v=19$m=1,t=0,p=0$a$b",
        *(
            f"$argon2id${parameters}${'a' * 22}${'b' * 43}"
            for parameters in [
                "v=18$m=65536,t=3,p=4",
                "v=19$m=31,t=3,p=4",
                "v=19$m=65536,t=0,p=4",
                "v=19$m=65536,t=3,p=0",
                "v=19$m=99999999,t=3,p=4",
            ]
        ),
    ],
)
def test_hashThatCannotBeUsed(stored: str) -> None:
    """
    It is told when the file is read, not at a login.
    """
    with pytest.raises(ValueError, match="argon2id"):
        kindOf(stored)


def test_longPasswords() -> None:
    """
    bcrypt sees 72 bytes, so no hash is made of more; htpasswd makes one.
    """
    with pytest.raises(ValueError, match="at most 72"):
        newHash(b"x" * 73, "bcrypt")
    assert isRight(newHash(b"x" * 72, "bcrypt"), b"x" * 255)
    assert not isRight(newHash(b"x" * 255), b"x" * 254)


@awaited
async def test_checker(users: Path) -> None:
    checker = HashedPasswordChecker(reactor, str(users))
    for _ in range(2):
        assert await letsIn(checker, b"alice", b"wonderland")
        assert await letsIn(checker, b"bob", b"builder")
        assert await letsIn(checker, "bob", "builder")
        for name, password in [
            (b"alice", b"builder"),
            (b"alice", b""),
            (b"bob", b"builder\x00"),
            (b"nobody", b"wonderland"),
            (b"nobody", b"builder"),
            (b"", b""),
            (b"alice:", b"wonderland"),
        ]:
            assert not await letsIn(checker, name, password)


@awaited
async def test_unknownNameIsAsMuchWork(users: Path, work: Work) -> None:
    """
    It is compared with the hash of an account, always the same.
    """
    checker = HashedPasswordChecker(reactor, str(users))
    names = [f"nobody{number}".encode() for number in range(30)]
    for name in [*names, *names]:
        assert not await letsIn(checker, name, b"wonderland")
    asked = [stored for stored, _ in work.asked]
    assert len(asked) == 60
    assert asked[:30] == asked[30:]
    assert len(set(asked)) == 2  # either account stands for some


@awaited
async def test_threads(users: Path, work: Work) -> None:
    """
    The reactor's thread does none of the work, and a few others do it all.
    """
    checker = HashedPasswordChecker(reactor, str(users), remember=0, threads=3)
    work.go.clear()
    answers = [
        Deferred.fromCoroutine(letsIn(checker, b"alice", b"x")) for _ in "123456"
    ]
    for _ in range(3):
        assert work.begun.acquire(timeout=30)
    assert not work.begun.acquire(timeout=0.2)  # nor does a fourth begin
    work.go.set()
    assert await gatherResults(answers) == [False] * 6
    assert work.most == 3
    assert threading.get_ident() not in work.threads


@awaited
async def test_nobodyWaitsAnyMore(users: Path, work: Work) -> None:
    """
    What was not begun is not done; what was, keeps its thread until the end.
    """
    checker = HashedPasswordChecker(reactor, str(users), threads=1)
    work.go.clear()
    waiting = [
        checker.requestAvatarId(UsernamePassword(b"alice", password))
        for password in (b"begun", b"left", b"left", b"stays")
    ]
    assert work.begun.acquire(timeout=30)
    for gone in waiting[:3]:
        gone.addErrback(lambda failure: None)
        gone.cancel()
    assert not work.begun.acquire(timeout=0.2)
    work.go.set()
    with pytest.raises(UnauthorizedLogin):
        await waiting[3]
    assert [password for _, password in work.asked] == [b"begun", b"stays"]
    assert work.most == 1


# -- remembering ------------------------------------------------------------------


@awaited
async def test_remembered(users: Path, work: Work, hashes: dict[str, str]) -> None:
    clock = Reactor()
    checker = HashedPasswordChecker(clock, str(users), remember=60)
    assert await letsIn(checker, b"alice", b"wonderland")
    clock.now += 59
    assert await letsIn(checker, b"alice", b"wonderland")
    assert len(work.asked) == 1
    assert not await letsIn(checker, b"alice", b"other")
    assert not await letsIn(checker, b"bob", b"wonderland")
    assert not await letsIn(checker, b"alicewonder", b"land")
    assert len(work.asked) == 4
    clock.now += 1  # not later than 60 seconds after the work
    assert await letsIn(checker, b"alice", b"wonderland")
    assert len(work.asked) == 5
    changeAccount(str(users), b"alice", hashes["bob"])
    assert not await letsIn(checker, b"alice", b"wonderland")
    assert await letsIn(checker, b"alice", b"builder")


@awaited
async def test_notRemembered(users: Path, work: Work) -> None:
    checker = HashedPasswordChecker(reactor, str(users), remember=0)
    for _ in range(2):
        assert await letsIn(checker, b"alice", b"wonderland")
    assert len(work.asked) == 2


@awaited
async def test_wrongIsNotRemembered(users: Path, work: Work) -> None:
    checker = HashedPasswordChecker(reactor, str(users))
    for name in (b"alice", b"nobody"):
        for password in (b"wrong", b"wonderland" if name == b"nobody" else b"wrong"):
            assert not await letsIn(checker, name, password)
    assert len(work.asked) == 4


@awaited
async def test_noClearTextIsKept(users: Path) -> None:
    checker = HashedPasswordChecker(reactor, str(users))
    password = os.urandom(8).hex().encode()
    changeAccount(str(users), b"carol", newHash(password))
    assert await letsIn(checker, b"carol", password)
    seen: dict[int, object] = {}
    found: list[Any] = [checker]
    while found:
        one = found.pop()
        if id(one) in seen or not isinstance(one, HOLDERS) and not _isOurs(one):
            continue
        seen[id(one)] = one
        found += gc.get_referents(one)
    assert b"alice" in seen.values()
    texts = [one for one in seen.values() if isinstance(one, bytes | str)]
    assert not [text for text in texts if password in os.fsencode(text)]


HOLDERS = (bytes, str, dict, list, tuple, set, deque)


def _isOurs(one: object) -> bool:
    return type(one).__module__.startswith(
        ("twisted_socks5.", "twisted.python.thread", "twisted._threads")
    )


# -- the file -------------------------------------------------------------------


@awaited
async def test_fileChanges(users: Path, logged: list[str]) -> None:
    checker = HashedPasswordChecker(reactor, str(users))
    assert await letsIn(checker, b"alice", b"wonderland")
    original = users.read_text()
    changeAccount(str(users), b"alice", None)
    assert not await letsIn(checker, b"alice", b"wonderland")
    assert await letsIn(checker, b"bob", b"builder")
    assert logged == []
    users.write_text(original + "carol:secret\nnothing\nbob:$2y$nonsense\n")
    assert await letsIn(checker, b"alice", b"wonderland")
    assert not await letsIn(checker, b"carol", b"secret")
    assert not await letsIn(checker, b"bob", b"builder")  # which line is meant?
    (line,) = logged
    for number in (3, 4, 5):
        assert f"line {number}: " in line
    assert "secret" not in line
    users.unlink()
    assert not await letsIn(checker, b"alice", b"wonderland")
    assert not await letsIn(checker, b"alice", b"wonderland")
    assert len(logged) == 2
    assert "No such file" in logged[1]
    users.touch(0o600)
    users.write_text(original)
    assert await letsIn(checker, b"alice", b"wonderland")
    assert len(logged) == 2


def test_lines(hashes: dict[str, str]) -> None:
    content = (
        f"# users\n\nalice:{hashes['alice']}\r\n  \nb\xf6b:{hashes['bob']}  \n"
        f"#x:{hashes['bob']}\n"
    ).encode("latin-1")
    accounts = parseAccounts(content)
    assert accounts.hashes == {b"alice": hashes["alice"], b"b\xf6b": hashes["bob"]}
    assert accounts.problems == ()
    assert hashes["alice"] not in repr(accounts)


@pytest.mark.parametrize(
    "line",
    [
        "carol",
        "carol:",
        ":HASH",
        "carol:wonderland",
        "carol:HASH:x",
        "carol: HASH",
        "carol:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
        "carol:$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$AAAA",
        "carol:$2y$10$short",
        "alice:HASH",
    ],
)
def test_brokenLine(users: Path, hashes: dict[str, str], line: str) -> None:
    """
    It is told by its number, and nothing starts.
    """
    with open(users, "a") as file:
        file.write(line.replace("HASH", hashes["bob"]) + "\n")
    with pytest.raises(ValueError, match=r"users: line 3: ") as caught:
        HashedPasswordChecker(reactor, str(users))
    assert "wonderland" not in str(caught.value)
    assert "$" not in str(caught.value)
    line = refused("--port", "0", "--auth", f"hashed:{users}")
    assert f"--auth hashed: {users}: line 3: " in line


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("", "--auth hashed: expected FILE[:remember="),
        (":remember=1", "--auth hashed: expected FILE[:remember="),
        ("/nonexistent", "/nonexistent: No such file"),
        ("USERS:remember=soon", "remember=soon: expected seconds"),
        ("USERS:remember=-1", "remember=-1: expected seconds"),
        ("USERS:remember=inf", "remember=inf: expected seconds"),
        ("USERS:remember=1_0", "remember=1_0: expected seconds"),
        ("USERS:threads=0", "threads=0: expected a number from 1 to 256"),
        ("USERS:threads=99999999999", "threads=99999999999: expected a number"),
        ("USERS:threads=257", "threads=257: expected a number"),
        ("USERS:thread=1", "'thread'"),
        ("USERS:1", "not USERS, 1"),
    ],
)
def test_wrongArgument(users: Path, argument: str, words: str) -> None:
    line = refused("--auth", "hashed:" + argument.replace("USERS", str(users)))
    assert words.replace("USERS", str(users)) in line


@pytest.mark.parametrize(
    ("mode", "words"),
    [(0o600, None), (0o640, None), (0o644, "read"), (0o606, "change")],
)
@pytest.mark.parametrize("kind", ["hashed", "file"])
def test_mode(
    start: Callable[..., Server], users: Path, mode: int, words: str | None, kind: str
) -> None:
    users.chmod(mode)
    output = start("--auth", f"{kind}:{users}").output()
    assert output.count("other users of this host") == (words is not None)
    assert words is None or f"other users of this host can {words} {users}" in output


def test_noAccounts(start: Callable[..., Server], tmp_path: Path) -> None:
    """
    Nobody is let in, not everybody.
    """
    users = tmp_path / "users"
    users.touch(0o600)
    server = start("--auth", f"hashed:{users}")
    server.waitForLog("has no accounts: nobody is let in")
    assert logIn(server, b"alice", b"wonderland") == b"\x05\x02\x01\x01"
    with server.connect() as client:
        client.sendall(b"\x05\x01\x00")
        assert readAll(client) == b"\x05\xff"


def logIn(server: Server, name: bytes, password: bytes) -> bytes:
    with server.connect() as client:
        client.sendall(b"\x05\x01\x02\x01" + bytes((len(name),)) + name)
        client.sendall(bytes((len(password),)) + password)
        return readExactly(client, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_accountsOfARunningServer(
    start: Callable[..., Server], users: Path, kind: str
) -> None:
    server = start("--auth", f"hashed:{users}")
    assert logIn(server, b"carol", b"song") == b"\x05\x02\x01\x01"
    assert (
        passwd(users, "carol", "--kind", kind, given=b"song\n") == "carol was added\n"
    )
    assert logIn(server, b"carol", b"song") == b"\x05\x02\x01\x00"
    assert "new password" in passwd(users, "carol", given=b"carol's\n")
    assert logIn(server, b"carol", b"song") == b"\x05\x02\x01\x01"
    assert logIn(server, b"carol", b"carol's") == b"\x05\x02\x01\x00"
    assert "was removed" in passwd(users, "carol", "--delete")
    assert logIn(server, b"carol", b"carol's") == b"\x05\x02\x01\x01"
    assert logIn(server, b"alice", b"wonderland") == b"\x05\x02\x01\x00"
    for secret in ("song", "carol's", "wonderland", "$"):
        assert secret not in server.output()


@pytest.mark.parametrize("kind", ["hashed", "file"])
def test_otherFolder(
    start: Callable[..., Server],
    users: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    """
    A relative path is from where the command line was given.
    """
    if kind == "file":
        users.write_text("alice:wonderland\n")
    monkeypatch.chdir(users.parent)
    (users.parent / "elsewhere").mkdir()
    command = twistdIn(users.parent / "elsewhere")
    server = start("--auth", f"{kind}:users", command=command, started="SOCKS5 at")
    assert logIn(server, b"alice", b"wonderland") == b"\x05\x02\x01\x00"
    assert logIn(server, b"alice", b"builder") == b"\x05\x02\x01\x01"


def test_fileThatBreaks(start: Callable[..., Server], users: Path) -> None:
    server = start("--auth", f"hashed:{users}")
    users.write_text("alice:wonderland\n")
    for _ in range(2):
        assert logIn(server, b"alice", b"wonderland") == b"\x05\x02\x01\x01"
    server.waitForLog(f"{users}: line 1: ", 1)
    assert server.output().count(f"{users}: line 1: ") == 1
    server.defects = 1


@implementer(IRealm)
class Realm:
    """
    Of another server.
    """

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        return interfaces[0], avatarId, lambda: None


@awaited
async def test_otherServers(users: Path) -> None:
    """
    C{strcred}, by which any server of Twisted's finds its checkers, knows it.
    """
    portal = Portal(Realm(), [makeChecker(f"hashed:{users}:remember=0")])
    good = UsernamePassword(b"alice", b"wonderland")
    assert await portal.login(good, None, IRealm) == (IRealm, b"alice", ANY)
    with pytest.raises(UnauthorizedLogin):
        await portal.login(UsernamePassword(b"alice", b"builder"), None, IRealm)


def test_help() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "twisted", "socks5", "--help-auth-type", "hashed"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "FILE[:remember=SECONDS][:threads=N]" in told.stdout


# -- the command ----------------------------------------------------------------


def passwd(users: Path, *arguments: str, given: bytes | None = None) -> str:
    """
    Run it, without a terminal.
    """
    done = subprocess.run(
        [sys.executable, "-m", "twisted_socks5.passwords", str(users), *arguments]
        + ([] if given is None else ["--stdin"]),
        input=given,
        capture_output=True,
    )
    assert done.stderr == b""
    assert done.returncode == 0
    return done.stdout.decode()


def typed(users: Path, *lines: bytes) -> tuple[int, bytes]:
    """
    Run it at a terminal, and type a line whenever it asks for one.
    """
    child, terminal = pty.fork()
    if child == 0:
        command = [
            sys.executable,
            "-m",
            "twisted_socks5.passwords",
            str(users),
            "alice",
        ]
        os.execv(sys.executable, command)
    shown = b""
    left = list(lines)
    while True:
        try:
            shown += os.read(terminal, 1000)
        except OSError:  # it has ended
            break
        if shown.endswith(b": ") and left:
            os.write(terminal, left.pop(0))
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown


def test_noEcho(tmp_path: Path) -> None:
    users = tmp_path / "users"
    status, shown = typed(users, b"rabbit\n", b"rabbit\n")
    assert status == 0
    assert b"Password for alice: " in shown
    assert b"The same again: " in shown
    assert shown.endswith(b"alice was added\r\n")
    assert b"rabbit" not in shown
    assert stat.S_IMODE(users.stat().st_mode) == 0o600
    stored = parseAccounts(users.read_bytes()).hashes[b"alice"]
    assert stored.startswith("$argon2id$")
    assert isRight(stored, b"rabbit")


def test_mistyped(users: Path) -> None:
    before = users.read_bytes()
    status, shown = typed(users, b"rabbit\n", b"hare\n")
    assert status == 1
    assert b"not the same" in shown
    assert users.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "given", "words"),
    [
        (["USERS", "nobody", "--delete"], b"", "no account of this name"),
        (["/nonexistent/users", "alice", "--stdin"], b"x\n", "No such file"),
        (["/nonexistent", "alice", "--delete"], b"", "No such file"),
        (["USERS", "a:b", "--stdin"], b"x\n", "no colon"),
        (["USERS", "", "--stdin"], b"x\n", "1 to 255 bytes"),
        (["USERS", "#a", "--stdin"], b"x\n", "neither a #"),
        (["USERS", "a\nb", "--stdin"], b"x\n", "no control character"),
        (["USERS", "alice", "--stdin"], b"", "1 to 255 bytes"),
        (["USERS", "alice", "--stdin"], b"x" * 256, "1 to 255 bytes"),
        (["USERS", "alice", "--stdin", "--kind=bcrypt"], b"x" * 73, "at most 72"),
    ],
)
def test_commandFails(
    users: Path, arguments: list[str], given: bytes, words: str
) -> None:
    before = users.read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "twisted_socks5.passwords"]
        + [argument.replace("USERS", str(users)) for argument in arguments],
        input=given,
        capture_output=True,
    )
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("socks5-passwd: ")
    assert words in line
    assert users.read_bytes() == before


@pytest.mark.parametrize("arguments", [["--stdin"], ["--delete"]])
@pytest.mark.parametrize("kind", ["pipe", "socket", "folder"])
def test_noRegularFile(tmp_path: Path, kind: str, arguments: list[str]) -> None:
    """
    What is none is not replaced by one, nor by way of a link.
    """
    place = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(place))
    before = place.lstat()
    link = tmp_path / "link"
    link.symlink_to(place)
    for path in (place, link):
        done = subprocess.run(
            [sys.executable, "-m", "twisted_socks5.passwords"]
            + [str(path), "alice", *arguments],
            input=b"x\n",
            capture_output=True,
            timeout=30,
        )
        assert done.returncode == 1
        (line,) = done.stderr.decode().splitlines()
        assert line == f"socks5-passwd: {place}: this is no regular file"
    assert (place.lstat().st_mode, place.lstat().st_ino) == (
        before.st_mode,
        before.st_ino,
    )
    assert {one.name for one in tmp_path.iterdir()} == {kind, "link"}


def test_restOfTheFileStays(users: Path, hashes: dict[str, str]) -> None:
    """
    Comments, order, mode, and whoever else is there.
    """
    users.write_text(f"# ours\nalice:old\nbob:{hashes['bob']}\n\nalice:older")
    users.chmod(0o640)
    link = users.parent / "link"
    link.symlink_to(users)
    assert changeAccount(str(link), b"alice", hashes["alice"])
    assert link.is_symlink()
    assert users.read_text() == (
        f"# ours\nalice:{hashes['alice']}\nbob:{hashes['bob']}\n\n"
    )
    assert stat.S_IMODE(users.stat().st_mode) == 0o640
    assert {path.name for path in users.parent.iterdir()} == {"users", "link"}


def test_withoutTheLibraries(
    users: Path, hashes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What is missing is told, and where to get it.
    """
    from twisted_socks5.passwords import hashes as module

    monkeypatch.setattr(module, "_isInstalled", lambda name: name != "bcrypt")
    with pytest.raises(ValueError, match=r"line 2: bcrypt needs bcrypt, .*\[hashed\]"):
        HashedPasswordChecker(reactor, str(users))
    with pytest.raises(ValueError, match="not installed"):
        newHash(b"x", "bcrypt")
