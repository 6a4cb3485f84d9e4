# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Other listeners while workers serve: those that are new, that stay, and that go.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conversation import freePort, tunnel
from tests.steadyclients import steadyClients
from tests.test_stop import assertCarries
from tests.test_workers import ready, serving, tunnels

if TYPE_CHECKING:
    from tests.conftest import Server

Start = Callable[..., "Server"]

FIRST = "tcp:0:interface=127.0.0.1"


def configuration(*endpoints: str) -> str:
    return "".join(f"[[listener]]\nendpoint = '{each}'\n" for each in endpoints)


def hangUp(server: Server, said: str = "the configuration was loaded") -> None:
    """
    Have the configuration be loaded, by all workers, or refused.
    """
    count = server.output().count(said)
    more = 2 if said.endswith("loaded") else 1
    server.process.send_signal(signal.SIGHUP)
    server.waitForLog(said, count + more)


def serves(server: Server, listener: socket.socket, address: tuple[str, int]) -> None:
    """
    See that somebody accepts there, several times.
    """
    for _ in range(10):
        client = socket.create_connection(address, 10)
        client.settimeout(10)
        for end in tunnel(server, listener, client):
            end.close()


def waitUntilRefused(server: Server, address: tuple[str, int]) -> None:
    def isRefused() -> bool:
        with socket.socket() as client:
            return client.connect_ex(address) != 0

    server.waitUntil(isRefused)


def test_change(start: Start, listener: socket.socket, tmp_path: Path) -> None:
    """
    One comes, one goes, one is at another port: all workers accept where they should
    and nowhere else, also those that are started later, and sessions live on.
    """
    path = tmp_path / "socks5.toml"
    one, two, other = ("127.0.0.81", "127.0.0.82", "127.0.0.83")
    moving = freePort(one)
    path.write_text(configuration(FIRST, f"tcp:{moving}:interface={one}"))
    server = start("--workers", "2", "--config", str(path), port=())
    pids = ready(server)
    moved, came = freePort(one), freePort(two)
    client = socket.create_connection((one, moving), 10)
    client.settimeout(10)
    stays = tunnel(server, listener, client)
    path.write_text(
        configuration(
            f"tcp:{came}:interface={two}", f"tcp:{moved}:interface={one}", FIRST
        )
    )
    hangUp(server)
    waitUntilRefused(server, (one, moving))
    serves(server, listener, (two, came))
    serves(server, listener, (one, moved))
    with tunnels(server, listener, pids) as made:
        for each in (*made, stays):
            assertCarries(*each)
        path.write_text(configuration(f"tcp:{came}:interface={two}", FIRST))
        hangUp(server)
        waitUntilRefused(server, (one, moved))
        for each in (*made, stays):
            assertCarries(*each)
    output = server.output()
    assert output.count(f"SOCKS5 at {two}:{came} (") == 1
    assert output.count(f"SOCKS5 no more at {one}:{moved} (") == 1
    for end in stays:
        end.close()
    last = freePort(other)
    path.write_text(configuration(FIRST, f"tcp:{last}:interface={other}"))
    hangUp(server)
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    serving(server, 4)
    serves(server, listener, (other, last))
    serves(server, listener, ("127.0.0.1", server.port))


def test_cannotListen(start: Start, listener: socket.socket, tmp_path: Path) -> None:
    """
    Where one of them cannot be bound, everything is as it was, and nothing is bound.
    """
    path = tmp_path / "socks5.toml"
    path.write_text(configuration(FIRST))
    server = start("--workers", "2", "--config", str(path), port=())
    ready(server)
    free, taken = freePort("127.0.0.81"), listener.getsockname()[1]
    for wrong in (f"tcp:{taken}:interface=127.0.0.1", "tcp:0:interface=0.0.0.0"):
        path.write_text(configuration(f"tcp:{free}:interface=127.0.0.81", wrong, FIRST))
        hangUp(server, "the old configuration stays in force")
        server.defects += 1
        waitUntilRefused(server, ("127.0.0.81", free))
        serves(server, listener, ("127.0.0.1", server.port))


def test_UNIX(start: Start, listener: socket.socket, tmp_path: Path) -> None:
    """
    So is it with UNIX sockets, whose files come and go.
    """
    path, place = tmp_path / "socks5.toml", tmp_path / "socket"
    path.write_text(configuration(FIRST))
    server = start("--workers", "2", "--config", str(path), port=())
    ready(server)
    path.write_text(configuration(FIRST, f"unix:{place}:mode=600"))
    hangUp(server)
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    for _ in range(10):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(place))
        client.settimeout(10)
        for end in tunnel(server, listener, client):
            end.close()
    path.write_text(configuration(FIRST))
    hangUp(server)
    server.waitUntil(lambda: not place.exists())


