# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Deadlines, starts that are refused, and accounts that cannot be read: started
servers, looked at from outside.

That a deadline is kept is not seen from its end alone: it must not come before
its time, nor by another deadline.  So here, and only here, time is measured; how
much later than due an end may come is meant for a machine under load.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.association import Association, datagramSocket
from tests.conversation import (
    GREET,
    LOGIN,
    assertServes,
    connectTo,
    connectToName,
    failure,
    readAll,
    readExactly,
    readReply,
    request,
    sendUntilBlocked,
    tunnel,
)
from tests.conversation import deaf as deafDestination

if TYPE_CHECKING:
    from tests.conftest import Server

Start = Callable[..., "Server"]

LATE = 5.0
"""
How many seconds after its time a deadline may be noticed.
"""

HANDSHAKE = 2.0
OTHER = 60.0


@contextmanager
def takes(seconds: float) -> Iterator[None]:
    """
    What is done meanwhile ends at a deadline.
    """
    # What begins a deadline may have been a moment before.
    begun = time.monotonic() - 0.1
    yield
    took = time.monotonic() - begun
    assert seconds <= took < seconds + LATE


# -- L1 to L7: the handshake -----------------------------------------------------


def startImpatient(start: Start) -> Server:
    return start(
        *("--auth", "memory:user:password"),
        *("--set", f"timeout.handshake={HANDSHAKE}"),
    )


def test_clientsThatStop(start: Start) -> None:
    server = startImpatient(start)
    clients = []
    with takes(HANDSHAKE):
        for sent, answer in (
            (b"", b""),
            (b"\x05", b""),
            (b"\x05\x02\x00", b""),
            (b"\x05\x01\x02", b"\x05\x02"),
            (b"\x05\x01\x02\x01\x04u", b"\x05\x02"),
            (LOGIN + b"\x05\x01\x00\x03\xffa", b"\x05\x02\x01\x00"),
        ):
            client = server.connect()
            client.sendall(sent)
            assert readExactly(client, len(answer)) == answer
            clients.append(client)
        assert not select.select(clients, [], [], HANDSHAKE / 2)[0]
        for client in clients:
            assert client.recv(1) == b""
            client.close()
    server.waitForLog('reason="handshake timed out"', len(clients))


def test_clientsThatNeverStop(start: Start) -> None:
    """
    The deadline is absolute: each byte would put off one that is not.
    """
    server = startImpatient(start)
    clients = []
    with takes(HANDSHAKE):
        for sent, answer in (
            (b"\x05\xff", b""),  # methods
            (b"\x05\x01\x02\x01\xff", b"\x05\x02"),  # a name
            (LOGIN + b"\x05\x01\x00\x03\xff", b"\x05\x02\x01\x00"),  # another
        ):
            client = server.connect()
            client.sendall(sent)
            assert readExactly(client, len(answer)) == answer
            clients.append(client)
        while not select.select(clients, [], [], 0.5)[0]:
            for client in clients:
                client.sendall(b"a")
        for client in clients:
            try:
                assert client.recv(1) == b""
            except ConnectionResetError:
                pass  # it has crossed with a byte
            client.close()
    server.waitForLog('reason="handshake timed out"', len(clients))


# -- L11: silence ---------------------------------------------------------------


def test_tunnelThatFallsSilent(start: Start, listener: socket.socket) -> None:
    server = start("--set", "timeout.idle=3")
    client, destination = tunnel(server, listener)
    with client, destination:
        for _ in range(3):
            assert not select.select([client, destination], [], [], 2)[0]
            client.sendall(b"x")
            assert destination.recv(1) == b"x"
        with takes(3):
            assert client.recv(1) == b""
            assert destination.recv(1) == b""
    server.waitForLog("reason=idle")


# -- L12: each of the others, while all but one are far away ----------------------


def connecting(server: Server, listener: socket.socket) -> None:
    with deafDestination() as listening, server.connect() as client:
        client.sendall(GREET)
        assert readExactly(client, 2) == b"\x05\x00"
        with takes(2):
            client.sendall(connectTo(listening.getsockname()[1]))
            assert readAll(client) == failure(6)


def binding(server: Server, listener: socket.socket) -> None:
    with server.connect() as client:
        client.sendall(GREET)
        assert readExactly(client, 2) == b"\x05\x00"
        with takes(2):
            client.sendall(request(2, "127.0.0.1"))
            assert readReply(client)[0] == 0
            assert readAll(client) == failure(6)


