# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Several processes that serve the same listeners.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.association import Association
from tests.conftest import TWIST, twistdIn
from tests.conversation import (
    GREET,
    LOGIN,
    connectTo,
    failure,
    readAll,
    readExactly,
    tunnel,
)
from tests.everybody import NOBODY
from tests.steadyclients import steadyClients
from tests.test_start import refused
from tests.test_stop import assertCarries, waitUntilClosed

if TYPE_CHECKING:
    from tests.conftest import Server

GRACE = ("--set", "timeout.grace=600")

Tunnel = tuple[socket.socket, socket.socket]


def ready(server: Server, count: int = 2) -> list[int]:
    """
    The processes of the newest workers, when all that there are to be serve.
    """
    return [pid for _, pid in sorted(serving(server, count))][-count:]


def serving(server: Server, count: int) -> list[tuple[int, int]]:
    pattern = r"worker (\d+) serves, as process (\d+)"

    def found() -> list[tuple[int, int]]:
        return [
            (int(number), int(pid))
            for number, pid in re.findall(pattern, server.output())
        ]

    server.waitUntil(lambda: len(found()) >= count)
    return found()


def isAlive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def descriptorsOf(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@contextmanager
def tunnels(
    server: Server, listener: socket.socket, pids: list[int]
) -> Iterator[list[Tunnel]]:
    """
    Tunnels in all workers, several in each.
    """
    before = {pid: descriptorsOf(pid) for pid in pids}
    made: list[Tunnel] = []
    while any(descriptorsOf(pid) < before[pid] + 6 for pid in pids):
        assert len(made) < 500, "one of the workers gets no clients"
        made.append(tunnel(server, listener))
    yield made
    for each in made:
        for end in each:
            end.close()


def status(pid: int) -> dict[str, list[str]]:
    """
    What C{/proc} says of a process.
    """
    with open(f"/proc/{pid}/status") as file:
        lines = [line.split() for line in file]
    return {name.rstrip(":"): values for name, *values in lines}


def isClosed(client: socket.socket) -> bool:
    """
    Wait for the end of a connection, or for a byte.
    """
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def carries(each: Tunnel) -> bool:
    """
    Whether a tunnel is there, or has ended.
    """
    client, destination = each
    try:
        client.sendall(b"ping")
        if destination.recv(4) != b"ping":
            return False
    except ConnectionError:
        return False
    assertCarries(client, destination)
    return True


@pytest.mark.parametrize("runner", ["twist", "twistd"])
def test_allServe(
    start: Callable[..., Server],
    listener: socket.socket,
    tmp_path: Path,
    runner: str,
) -> None:
    """
    All get clients; the supervisor gets none.  Sessions have numbers of their own.
    """
    command = TWIST if runner == "twist" else twistdIn(tmp_path)
    server = start("--workers", "3", command=command, started="SOCKS5 at")
    pids = ready(server, 3)
    with tunnels(server, listener, pids) as made:
        assert server.descriptors() == server.baseline
        for each in made:
            assertCarries(*each)
        with Association(server):
            pass
    server.waitForLog("up=4 down=4", len(made))
    numbers = re.findall(r" worker (\d)\] session=(\d+) ", server.output())
    assert len({number for _, number in numbers}) == len(made) + 2
    for worker, number in numbers:
        assert int(number) // 10**9 == int(worker)
    assert {worker for worker, _ in numbers} == {"1", "2", "3"}


def test_oneIsKilled(start: Callable[..., Server], listener: socket.socket) -> None:
    """
    Its sessions are lost, and nobody else's; clients are served all the time, and
    there is a new one soon.
    """
    server = start("--workers", "2")
    first, second = ready(server)
    with tunnels(server, listener, [first, second]) as made:
        os.kill(first, signal.SIGKILL)
        for _ in range(20):
            each = tunnel(server, listener)
            assertCarries(*each)
            made.append(each)
        living = [each for each in made if carries(each)]
        assert 20 < len(living) < len(made)
        serving(server, 3)
        pids = [second, ready(server)[-1]]
        with tunnels(server, listener, pids):
            assert sum(carries(each) for each in living) == len(living)
    server.waitForLog("worker 1 was ended by signal 9")
    server.defects = 1


def test_oneHasNoDescriptorsLeft(
    start: Callable[..., Server], listener: socket.socket
) -> None:
    """
    It leaves clients to the other one; if that has none either, they are closed.
    """
    server = start("--workers", "2")
    pids = ready(server)
    _, most = resource.prlimit(pids[0], resource.RLIMIT_NOFILE)
    made: list[Tunnel] = []
    resource.prlimit(
        pids[0], resource.RLIMIT_NOFILE, (descriptorsOf(pids[0]) + 3, most)
    )
    for _ in range(50):
        made.append(tunnel(server, listener))
    resource.prlimit(
        pids[1], resource.RLIMIT_NOFILE, (descriptorsOf(pids[1]) + 3, most)
    )
    with server.connect() as client:
        client.sendall(GREET)
        assert isClosed(client)
    server.waitForLog("too few descriptors")
    for each in made:
        assertCarries(*each)
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
    made.append(tunnel(server, listener))
    for each in made:
        for end in each:
            end.close()


def test_supervisorIsKilled(
    start: Callable[..., Server], listener: socket.socket
) -> None:
    """
    The workers end with it.
    """
    server = start("--workers", "2", *GRACE)
    pids = ready(server)
    with tunnels(server, listener, pids) as made:
        server.process.kill()
        server.process.wait(10)
        assert all(isClosed(end) for each in made for end in each)
        waitUntilClosed(server)
    while any(isAlive(pid) for pid in pids):
        time.sleep(0.01)  # other processes: there is nothing to wait for
    socket.create_server(("127.0.0.1", server.port)).close()


def test_idle(start: Callable[..., Server]) -> None:
    """
    Without sessions, all end when the supervisor is told to.
    """
    server = start("--workers", "2", *GRACE)
    pids = ready(server)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(5) in (0, -signal.SIGTERM)
    assert not any(isAlive(pid) for pid in pids)
    socket.create_server(("127.0.0.1", server.port)).close()


def test_startIsCutShort(start: Callable[..., Server]) -> None:
    """
    Workers that do not serve yet are not waited for.
    """
    server = start("--workers", "2", *GRACE)
    (pid, *_) = ready(server)
    os.kill(pid, signal.SIGKILL)
    server.waitForLog("was ended by signal 9")
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(5) in (0, -signal.SIGTERM)
    server.defects = 1


def test_allAreSignalled(start: Callable[..., Server], listener: socket.socket) -> None:
    """
    Workers may be told to stop by a signal, too, as when a whole group of processes is:
    that is one time and not two.
    """
    server = start("--workers", "2", *GRACE)
    pids = ready(server)
    with tunnels(server, listener, pids) as made:
        for pid in (*pids, server.process.pid):
            os.kill(pid, signal.SIGTERM)
        waitUntilClosed(server)
        for each in made:
            assertCarries(*each)
    assert server.process.wait(10) in (0, -signal.SIGTERM)


def test_cannotStart(
    start: Callable[..., Server], listener: socket.socket, tmp_path: Path
) -> None:
    """
    What keeps a worker from being replaced is told in one line; the others serve on,
    and it is replaced when that is mended.
    """
    users = tmp_path / "users"
    users.write_text("user:password\n")
    users.chmod(0o600)
    server = start("--workers", "2", "--auth", f"file:{users}")
    first, second = ready(server)
    users.rename(tmp_path / "elsewhere")
    os.kill(first, signal.SIGKILL)
    server.waitForLog("has ended with status 1", 2)
    (tmp_path / "elsewhere").rename(users)
    serving(server, 3)
    told = [line for line in server.output().splitlines() if "#error" in line]
    server.defects = len(told)
    assert "worker 1 was ended by signal 9" in told[0]
    assert f"worker 3: socks5: --auth file: {users}" in told[1]
    assert "worker 3 has ended with status 1" in told[2]
    assert "worker 4: socks5: " in told[3]
    assert "Traceback" not in server.output()


@pytest.mark.parametrize("ends", ["by themselves", "at the second signal"])
def test_drained(
    start: Callable[..., Server], listener: socket.socket, ends: str
) -> None:
    """
    Nobody is let in any more; sessions may finish in all workers.
    """
    server = start("--workers", "2", *GRACE)
    pids = ready(server)
    with tunnels(server, listener, pids) as made:
        server.process.send_signal(signal.SIGTERM)
        waitUntilClosed(server)
        for each in made:
            assertCarries(*each)
        if ends != "by themselves":
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(10) in (0, -signal.SIGTERM)
            assert not any(carries(each) for each in made)
    assert server.process.wait(10) in (0, -signal.SIGTERM)
    assert not any(isAlive(pid) for pid in pids)
    assert server.output().count("up=4 down=4") + server.output().count(
        "up=8 down=8"
    ) == len(made), server.output()


def test_onlyOneIsStopped(
    start: Callable[..., Server], listener: socket.socket, tmp_path: Path
) -> None:
    """
    A worker that is told to stop finishes its sessions, and is replaced; clients are
    served meanwhile, also at a UNIX socket.
    """
    path = f"{tmp_path}/socket"
    server = start("--workers", "2", *GRACE, "--port", f"unix:{path}:mode=600")
    first, second = ready(server)
    with tunnels(server, listener, [first, second]) as made:
        os.kill(first, signal.SIGTERM)
        serving(server, 2)
        for each in made:
            assertCarries(*each)
    serving(server, 3)
    assert os.stat(path).st_mode & 0o777 == 0o600
    for _ in range(20):
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        client.settimeout(10)
        for end in tunnel(server, listener, client):
            end.close()
    server.waitForLog("worker 1 has ended")


def test_reload(
    start: Callable[..., Server], listener: socket.socket, tmp_path: Path
) -> None:
    """
    All go by new rules, and none by wrong ones.
    """
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\naction = "allow"\n')
    server = start("--workers", "2", "--rules", str(rules))
    pids = ready(server)
    with tunnels(server, listener, pids) as made:
        rules.write_text("nonsense")
        server.process.send_signal(signal.SIGHUP)
        server.waitForLog("the old configuration stays in force")
        server.defects = 1
        for each in made:
            assertCarries(*each)
        rules.write_text('[[rule]]\naction = "deny"\n')
        server.process.send_signal(signal.SIGHUP)
        server.waitForLog("the configuration was loaded", 2)
        assert not any(carries(each) for each in made)
    for _ in range(20):
        with server.connect() as client:
            client.sendall(GREET + connectTo(listener.getsockname()[1]))
            assert readAll(client) == b"\x05\x00" + failure(2)


def test_reloadUnderLoad(
    start: Callable[..., Server], listener: socket.socket, tmp_path: Path
) -> None:
    """
    While all workers load right and wrong configurations, nobody who connects is
    refused, and sessions stay.
    """
    listener.listen(1000)
    path = tmp_path / "socks5.toml"
    right = "[timeout]\nhandshake = {}\n"
    path.write_text(right.format(20))
    server = start("--workers", "2", "--config", str(path))
    ready(server)
    stays = tunnel(server, listener)
    with steadyClients(server, listener, 3):
        for turn in range(1, 6):
            path.write_text(right.format(20 + turn))
            server.process.send_signal(signal.SIGHUP)
            server.waitForLog("the configuration was loaded", 2 * turn)
            path.write_text("no such key")
            server.process.send_signal(signal.SIGHUP)
            server.waitForLog("the old configuration stays in force", turn)
            assertCarries(*stays)
    server.defects = 5
    for end in stays:
        end.close()


def test_limitsHoldForAll(
    start: Callable[..., Server], listener: socket.socket
) -> None:
    """
    Also for sessions of one client and of one user; what a worker had that has ended is
    free again.
    """
    server = start(
        *("--workers", "2", "--auth", "memory:user:password"),
        *("--set", "limit.sessions-per-user=20", "--set", "limit.sessions=25"),
    )
    first, second = ready(server)
    before = {pid: descriptorsOf(pid) for pid in (first, second)}
    made: list[Tunnel] = []

    def login() -> socket.socket:
        client = server.connect()
        client.sendall(LOGIN)
        assert readExactly(client, 4) == b"\x05\x02\x01\x00"
        return client

    def fill() -> None:
        """
        Have all sessions that there may be, and one that is refused.
        """
        while True:
            client = login()
            client.sendall(connectTo(listener.getsockname()[1]))
            if (answer := readExactly(client, 10))[1] == 2:
                assert readAll(client) == b""
                return
            assert answer[:2] == b"\x05\x00"
            made.append((client, listener.accept()[0]))
            made[-1][1].settimeout(10)

    fill()
    assert len(made) == 20
    assert all(descriptorsOf(pid) > before[pid] for pid in before)
    waiting = [login() for _ in range(5)]
    # Reset, it may be so before it knows that it was connected.
    with pytest.raises(ConnectionError), server.connect() as client:
        client.recv(1)
    for client in waiting:
        client.close()
    os.kill(first, signal.SIGKILL)
    server.waitForLog("worker 1 was ended by signal 9")
    living = [each for each in made if carries(each)]
    assert 0 < len(living) < 20
    fill()
    assert len(made) - 20 == 20 - len(living)
    server.defects = 1
    for each in made:
        for end in each:
            end.close()


def test_privileges(
    start: Callable[..., Server],
    listener: socket.socket,
    everybodysPython: str,
    everybodysFolder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    No process of the server has kept any; the port was bound before they were given
    up.
    """
    monkeypatch.setenv("PYTHONPATH", str(everybodysFolder))
    monkeypatch.chdir(everybodysFolder)
    folder = everybodysFolder / "run"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    endpoint = "tcp:999:interface=127.0.0.87"
    script = "from twisted.scripts.twistd import run; run()"
    server = start(
        *("--workers", "2", "--port", endpoint),
        python=everybodysPython,
        command=[
            *("-c", script, "--nodaemon", "--pidfile=", f"--rundir={folder}"),
            *(f"--uid={NOBODY}", f"--gid={NOBODY}", "socks5"),
        ],
        started="SOCKS5 at",
    )
    for pid in (server.process.pid, *ready(server)):
        for kind in ("Uid", "Gid"):
            assert status(pid)[kind] == [str(NOBODY)] * 4
        assert "0" not in status(pid)["Groups"]
        assert int(status(pid)["CapEff"][0], 16) == 0
    client = socket.create_connection(server.address(endpoint), 10)
    for end in tunnel(server, listener, client):
        end.close()


def test_bandwidthOfAll(start: Callable[..., Server], listener: socket.socket) -> None:
    """
    It is what all workers have together.
    """
    server = start("--workers", "2", "--set", "limit.bandwidth=200000")
    pids = ready(server)
    sent = bytes(20000)
    with tunnels(server, listener, pids) as made:
        began = time.monotonic()
        for client, _ in made:
            client.sendall(sent)
        for _, destination in made:
            destination.settimeout(60)
            assert readExactly(destination, len(sent)) == sent
        # What there is at the beginning, and what each worker has taken ahead.
        ahead = 200000 * (0.25 + 2 * 0.1)
        least = (len(made) * len(sent) - ahead) / 200000
        assert time.monotonic() - began >= least


def test_quotaOfAll(
    start: Callable[..., Server], listener: socket.socket, tmp_path: Path
) -> None:
    """
    What a user carries in all workers is counted together, and kept.
    """
    arguments = (
        *("--workers", "2", "--auth", "memory:user:password"),
        *("--set", "limit.bytes-per-day=1000000"),
        *("--set", f"quota.file={tmp_path}/quotas"),
    )
    server = start(*arguments)
    pids = ready(server)
    before = {pid: descriptorsOf(pid) for pid in pids}
    made: list[Tunnel] = []

    def login(server: Server) -> bytes:
        client = server.connect()
        client.sendall(LOGIN + connectTo(listener.getsockname()[1]))
        answer = readExactly(client, 14)
        if answer[5] == 0:
            made.append((client, listener.accept()[0]))
        else:
            client.close()
        return answer

    while any(descriptorsOf(pid) == before[pid] for pid in pids):
        assert login(server)[4:6] == b"\x05\x00"
    sent = bytes(1200000 // len(made))
    for client, destination in made:
        client.sendall(sent)
        destination.settimeout(10)
        readExactly(destination, len(sent))
    for client, destination in made:
        assert isClosed(client)
        client.close()
        destination.close()
    assert login(server)[4:6] == b"\x05\x02"
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(10)
    again = start(*arguments)
    assert login(again)[4:6] == b"\x05\x02"


FROM_SYSTEMD = """
import os, socket, sys
listening = socket.create_server(("127.0.0.1", 0))
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="one")
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.parametrize("which", ["index=0", "name=one"])
def test_socketsOfSystemd(
    start: Callable[..., Server], listener: socket.socket, which: str
) -> None:
    """
    Workers accept from them, too.
    """
    endpoint = f"systemd:domain=INET:{which}"
    command = ["-c", FROM_SYSTEMD, *TWIST]
    server = start("--workers", "2", "--port", endpoint, command=command)
    ready(server)
    for _ in range(20):
        client = socket.create_connection(server.address(endpoint), 10)
        for end in tunnel(server, listener, client):
            end.close()


@pytest.mark.parametrize("count", ["0", "-1", "x", "1_0", "257"])
def test_wrongNumber(count: str) -> None:
    assert "--workers" in refused("--workers", count)


def test_cannotListen(listener: socket.socket) -> None:
    """
    What is wrong is told once, as of one process.
    """
    port = str(listener.getsockname()[1])
    assert "in use" in refused("--workers", "2", "--port", port)
    assert "--open" in refused("--workers", "2", "--port", "0", "-i", "0.0.0.0")
