# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
BIND and UDP ASSOCIATE with programs and libraries of others.
"""

from __future__ import annotations

import os
import random
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import TYPE_CHECKING, Any

import pytest
import socks
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.ioloop import IOLoop
from pyftpdlib.servers import FTPServer
from twisted.names import dns

from tests.association import MOST, datagramSocket

if TYPE_CHECKING:
    from tests.conftest import Server

    Start = Callable[..., Server]
    Run = Callable[..., CompletedProcess[bytes]]
    Program = Callable[..., str]
    Sessions = Callable[..., list[dict[str, Any]]]

PATIENCE = 30
FILE = random.Random(959).randbytes(1 << 20)
LARGE = random.Random(768).randbytes(60_000)


def facts(session: dict[str, Any]) -> tuple[object, ...]:
    """
    What was asked for, and how it went.
    """
    return tuple(session.get(name) for name in ("command", "target", "reply"))


def counts(session: dict[str, Any]) -> tuple[object, ...]:
    """
    How an association went.
    """
    names = ("command", "reply", "datagramsUp", "datagramsDown", "dropped")
    return tuple(session.get(name) for name in names)


class UDPServer:
    """
    Answers datagrams.

    @ivar name: Where it is.
    @ivar got: What came, in its order.
    """

    def __init__(self, answer: Callable[[bytes], bytes], host: str, port: int) -> None:
        self._socket = datagramSocket(host, port)
        self._answer = answer
        self.name: tuple[str, int] = self._socket.getsockname()[:2]
        self.got: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        self._socket.settimeout(None)
        while True:
            payload, source = self._socket.recvfrom(MOST)
            if source[:2] == self.name:
                return
            self.got.append(payload)
            self._socket.sendto(self._answer(payload), source)

    def stop(self) -> None:
        """
        Close it.
        """
        self._socket.sendto(b"", self.name)  # to itself
        self._thread.join(PATIENCE)
        self._socket.close()


@pytest.fixture
def serveUDP() -> Iterator[Callable[..., UDPServer]]:
    """
    Starts servers for datagrams.
    """
    servers: list[UDPServer] = []

    def serving(
        answer: Callable[[bytes], bytes], host: str = "127.0.0.1", port: int = 0
    ) -> UDPServer:
        servers.append(UDPServer(answer, host, port))
        return servers[-1]

    yield serving
    for server in servers:
        server.stop()


# -- Dante's client -----------------------------------------------------------------


@pytest.fixture
def socksify(
    program: Program, run: Run, environment: dict[str, str], tmp_path: Path
) -> Callable[..., CompletedProcess[bytes]]:
    """
    Runs a program whose connections go through a server: Dante's library takes
    the place of the socket functions.
    """
    socksify = program("socksify")

    def running(
        server: Server, *command: str, given: bytes = b""
    ) -> CompletedProcess[bytes]:
        configuration = tmp_path / "socks.conf"
        configuration.write_text(
            "resolveprotocol: fake\n"
            "route {\n"
            f"  from: 0.0.0.0/0 to: 0.0.0.0/0 via: 127.0.0.1 port = {server.port}\n"
            "  proxyprotocol: socks_v5\n"
            "  protocol: tcp udp\n"
            "  method: none\n"
            "  command: bind connect udpassociate\n"
            "}\n"
        )
        environment["SOCKS_CONF"] = str(configuration)
        # Else it would go to this host's own addresses without the proxy.
        environment["SOCKS_AUTOADD_LANROUTES"] = "no"
        return run(socksify, *command, given=given)

    return running


@pytest.fixture
def ftp(tmp_path: Path) -> Iterator[int]:
    """
    The port on 127.0.0.1 of an FTP server that has a file, and whose data
    connections are active ones only.
    """
    folder = tmp_path / "ftp"
    folder.mkdir()
    (folder / "file").write_bytes(FILE)

    # pyftpdlib has no types.
    class Session(FTPHandler):  # type: ignore[misc]  # pyftpdlib has no types
        authorizer = DummyAuthorizer()
        # No passive ones: they need no BIND.
        proto_cmds = {
            name: facts
            for name, facts in FTPHandler.proto_cmds.items()
            if name not in ("PASV", "EPSV")
        }

    Session.authorizer.add_anonymous(str(folder))
    server = FTPServer(("127.0.0.1", 0), Session, ioloop=IOLoop())
    isOver = threading.Event()

    def serve() -> None:
        while not isOver.is_set():
            server.serve_forever(timeout=0.05, blocking=False, handle_exit=False)
        server.close_all()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.address[1]
    isOver.set()
    thread.join(PATIENCE)


def test_socksifyActiveFTP(
    start: Start,
    program: Program,
    socksify: Callable[..., CompletedProcess[bytes]],
    ftp: int,
    sessions: Sessions,
    tmp_path: Path,
) -> None:
    """
    A listing and a file, each by a port that BIND has opened (PORT).
    """
    server = start()
    got = tmp_path / "got"
    done = socksify(
        *(server, program("tnftp"), "-A", "-n", "-v", "-i", "127.0.0.1", str(ftp)),
        given=f"user anonymous x\ndir\nbinary\nget file {got}\nquit\n".encode(),
    )
    assert done.returncode == 0, done.stderr
    assert b" file" in done.stdout, (done.stdout, done.stderr)
    assert got.read_bytes() == FILE
    listing, file, commands = sorted(
        sessions(server, 3), key=lambda session: str(session["command"])
    )
    assert facts(commands) == ("CONNECT", f"127.0.0.1:{ftp}", "00")
    for data in (listing, file):
        assert (data["command"], data["reply"]) == ("BIND", "00")
        assert data["dialled"].startswith("127.0.0.1:")
    assert 0 < listing["down"] < 100
    assert (file["up"], file["down"]) == (0, len(FILE))


def answerQuery(data: bytes) -> bytes:
    """
    A name server's answer.
    """
    message = dns.Message()
    message.fromStr(data)
    response = dns.Message(message.id, answer=1, recDes=1, recAv=1)
    response.queries = message.queries
    name = message.queries[0].name.name
    response.answers = [
        dns.RRHeader(name, dns.A, payload=dns.Record_A("10.9.8.7")),
    ]
    return response.toStr()


QUERY = """
import socket, sys
from twisted.names import dns
message = dns.Message(1, recDes=1)
message.addQuery("host.test", dns.A)
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(10)
for _ in range(3):
    asking.sendto(message.toStr(), ("127.0.0.1", int(sys.argv[1])))
    data, source = asking.recvfrom(65535)
    message.fromStr(data)
    print(message.answers[0].payload.dottedQuad(), *source)
    message.answers = []