def associating(server: Server, listener: socket.socket) -> None:
    with takes(2), Association(server) as client:
        assert client.control.recv(1) == b""


def associatingAndSending(server: Server, listener: socket.socket) -> None:
    with Association(server) as client, datagramSocket() as target:
        client.control.settimeout(2 + 2 * LATE)
        assert not select.select([client.control], [], [], 1.5)[0]
        with takes(2):
            client.send(b"ping", target.getsockname())
            assert target.recv(4) == b"ping"
            assert client.control.recv(1) == b""


def idle(server: Server, listener: socket.socket) -> None:
    with takes(2):
        client, destination = tunnel(server, listener)
        with client, destination:
            assert client.recv(1) == b""
            assert destination.recv(1) == b""


def halfClosed(server: Server, listener: socket.socket) -> None:
    client, destination = tunnel(server, listener)
    with client, destination:
        assert not select.select([client, destination], [], [], 2.5)[0]
        with takes(2):
            client.shutdown(socket.SHUT_WR)
            assert destination.recv(1) == b""
            assert client.recv(1) == b""


def stalled(server: Server, listener: socket.socket) -> None:
    client, destination = tunnel(server, listener)
    with client, destination:
        assert not select.select([client, destination], [], [], 2.5)[0]
        with takes(2):
            sendUntilBlocked(destination, bytes(64 * 1024 * 1024))
            while not _isGone(destination):
                time.sleep(0.05)  # what waits to be sent hides the reset


def _isGone(one: socket.socket) -> bool:
    return one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


@pytest.mark.parametrize(
    ("key", "use", "reason"),
    [
        ("connect", connecting, "reply=06"),
        ("bind", binding, "nobody has connected in time"),
        ("udp-idle", associating, "idle"),
        ("udp-idle", associatingAndSending, "idle"),
        ("idle", idle, "idle"),
        ("half-closed", halfClosed, "half-closed and silent"),
        ("write-stall", stalled, "stall"),
    ],
)
def test_eachDeadline(
    start: Start,
    listener: socket.socket,
    key: str,
    use: Callable[[Server, socket.socket], None],
    reason: str,
) -> None:
    keys = "handshake policy resolve connect bind half-closed write-stall udp-idle"
    settings: list[str] = []
    for one in keys.split():
        settings += "--set", f"timeout.{one}={OTHER}"
    server = start(*settings, "--set", f"timeout.{key}=2")
    use(server, listener)
    server.waitForLog(reason)
    server.waitForDescriptors(0)
    if key != "idle":
        assertServes(server, listener)


def test_resolving(start: Start, listener: socket.socket) -> None:
    """
    The name server is there and says nothing.
    """
    with datagramSocket() as silent:
        port = silent.getsockname()[1]
        server = start(
            *("--set", "timeout.resolve=2", "--set", f"timeout.connect={OTHER}"),
            command=("-m", "tests.withnameserver", str(port)),
        )
        with server.connect() as client:
            client.sendall(GREET)
            assert readExactly(client, 2) == b"\x05\x00"
            with takes(2):
                client.sendall(connectToName(b"name.example", 80))
                assert silent.recv(512)
                (reply,) = readAll(client)[1:2]
        assert reply in (1, 4, 6)
        assertServes(server, listener)


# -- F1: where it cannot listen --------------------------------------------------


def twistd(*more: str) -> list[str]:
    run = "from twisted.scripts.twistd import run; run()"
    return [sys.executable, "-c", run, *more, "--pidfile=", "socks5"]


RUNNERS = {
    "twist": [sys.executable, "-m", "twisted", "socks5"],
    "twistd -n": twistd("--nodaemon"),
    "twistd": twistd(),
}


