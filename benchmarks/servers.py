# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The servers that are measured: where they are, and how they are started.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.failed import Failed

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

TCP = ("conn", "down", "up", "both64", "ping", "idle")
ALL = (*TCP, "udp")

PEERS = ("pproxy", "asyncio-socks-server")
"""
What PyPI has.
"""


@dataclass(frozen=True)
class Places:
    """
    Where things are.

    @ivar python: The interpreter with Twisted, for the servers of this repository.
    @ivar cache: What is built.
    @ivar peers: The virtual environment with the servers of PyPI.
    """

    python: Path
    cache: Path
    peers: Path


@dataclass(frozen=True)
class Server:
    """
    A server.

    @ivar name: What the table calls it.
    @ivar version: Of what.
    @ivar command: What starts it in the foreground, on a port of 127.0.0.1, with a
        folder for its files.
    @ivar works: What it can do.
    @ivar environment: Variables that it needs.
    """

    name: str
    version: str
    command: Callable[[int, Path], list[str]]
    works: tuple[str, ...] = TCP
    environment: dict[str, str] = field(default_factory=dict)


def _program(name: str, package: str) -> str:
    # Servers are not on everybody's path.
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        raise Failed(f"no {name} (Debian's {package})")
    return path


def output(*command: str) -> str:
    """
    What a program prints, or nothing if it fails.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _debianVersion(package: str) -> str:
    return output("dpkg-query", "-W", "-f", "${Version}", package) or "version unknown"


def pythonVersion(python: Path, package: str) -> str:
    """
    Which version of a package an interpreter has; empty for none.
    """
    program = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))"
    return output(str(python), "-c", program, package)


def _ours(places: Places, name: str, *arguments: str, works: tuple[str, ...]) -> Server:
    twistd = places.python.with_name("twistd")
    if not twistd.exists():
        raise Failed(f"no twistd beside {places.python}")

    def command(port: int, folder: Path) -> list[str]:
        common = [str(twistd), "-n", "--pidfile=", "-l", str(folder / "log"), "socks5"]
        return [*common, "--port", str(port), *arguments]

    version = f"Twisted {pythonVersion(places.python, 'twisted')}"
    return Server(name, version, command, works, {"PYTHONPATH": str(ROOT)})


def ours(places: Places) -> Server:
    """
    This one, without an access log, as the others have none.
    """
    return _ours(places, "twisted_socks5", "--access-log", "off", works=ALL)


def logging(places: Places) -> Server:
    """
    This one with its access log, which costs for each session.
    """
    return _ours(places, "with access log", works=("conn",))


def bare(places: Places) -> Server:
    """
    The least that carries a CONNECT on Twisted.
    """
    version = pythonVersion(places.python, "twisted")
    if not version:
        raise Failed(f"no Twisted for {places.python}")
    return Server(
        "bare Twisted",
        f"Twisted {version}",
        lambda port, _: [str(places.python), str(HERE / "bare.py"), str(port)],
    )


_DANTE = """\
logoutput: /dev/null
internal: 127.0.0.1 port = {port}
external: lo
clientmethod: none
socksmethod: none
{users}
client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
socks pass {{ from: 127.0.0.0/8 to: 127.0.0.0/8 }}
"""


def dante(places: Places) -> Server:
    """
    Dante (C, many processes).
    """
    danted = _program("danted", "dante-server")

    def command(port: int, folder: Path) -> list[str]:
        users = "user.privileged: root\nuser.unprivileged: nobody"
        text = _DANTE.format(port=port, users=users if os.geteuid() == 0 else "")
        (folder / "danted.conf").write_text(text)
        return [danted, "-f", str(folder / "danted.conf"), "-p", str(folder / "pid")]

    return Server("Dante", _debianVersion("dante-server"), command, ALL)


def microsocks(places: Places) -> Server:
    """
    microsocks (C, a thread for each client).
    """
    program = _program("microsocks", "microsocks")
    return Server(
        "microsocks",
        _debianVersion("microsocks"),
        lambda port, _: [program, "-i", "127.0.0.1", "-p", str(port)],
    )


def go(places: Places) -> Server:
    """
    A small server on armon/go-socks5 (Go, two goroutines for each client), built here.
    """
    compiler = _program("go", "golang-go")
    sources = Path("/usr/share/gocode")
    if not (sources / "src/github.com/armon/go-socks5").exists():
        raise Failed("no Debian package golang-github-armon-go-socks5-dev")
    built = places.cache / "gosocks"
    environment = {
        "GOPATH": str(sources),
        "GO111MODULE": "off",
        "GOCACHE": str(places.cache / "go"),
    }
    done = subprocess.run(
        [compiler, "build", "-o", str(built), str(HERE / "gosocks.go")],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise Failed(f"go build: {done.stderr.strip().splitlines()[-1]}")
    version = _debianVersion("golang-github-armon-go-socks5-dev")
    return Server("go-socks5", version, lambda port, _: [str(built), str(port)])


def _peer(places: Places, package: str, program: str) -> tuple[str, str]:
    path = places.peers / "bin" / program
    if not path.exists():
        raise Failed(f"not in {places.peers}: --install-peers puts it there")
    version = pythonVersion(places.peers / "bin/python", package)
    python = output(str(places.peers / "bin/python"), "--version")
    return str(path), f"{version}, {python}"


def pproxy(places: Places) -> Server:
    """
    pproxy (Python, asyncio); its SOCKS5 has no UDP ASSOCIATE.
    """
    program, version = _peer(places, "pproxy", "pproxy")
    return Server(
        "pproxy",
        version,
        lambda port, _: [program, "-l", f"socks5://127.0.0.1:{port}"],
    )


def asyncioServer(places: Places) -> Server:
    """
    asyncio-socks-server (Python, asyncio).
    """
    program, version = _peer(places, "asyncio-socks-server", "asyncio_socks_server")
    return Server(
        "asyncio-socks-server",
        version,
        lambda port, _: [program, "--host", "127.0.0.1", "--port", str(port)],
        ALL,
    )


SERVERS: dict[str, Callable[[Places], Server]] = {
    "ours": ours,
    "logging": logging,
    "bare": bare,
    "dante": dante,
    "microsocks": microsocks,
    "go": go,
    "pproxy": pproxy,
    "asyncio": asyncioServer,
}
"""
By what C{--servers} calls them.  Each raises L{Failed} where it is absent.
"""


def installPeers(places: Places) -> None:
    """
    Make the virtual environment with the servers of PyPI.
    """
    for command in (
        [str(places.python), "-m", "venv", str(places.peers)],
        [str(places.peers / "bin/python"), "-m", "pip", "install", "-q", *PEERS],
    ):
        if subprocess.run(command).returncode != 0:
            raise Failed(f"could not install {' and '.join(PEERS)}")