"""


def test_socksifyDNS(
    start: Start,
    socksify: Callable[..., CompletedProcess[bytes]],
    serveUDP: Callable[..., UDPServer],
    sessions: Sessions,
) -> None:
    """
    A small program that asks a name server.  (dig and host would do it by
    socket functions that Dante's library leaves alone.)
    """
    server = start()
    nameServer = serveUDP(answerQuery)
    port = nameServer.name[1]
    done = socksify(server, sys.executable, "-c", QUERY, str(port))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"10.9.8.7 127.0.0.1 {port}\n".encode() * 3
    (session,) = sessions(server)
    assert counts(session) == ("ASSOCIATE", "00", "3", "3", None)
    assert session["up"] == sum(map(len, nameServer.got))


# -- PySocks ------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_PySocksUDP(
    start: Start, serveUDP: Callable[..., UDPServer], sessions: Sessions, host: str
) -> None:
    """
    Its request has a name, "0", for where it will send from.
    """
    server = start()
    target = serveUDP(bytes.upper)
    port = target.name[1]
    if host == "localhost":
        serveUDP(bytes.upper, "::1", port)  # which is its other address
    with socks.socksocket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.set_proxy(socks.SOCKS5, "127.0.0.1", server.port)
        for payload in (b"payload", LARGE):
            client.sendto(payload, (host, port))
            answer, source = client.recvfrom(MOST)
            assert answer == payload.upper()
            assert source in (("127.0.0.1", port), ("::1", port))
    (session,) = sessions(server)
    assert counts(session) == ("ASSOCIATE", "00", "2", "2", None)


def test_PySocksUDPPassword(
    start: Start,
    serveUDP: Callable[..., UDPServer],
    sessions: Sessions,
    accounts: tuple[str, str],
) -> None:
    server = start(*accounts)
    target = serveUDP(bytes.upper)
    for password in ("wonderland", "through"):
        with socks.socksocket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE)
            client.set_proxy(
                *(socks.SOCKS5, "127.0.0.1", server.port),
                username="alice",
                password=password,
            )
            if password == "wonderland":
                client.sendto(b"payload", target.name)
                assert client.recvfrom(MOST) == (b"PAYLOAD", target.name)
            else:
                with pytest.raises(socks.SOCKS5AuthError):
                    client.sendto(b"payload", target.name)
    assert target.got == [b"payload"]
    assert [each.get("user") for each in sessions(server, 2)] == ["alice", None]


# -- socks, of Node.js --------------------------------------------------------------


@pytest.fixture
def node(
    program: Program, run: Run, environment: dict[str, str]
) -> Callable[..., CompletedProcess[bytes]]:
    """
    Runs a script that uses the package socks.
    """
    node = program("node")
    # Where Debian has packages.
    environment["NODE_PATH"] = "/usr/share/nodejs"
    if run(node, "-e", "require('socks')").returncode != 0:
        missing = "node-socks is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)

    def running(script: str, *arguments: object) -> CompletedProcess[bytes]:
        done = run(node, "-e", script, *map(str, arguments))
        assert done.returncode == 0, done.stderr
        return done

    return running


NODE_UDP = """
const {SocksClient} = require('socks');
const [port, targetPort, ...hosts] = process.argv.slice(1);
const client = new SocksClient({
  proxy: {host: '127.0.0.1', port: +port, type: 5},
  command: 'associate',
  destination: {host: '0.0.0.0', port: 0},
});
client.on('error', error => { throw error; });
client.on('established', ({socket, remoteHost}) => {
  const udp = require('dgram').createSocket('udp4');
  const send = () => {
    const host = hosts.shift();
    if (host === undefined) {
      udp.close();
      socket.end();
      return;
    }
    udp.send(SocksClient.createUDPFrame({
      remoteHost: {host, port: +targetPort}, data: Buffer.from('to ' + host),
    }), remoteHost.port, remoteHost.host);
  };
  udp.on('message', datagram => {
    const {remoteHost: from, data} = SocksClient.parseUDPFrame(datagram);
    console.log(`${from.host} ${from.port} ${data}`);
    send();
  });
  send();
});
client.connect();
"""


def test_nodeUDP(
    start: Start,
    node: Callable[..., CompletedProcess[bytes]],
    serveUDP: Callable[..., UDPServer],
    sessions: Sessions,
) -> None:
    server = start()
    target = serveUDP(bytes.upper)
    port = target.name[1]
    serveUDP(bytes.upper, "::1", port)
    done = node(NODE_UDP, server.port, port, "127.0.0.1", "::1", "localhost")
    first, second, third = done.stdout.decode().splitlines()
    assert first == f"127.0.0.1 {port} TO 127.0.0.1"
    assert second.endswith(f"1 {port} TO ::1")
    assert third.endswith(f"1 {port} TO LOCALHOST")
    (session,) = sessions(server)
    assert counts(session) == ("ASSOCIATE", "00", "3", "3", None)


NODE_BIND = """
const {SocksClient} = require('socks');
const net = require('net');
const client = new SocksClient({
  proxy: {host: '127.0.0.1', port: +process.argv[1], type: 5},
  command: 'bind',
  destination: {host: '0.0.0.0', port: 0},
});
client.on('error', error => { throw error; });
client.on('bound', ({remoteHost}) => {
  const peer = net.connect(remoteHost.port, remoteHost.host, () => peer.write('hello'));
  peer.on('data', data => { console.log(`${peer.localPort} got ${data}`); peer.end(); });
});
client.on('established', ({socket, remoteHost}) => {
  console.log(`${remoteHost.host} ${remoteHost.port}`);
  socket.on('data', data => { console.log(`came ${data}`); socket.write('world'); });
  socket.resume();
});
client.connect();
"""


def test_nodeBIND(
    start: Start,
    node: Callable[..., CompletedProcess[bytes]],
    sessions: Sessions,
) -> None:
    server = start()
    replied, came, got = node(NODE_BIND, server.port).stdout.decode().splitlines()
    host, port = replied.split()
    assert (host, came, got) == ("127.0.0.1", "came hello", f"{port} got world")
    (session,) = sessions(server)
    assert facts(session) == ("BIND", "0.0.0.0:0", "00")
    assert session["dialled"] == f"127.0.0.1:{port}"
    assert (session["up"], session["down"]) == (5, 5)