def assertRefused(
    command: Sequence[str], words: str, folder: Path, start: Sequence[str] = ()
) -> None:
    """
    It ends at once, with one line and a status.
    """
    done = subprocess.run(
        [*start, *command], cwd=folder, capture_output=True, text=True, timeout=30
    )
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("socks5: ")
    assert words in line
    assert "Traceback" not in done.stdout
    log = folder / "twistd.log"
    assert not log.exists() or "Traceback" not in log.read_text()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Has servers that start elsewhere find what is tested.
    """
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))


@pytest.mark.parametrize("runner", RUNNERS)
def test_portsThatAreNone(runner: str, environment: None, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bound = str(taken.getsockname()[1])
        with socket.create_server(("127.0.0.1", 0)) as free:
            good = str(free.getsockname()[1])
        for port, words in (
            ("65536", "--port 65536: expected a number from 0 to 65535"),
            ("abc", "--port abc: expected a number from 0 to 65535"),
            (bound, "in use"),
        ):
            command = [*RUNNERS[runner], "--port", good, "--port", port]
            assertRefused(command, words, tmp_path)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", int(good)), 10)


@pytest.mark.parametrize("runner", RUNNERS)
def test_portWithoutTheRight(runner: str, environment: None, tmp_path: Path) -> None:
    first = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not first.exists() or int(first.read_text()) <= 1:
        pytest.skip("everybody may listen on any port here")
    start: list[str] = []
    if os.getuid() == 0:
        setpriv = shutil.which("setpriv")
        assert setpriv is not None
        start = [setpriv, "--bounding-set=-net_bind_service"]
    assertRefused(
        [*RUNNERS[runner], "--port", "1"], "Permission denied", tmp_path, start
    )


# -- F4: accounts that cannot be read -----------------------------------------------


LOG_IN = b"\x05\x01\x02\x01\x04user\x0awonderland"


def assertNobodyGetsIn(server: Server, reason: str) -> None:
    """
    Neither without a password nor with one.
    """
    with server.connect() as client:
        client.sendall(GREET)
        assert readAll(client) == b"\x05\xff"
    with server.connect() as client:
        client.sendall(LOG_IN)
        assert readAll(client) == b"\x05\x02\x01\x01"
    server.waitForLog(reason)


@pytest.fixture(params=["file", "hashed"])
def accounts(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """
    A kind of C{--auth}, and a file for it.
    """
    users = tmp_path / "users"
    if request.param == "file":
        users.touch(0o600)
        users.write_text("user:wonderland\n")
    else:
        passwd = [sys.executable, "-m", "twisted_socks5.passwords", "--stdin"]
        subprocess.run([*passwd, str(users), "user"], input=b"wonderland\n", check=True)
    return request.param, users


def test_accountsThatAreNotThere(
    accounts: tuple[str, Path], tmp_path: Path, environment: None
) -> None:
    kind, users = accounts
    users.unlink()
    command = [*RUNNERS["twist"], "--port", "0", "--auth", f"{kind}:{users}"]
    assertRefused(command, "No such file", tmp_path)
    users.mkdir()
    assertRefused(command, str(users), tmp_path)


def test_noAccounts(start: Start, accounts: tuple[str, Path]) -> None:
    """
    An empty file lets nobody in.
    """
    kind, users = accounts
    users.write_bytes(b"")
    assertNobodyGetsIn(start("--auth", f"{kind}:{users}"), "wrong username or password")


def test_accountsThatGoAway(start: Start, accounts: tuple[str, Path]) -> None:
    kind, users = accounts
    server = start("--auth", f"{kind}:{users}")
    with server.connect() as client:
        client.sendall(LOG_IN)
        assert readExactly(client, 4) == b"\x05\x02\x01\x00"
    users.unlink()
    assertNobodyGetsIn(server, "No such file")
    server.defects = 1


# -- F9: passwords that others can read ------------------------------------------------


def test_passwordOnTheCommandLine(start: Start) -> None:
    server = start("--auth", "memory:user:wonderland")
    with server.connect() as client:
        client.sendall(LOG_IN)
        assert readExactly(client, 4) == b"\x05\x02\x01\x00"
    assert server.output().count("other users of this host can read") == 1


def test_passwordInAFile(start: Start, accounts: tuple[str, Path]) -> None:
    """
    It is nowhere else.
    """
    kind, users = accounts
    server = start("--auth", f"{kind}:{users}")
    with server.connect() as client:
        client.sendall(LOG_IN)
        assert readExactly(client, 4) == b"\x05\x02\x01\x00"
    folder = Path(f"/proc/{server.process.pid}")
    for file in ("cmdline", "environ"):
        assert b"wonderland" not in (folder / file).read_bytes()
    server.waitForLog("user=user")
    assert "wonderland" not in server.output()
    assert "other users" not in server.output()