def test_whileClientsCome(
    start: Start, listener: socket.socket, tmp_path: Path
) -> None:
    """
    Nobody is refused where it is listened all the time.
    """
    listener.listen(1000)
    path = tmp_path / "socks5.toml"
    path.write_text(configuration(FIRST))
    server = start("--workers", "2", "--config", str(path), port=())
    ready(server)
    with steadyClients(server, listener, 2):
        for _ in range(3):
            other = f"tcp:{freePort('127.0.0.81')}:interface=127.0.0.81"
            for endpoints in ((other, FIRST), (FIRST,)):
                path.write_text(configuration(*endpoints))
                hangUp(server)


def test_oneIsStuck(start: Start, listener: socket.socket, tmp_path: Path) -> None:
    """
    What goes is closed though a worker does not answer, and what comes is served by
    others.
    """
    path = tmp_path / "socks5.toml"
    went, comes = freePort("127.0.0.81"), freePort("127.0.0.82")
    path.write_text(configuration(FIRST, f"tcp:{went}:interface=127.0.0.81"))
    server = start(
        *("--workers", "2", "--config", str(path), "--set", "timeout.worker=0"),
        port=(),
    )
    first, _ = ready(server)
    os.kill(first, signal.SIGSTOP)
    path.write_text(configuration(FIRST, f"tcp:{comes}:interface=127.0.0.82"))
    server.process.send_signal(signal.SIGHUP)
    waitUntilRefused(server, ("127.0.0.81", went))
    serves(server, listener, ("127.0.0.82", comes))
    os.kill(first, signal.SIGKILL)
    serving(server, 3)
    serves(server, listener, ("127.0.0.82", comes))
    server.defects = 1


def test_allAreLate(start: Start, listener: socket.socket, tmp_path: Path) -> None:
    """
    Workers to whom the reload comes when what goes was closed already are by it what they
    should be.
    """
    path = tmp_path / "socks5.toml"
    went, comes = freePort("127.0.0.81"), freePort("127.0.0.82")
    path.write_text(configuration(FIRST, f"tcp:{went}:interface=127.0.0.81"))
    server = start(
        *("--workers", "2", "--config", str(path), "--set", "timeout.worker=0"),
        port=(),
    )
    workers = ready(server)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    path.write_text(configuration(FIRST, f"tcp:{comes}:interface=127.0.0.82"))
    server.process.send_signal(signal.SIGHUP)
    waitUntilRefused(server, ("127.0.0.81", went))
    for worker in workers:
        os.kill(worker, signal.SIGCONT)
    server.waitForLog("the configuration was loaded", 2)
    assert "not in force" not in server.output()
    serves(server, listener, ("127.0.0.82", comes))


def test_notLoadedYet(start: Start, listener: socket.socket, tmp_path: Path) -> None:
    """
    A worker that is replaced does not serve at a socket what is meant for another one:
    it waits until the configuration is loaded.
    """
    path = tmp_path / "socks5.toml"
    one, two = freePort("127.0.0.81"), freePort("127.0.0.82")
    path.write_text(configuration(FIRST, f"tcp:{one}:interface=127.0.0.81"))
    server = start("--workers", "2", "--config", str(path), port=())
    first, _ = ready(server)
    path.write_text(configuration(FIRST, f"tcp:{two}:interface=127.0.0.82"))
    os.kill(first, signal.SIGKILL)
    server.waitForLog("the server does not listen there yet")
    server.process.send_signal(signal.SIGHUP)
    serving(server, 3)
    serves(server, listener, ("127.0.0.82", two))
    server.defects = server.output().count("#error")


def test_samePlace(start: Start, listener: socket.socket, tmp_path: Path) -> None:
    """
    Several that are said in the same words are several sockets.
    """
    path = tmp_path / "socks5.toml"
    path.write_text(configuration(FIRST))
    server = start("--workers", "2", "--config", str(path), port=())
    ready(server)
    path.write_text(configuration(FIRST, FIRST))
    hangUp(server)
    ports = {
        int(line.partition("SOCKS5 at 127.0.0.1:")[2].split()[0])
        for line in server.output().splitlines()
        if "SOCKS5 at 127.0.0.1:" in line
    }
    assert len(ports) == 2
    for port in ports:
        serves(server, listener, ("127.0.0.1", port))
    path.write_text(configuration(FIRST))
    hangUp(server)
    (gone,) = ports - {server.port}
    waitUntilRefused(server, ("127.0.0.1", gone))
    serves(server, listener, ("127.0.0.1", server.port))
