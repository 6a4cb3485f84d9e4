# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Ways out that a file of rules names.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from tests.association import Association, datagramSocket
from tests.conversation import (
    GREET,
    connectTo,
    connectToName,
    failure,
    freePorts,
    readAll,
    readExactly,
    readReply,
    request,
)
from tests.test_bind import assertTunnel, bind, come
from tests.test_revising import assertEnded, assertPasses
from tests.test_rules_file import ALLOW, DENY, told
from tests.test_start import refused
from twisted_socks5.device import bindToDevice
from twisted_socks5.policy.egress import FromAddress
from twisted_socks5.policy.routesfile import (
    Chained,
    OfPlugin,
    Proxied,
    Several,
    Straight,
)
from twisted_socks5.policy.rulesfile import parseRules
from twisted_socks5.routes import DirectRoute, NameResolver
from twisted_socks5.service.routes import RouteMaker
from twisted_socks5.tomltable import TOMLFileError

if TYPE_CHECKING:
    from tests.conftest import Server

    Start = Callable[..., Server]

VIA = f"{ALLOW}route = 'via'\n"


@pytest.fixture
def started(start: Start, tmp_path: Path) -> Callable[..., Server]:
    """
    Starts servers with rules.
    """

    def starting(text: str, *arguments: str) -> Server:
        path = tmp_path / "rules.toml"
        path.write_text(text)
        return start("--rules", str(path), *arguments)

    return starting


def connected(
    server: Server, listener: socket.socket, host: bytes = b""
) -> tuple[socket.socket, socket.socket]:
    """
    A client, and the destination that it is connected to.
    """
    client = server.connect()
    port = listener.getsockname()[1]
    client.sendall(GREET + (connectToName(host, port) if host else connectTo(port)))
    assert readExactly(client, 2) == b"\x05\x00"
    assert readReply(client)[0] == 0
    destination, _ = listener.accept()
    destination.settimeout(10)
    return client, destination


def assertGoes(server: Server, listener: socket.socket, host: bytes = b"") -> None:
    client, destination = connected(server, listener, host)
    with client, destination:
        assertPasses(client, destination)


def reload(server: Server, path: Path, text: str, times: int = 1) -> None:
    path.write_text(text)
    server.process.send_signal(signal.SIGHUP)
    server.waitForLog("the configuration was loaded", times)


# -- what is read ---------------------------------------------------------------------


def test_kinds() -> None:
    text = """
        [route.a]
        proxy = "tcp:127.0.0.1:9050"
        [route.b]
        proxy = "unix:/run/proxy"
        user = "alice"
        password-file = "secret"
        [route.c]
        chain = ["b", "a"]
        [route.d]
        bind = "192.0.2.7"
        interface = "eth0.5"
        [route.e]
        least = ["a", "d", "f"]
        [route.f]
        first = ["c", "d"]
        [route.g]
        plugin = "socks5:tcp\\\\:127.0.0.1\\\\:9"
        """
    routes = parseRules(ALLOW + text, "/etc/rules.toml").routes
    assert {name: route.way for name, route in routes.items()} == {
        "a": Proxied("tcp:127.0.0.1:9050"),
        "b": Proxied("unix:/run/proxy", "alice", "/etc/secret"),
        "c": Chained(("b", "a")),
        "d": Straight(FromAddress(ip_address("192.0.2.7")), "eth0.5"),
        "e": Several(("a", "d", "f"), isByLoad=True),
        "f": Several(("c", "d")),
        "g": OfPlugin(r"socks5:tcp\:127.0.0.1\:9"),
    }
    assert [str(route.way) for route in routes.values()] == [
        "proxy=tcp:127.0.0.1:9050",
        "proxy=unix:/run/proxy user=alice",
        "chain=b,a",
        "bind=192.0.2.7 interface=eth0.5",
        "least=a,d,f",
        "first=c,d",
        r"plugin=socks5:tcp\:127.0.0.1\:9",
    ]


A = "[route.a]\nproxy = 'tcp:127.0.0.1:1'\n"
D = "[route.d]\nbind = '127.0.0.1'\n"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[route.a]\nproxy = ''", 4, "expected something"),
        ("[route.a]\nproxy = ['x']", 4, "expected a text"),
        ("[route.a]\nproxi = 'x'", 4, "did you mean proxy?"),
        ("[route.a]\nproxy = 'x'\nbind = '::1'", 3, "expected bind, interface or"),
        ("[route.a]\nproxy = 'x'\nplugin = 'y'", 3, "expected bind, interface or"),
        ("[route.a]\nproxy = 'x'\nuser = 'y'", 3, "expected user and password-file"),
        ("[route.a]\nproxy = 'x'\npassword-file = 'y'", 3, "expected user and"),
        ("[route.a]\nbind = '::1'\nuser = 'y'", 5, "user: expected it beside proxy"),
        ("[route.a]\ninterface = 'a b'", 4, "expected the name of a network"),
        ("[route.a]\ninterface = 'sixteen-letters-'", 4, "expected the name of a"),
        ("[route.a]\ninterface = '../lo'", 4, "expected the name of a network"),
        ("[route.a]\ninterface = ''", 4, "expected the name of a network"),
        ('[route.""]\nproxy = "tcp:h:1"', 1, "route '': expected letters, digits"),
        ('[route."a b"]\nproxy = "tcp:h:1"', 1, "route 'a b': expected letters"),
        ("[route.b]\nchain = []", 4, "the list is empty"),
        (A + "[route.b]\nchain = ['a', 'x']", 6, "x: no such route; expected one of"),
        (A + D + "[route.b]\nchain = ['a', 'd']", 8, "d: expected a route that has"),
        (A + "[route.b]\nchain = ['a', 'a']", 6, "a is there twice"),
        (A + "[route.b]\nleast = ['a', 'b']", 6, "b: it comes back to this route"),
        (
            "[route.b]\nleast = 'c'\n[route.c]\nfirst = 'b'",
            4,
            "c: it comes back to this route; expected another",
        ),
    ],
)
def test_mistakes(text: str, line: int, words: str) -> None:
    with pytest.raises(TOMLFileError) as error:
        parseRules(ALLOW + text, "/etc/rules.toml")
    assert str(error.value).startswith(f"/etc/rules.toml:{line}: ")
    assert words in str(error.value)
    assert "expected" in str(error.value) or "twice" in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("proxy = 'nonsense'", "expected a client endpoint, like tcp:127.0.0.1:1080"),
        ("proxy = 'tcp:127.0.0.1'", "expected a client endpoint, like tcp:"),
        ("proxy = 'tcp:h:1'\nuser = 'a'\npassword-file = '/nowhere'", "No such file"),
        ("plugin = 'nosuch:x'", "plugin nosuch: no such plugin; there is socks5"),
        ("plugin = 'socks5'", "plugin socks5:"),
        ("interface = 'nosuch0'", "interface nosuch0: this host has no such"),
    ],
)
def test_cannotBeMade(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(f"{VIA}[route.via]\n{text}\n")
    line = refused("--port", "0", "--rules", str(path))
    assert line.startswith(f"socks5: {path}:4: route via: ")
    assert words in line


@pytest.mark.parametrize(
    "endpoint", ["unix:/x", "tcp:h", "tcp:h:0", "tcp:h:1:2", "tcp:a b:1", "x"]
)
def test_aChainThatCannotBe(tmp_path: Path, endpoint: str) -> None:
    path = tmp_path / "rules.toml"
    chain = f"[route.via]\nchain = ['a', 'b']\n{A}[route.b]\nproxy = '{endpoint}'\n"
    path.write_text(VIA + chain)
    assert refused("--port", "0", "--rules", str(path)).startswith(
        f"socks5: {path}:4: route via: b: proxy: {endpoint}: expected "
        if endpoint in ("unix:/x", "tcp:h:0", "tcp:a b:1")
        else f"socks5: {path}:8: route b: proxy: {endpoint}: expected "
    )


def test_noInterfaceWithAnotherWayOut(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(f"{VIA}[route.via]\ninterface = 'lo'\n")
    line = refused(
        "--port", "0", "--rules", str(path), "--route", r"socks5:tcp\:127.0.0.1\:9"
    )
    assert "route via: expected no interface, since the server has --route" in line


# -- through a proxy ------------------------------------------------------------------


def secret(folder: Path, text: str = "wonderland\n") -> Path:
    path = folder / "secret"
    path.touch(0o600)
    path.write_text(text)
    return path


def test_throughAProxy(
    start: Start, started: Start, listener: socket.socket, tmp_path: Path
) -> None:
    """
    With a password, that nothing tells; CONNECT, BIND and datagrams.
    """
    secret(tmp_path)
    second = start("--auth", "memory:alice:wonderland")
    first = started(
        f"{VIA}[route.via]\nproxy = 'tcp:127.0.0.1:{second.port}'\n"
        "user = 'alice'\npassword-file = 'secret'\n"
    )
    assertGoes(first, listener)
    assertGoes(first, listener, b"localhost")
    second.waitForLog("user=alice")
    second.waitForLog(f"target=localhost:{listener.getsockname()[1]} ")
    client, bound = bind(first)
    with come(bound) as peer, client:
        assertTunnel(client, peer)
    with datagramSocket() as target, Association(first) as association:
        association.assertServed(target)
        association.assertServed(target, "localhost")
        second.waitForLog("session=")
    assert "wonderland" not in first.output()
    assert "secret" not in first.output()


def test_othersCanReadThePassword(
    start: Start, started: Start, listener: socket.socket, tmp_path: Path
) -> None:
    path = secret(tmp_path)
    path.chmod(0o644)
    second = start("--auth", "memory:alice:wonderland")
    first = started(
        f"{VIA}[route.via]\nproxy = 'tcp:127.0.0.1:{second.port}'\n"
        f"user = 'alice'\npassword-file = '{path}'\n"
    )
    first.waitForLog(f"other users of this host can read {path}; chmod 600")
    assertGoes(first, listener)


def test_aPasswordThatChanges(
    start: Start, started: Start, listener: socket.socket, tmp_path: Path
) -> None:
    """
    It is read again with the rules.
    """
    path = secret(tmp_path, "wrong")
    second = start("--auth", "memory:alice:wonderland")
    text = (
        f"{VIA}[route.via]\nproxy = 'tcp:127.0.0.1:{second.port}'\n"
        f"user = 'alice'\npassword-file = '{path}'\n"
    )
    first = started(text)
    with first.connect() as client:
        client.sendall(GREET + connectTo(listener.getsockname()[1]))
        assert readAll(client) == b"\x05\x00" + failure(1)
    path.write_text("wonderland")
    reload(first, tmp_path / "rules.toml", text)
    assertGoes(first, listener)


def test_whatAProxyLooksUp(
    start: Start, started: Start, listener: socket.socket
) -> None:
    """
    Where addresses are not known, nothing is allowed that one of them may forbid.
    """
    second = start()
    first = started(
        f"{DENY}to = 'private'\n{VIA}[route.via]\n"
        f"proxy = 'tcp:127.0.0.1:{second.port}'\n"
    )
    port = listener.getsockname()[1]
    with first.connect() as client:
        client.sendall(GREET + connectToName(b"localhost", port))
        assert readAll(client) == b"\x05\x00" + failure(2)
    first.waitForLog("asks for an address, of which route via does not tell")
    assertGoes(first, listener)
    assert "target=localhost" not in second.output()


def test_aChain(start: Start, started: Start, listener: socket.socket) -> None:
    """
    From one proxy to the next.
    """
    last = start()
    middle = start()
    first = started(
        f"{VIA}[route.via]\nchain = ['middle', 'last']\n"
        f"[route.middle]\nproxy = 'tcp:127.0.0.1:{middle.port}'\n"
        f"[route.last]\nproxy = 'tcp:host=localhost:port={last.port}'\n"
    )
    # Who is on this host gets no further: to a listener of its own, a server has
    # nobody go, but to that of another it has.
    assertGoes(first, listener, b"localhost")
    port = listener.getsockname()[1]
    middle.waitForLog(f"target=localhost:{last.port} ")
    last.waitForLog(f"target=localhost:{port} ")
    assert f"target=localhost:{port} " not in middle.output()
    client, bound = bind(first)
    with come(bound) as peer, client:
        assertTunnel(client, peer)


# -- by an interface --------------------------------------------------------------------


@pytest.fixture
def canBeKept() -> None:
    """
    Tests of network interfaces need a kernel that lets us.
    """
    with socket.socket() as probe:
        try:
            bindToDevice(probe, "lo")
        except PermissionError:
            assert os.environ.get("CI") != "true", "SO_BINDTODEVICE is not permitted"
            pytest.skip("SO_BINDTODEVICE is not permitted")


@pytest.mark.usefixtures("canBeKept")
def test_byAnInterface(started: Start, listener: socket.socket) -> None:
    text = f"{VIA}[route.via]\ninterface = 'lo'\nbind = '127.0.0.6'\n"
    server = started(text)
    client, destination = connected(server, listener)
    with client, destination:
        assert destination.getpeername()[0] == "127.0.0.6"
        assertPasses(client, destination)
    client, bound = bind(server)
    with come(bound) as peer, client:
        assertTunnel(client, peer)
    with datagramSocket() as target, Association(server) as association:
        assert association.assertServed(target)[0] == "127.0.0.6"


def _otherInterface() -> str:
    for _, name in socket.if_nameindex():
        if name != "lo":
            return name
    assert os.environ.get("CI") != "true", "there is no other interface than lo"
    pytest.skip("there is no other interface than lo")


@pytest.mark.usefixtures("canBeKept")
def test_byAnotherInterface(started: Start, listener: socket.socket) -> None:
    """
    Nothing of this host is reached by it, or reaches it: not by TCP, not by UDP.
    """
    other = _otherInterface()
    port = listener.getsockname()[1]
    server = started(
        f"{VIA}[route.via]\ninterface = '{other}'\n", "--set", "timeout.connect=0.5"
    )
    with server.connect() as client:
        client.sendall(GREET + connectTo(port))
        assert readAll(client)[3] != 0
    with server.connect() as client:
        client.sendall(GREET + request(2, "0.0.0.0"))
        assert readExactly(client, 2) == b"\x05\x00"
        reply, bound = readReply(client)
        assert reply == 0
        with pytest.raises(OSError):
            socket.create_connection(bound, 1).close()
    with datagramSocket() as target, Association(server) as association:
        association.send(b"no", target.getsockname())
        target.settimeout(0.3)
        with pytest.raises(TimeoutError):
            target.recv(1)
    listener.settimeout(0)
    with pytest.raises(BlockingIOError):
        listener.accept()


# -- several ------------------------------------------------------------------------------


def test_theFirstThatWorks(
    start: Start, started: Start, listener: socket.socket
) -> None:
    """
    Of all kinds: a proxy that is not there, an address that this host has not, a
    chain, and ways of several.
    """
    second = start()
    good = f"proxy = 'tcp:127.0.0.1:{second.port}'\n"
    first = started(
        f"{VIA}[route.via]\nfirst = ['gone', 'none', 'more']\n"
        f"[route.gone]\nproxy = 'tcp:127.0.0.1:{freePorts(1)}'\n"
        "[route.none]\nbind = '192.0.2.77'\n"
        "[route.more]\nleast = ['gone', 'chain']\n"
        f"[route.chain]\nchain = ['good']\n[route.good]\n{good}"
    )
    assertGoes(first, listener)
    second.waitForLog(f"target=127.0.0.1:{listener.getsockname()[1]} ")
    client, bound = bind(first)
    with come(bound) as peer, client:
        assertTunnel(client, peer)
    with datagramSocket() as target, Association(first) as association:
        association.send(b"hello", target.getsockname())
    with first.connect() as client:
        client.sendall(GREET + connectTo(freePorts(1)))
        assert readAll(client) == b"\x05\x00" + failure(5)


LEAST = """
[route.via]
least = ["a", "b"]
[route.a]
bind = "127.0.0.7"
[route.b]
bind = "127.0.0.8"
"""


class Tunnels:
    """
    Tunnels, of which it is known where they come from.
    """

    def __init__(self, server: Server, listener: socket.socket) -> None:
        self._server = server
        self._listener = listener
        self.open: dict[str, list[tuple[socket.socket, socket.socket]]] = {
            "a": [],
            "b": [],
        }

    def add(self) -> str:
        """
        @return: By which way it goes.
        """
        pair = connected(self._server, self._listener)
        name = {"127.0.0.7": "a", "127.0.0.8": "b"}[pair[1].getpeername()[0]]
        self.open[name].append(pair)
        return name

    def end(self, name: str, count: int = 1) -> None:
        text = "twisted_socks5.access#info] session="
        before = self._server.output().count(text)
        for _ in range(count):
            for one in self.open[name].pop():
                one.close()
        self._server.waitForLog(text, before + count)


def test_theLeastUsed(
    startEach: Start, listener: socket.socket, tmp_path: Path
) -> None:
    """
    By attempts, tunnels, ports of BIND and associations that live; a reload with
    the same ways counts on.
    """
    path = tmp_path / "rules.toml"
    path.write_text(VIA + LEAST)
    server = startEach("--rules", str(path))
    tunnels = Tunnels(server, listener)
    assert [tunnels.add() for _ in range(4)] == ["a", "b", "a", "b"]
    tunnels.end("a", 2)
    assert [tunnels.add() for _ in range(2)] == ["a", "a"]
    tunnels.end("b")
    reload(server, path, f"{DENY}to = '192.0.2.1'\n{VIA}{LEAST}")
    assert tunnels.add() == "b"
    tunnels.end("a", 2)
    tunnels.end("b", 2)
    with Association(server):
        assert tunnels.add() == "b"
        tunnels.end("b")
    server.waitForDescriptors(0)
    client, bound = bind(server)
    assert tunnels.add() == "b"
    with client, come(bound) as peer:
        assertTunnel(client, peer)
        assert tunnels.add() == "a"
        assert tunnels.add() == "b"
        tunnels.end("a")
        tunnels.end("b", 2)
        assert tunnels.add() == "b"
        tunnels.end("b")
    server.waitForDescriptors(0)
    with server.connect() as client:
        client.sendall(GREET + connectTo(freePorts(1)))
        assert readAll(client) == b"\x05\x00" + failure(5)
    waiting, _ = bind(server)
    waiting.close()
    server.waitForDescriptors(0)
    assert tunnels.add() == "a"
    tunnels.end("a")


@pytest.mark.parametrize("kind", ["first", "least"])
def test_anAddressForEachSession(
    started: Start, listener: socket.socket, kind: str
) -> None:
    """
    One of several may have any address of a network, or that which the client has
    connected to, also by an interface.
    """
    server = started(
        f"{ALLOW}to = 'localhost.'\nroute = 'network'\n"
        f"{ALLOW}route = 'listener'\n"
        f"[route.network]\n{kind} = ['none', 'a']\n[route.a]\nbind = '127.7.0.0/16'\n"
        f"[route.listener]\n{kind} = ['none', 'more']\n"
        f"[route.more]\n{kind} = ['b']\n[route.b]\nbind = 'listener'\n"
        "[route.none]\nbind = '192.0.2.0/25'\n",
        *("--port", "tcp:0:interface=127.0.0.9"),
    )
    froms = set()
    for _ in range(4):
        client, destination = connected(server, listener, b"localhost")
        with client, destination:
            froms.add(destination.getpeername()[0])
    assert len(froms) > 1
    assert all(source.startswith("127.7.") for source in froms)
    server.port = server.address("tcp:0:interface=127.0.0.9")[1]
    with socket.create_connection(("127.0.0.9", server.port), 10) as control:
        client, bound = bind(server, client=control)
        assert bound[0] == "127.0.0.9"
        with come(bound) as peer:
            assertTunnel(client, peer)
    with (
        datagramSocket() as target,
        socket.create_connection(("127.0.0.9", server.port), 10) as control,
        Association(server, control) as association,
    ):
        assert association.assertServed(target)[0] == "127.0.0.9"


def test_anAddressThatIsNotHere(started: Start) -> None:
    """
    Who is to send datagrams from it is told at once.
    """
    server = started(f"{ALLOW}bind = '192.0.2.77'\n")
    with server.connect() as client:
        client.sendall(GREET + request(3, "0.0.0.0"))
        assert readAll(client) == b"\x05\x00" + failure(3)


# -- routes that change ---------------------------------------------------------------


def test_sessionsOfAnotherRoute(
    start: Start, started: Start, listener: socket.socket, tmp_path: Path
) -> None:
    """
    What was left to a proxy, and cannot be judged now, ends; so does an association
    whose way nobody has any more.
    """
    second, third = start(), start()

    def via(server: Server) -> str:
        return f"{VIA}[route.via]\nproxy = 'tcp:127.0.0.1:{server.port}'\n"

    first = started(via(second))
    path = tmp_path / "rules.toml"
    byName = connected(first, listener, b"localhost")
    byAddress = connected(first, listener)
    with Association(first) as association, datagramSocket() as target:
        association.assertServed(target)
        reload(first, path, DENY + "to = 'evil.example'\n" + via(second))
        association.assertServed(target)
        reload(first, path, via(third), 2)
        assertEnded(association.control)
    assertPasses(*byName)
    assertPasses(*byAddress)
    reload(first, path, DENY + "to = '192.0.2.0/24'\n" + ALLOW, 3)
    assertEnded(*byName)
    assertPasses(*byAddress)
    for one in byAddress:
        one.close()
    first.waitForLog("rule 1 (allow route=via) goes another way now")
    first.waitForLog("rule 2 (allow) goes another way now")


def test_answersThroughAProxy(start: Start, started: Start, tmp_path: Path) -> None:
    """
    Nothing is sent any more to what is denied now, nor taken from there.
    """
    second = start()
    path = tmp_path / "rules.toml"
    via = f"{VIA}[route.via]\nproxy = 'tcp:127.0.0.1:{second.port}'\n"
    first = started(via)
    with (
        datagramSocket("127.0.0.5") as denied,
        datagramSocket() as stays,
        Association(first) as client,
    ):
        source = client.assertServed(denied)
        client.assertServed(stays)
        reload(first, path, f"{DENY}to = '127.0.0.5'\n{via}")
        client.send(b"no", denied.getsockname())
        denied.sendto(b"no", source)
        stays.sendto(b"unasked", source)
        assert client.receive() == (b"unasked", stays.getsockname())
        client.assertServed(stays)
        reload(first, path, via, 2)
        client.assertServed(denied)
        client.assertServed(stays, "localhost")
    first.waitForLog('dropped=denied:1,stranger:1 denial="rule 1 (deny to=127.0.0.5)"')


# -- of a plugin ------------------------------------------------------------------------


def test_aPluginsRoute(start: Start, started: Start, listener: socket.socket) -> None:
    second = start()
    first = started(
        f"{VIA}[route.via]\nplugin = 'socks5:tcp\\:127.0.0.1\\:{second.port}'\n"
    )
    assertGoes(first, listener, b"localhost")
    second.waitForLog(f"target=localhost:{listener.getsockname()[1]} ")


# -- what is made -------------------------------------------------------------------------


def maker(**options: Any) -> RouteMaker:
    clock: Any = MemoryReactorClock()
    own: Any = DirectRoute(clock, NameResolver(clock))
    return RouteMaker(clock, own, **options)


def test_whatIsTheSameIsTaken(tmp_path: Path) -> None:
    path = secret(tmp_path)
    text = (
        f"{ALLOW}{A}[route.p]\nproxy = 'tcp:h:1'\nuser = 'u'\npassword-file = '{path}'\n"
        "[route.c]\nchain = ['a', 'p']\n[route.l]\nleast = ['p', 'c', 'b']\n"
        "[route.b]\nbind = '127.0.0.1'\n"
    )
    making = maker()
    one, blind = making.make(parseRules(text).routes)
    assert blind == {"a", "p", "c", "l"}
    assert one.pop("b") is None
    other, _ = making.make(parseRules("\n" + text).routes)
    assert all(one[name] is other[name] for name in one)
    path.write_text("another")
    other, _ = making.make(parseRules(text).routes)
    same = {name for name in one if one[name] is other[name]}
    assert same == {"a"}


def test_forShowNothingIsAskedFor(tmp_path: Path) -> None:
    text = f"{ALLOW}[route.p]\nproxy = 'tcp:h:1'\nuser = 'u'\npassword-file = '/none'\n"
    with pytest.raises(ValueError, match="/none: No such file"):
        maker().make(parseRules(text).routes)
    _, blind = maker(isForShow=True).make(parseRules(text).routes)
    assert blind == {"p"}


# -- why ----------------------------------------------------------------------------------


SPLIT = f"""
{ALLOW}to = "*.onion"
route = "tor"
[[rule]]
action = "allow"
bind = "127.0.0.2"
[route.tor]
proxy = "tcp:127.0.0.1:9050"
user = "u"
password-file = "/nowhere"
"""


@pytest.mark.parametrize("command", ["CONNECT", "BIND"])
def test_explain(tmp_path: Path, command: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(SPLIT)
    status, lines, asked = told(path, f"{command} a.onion:80")
    assert (status, asked) == (0, [])
    assert lines[-3:] == [
        "  a.onion is not looked up here, but at the other end",
        "  by route tor (proxy=tcp:127.0.0.1:9050 user=u)",
        "allowed by rule 1 (allow to=*.onion route=tor)",
    ]
    status, lines, asked = told(path, f"{command} a.example:80", a_example="9.9.9.9")
    assert (status, asked) == (0, ["a.example"])
    assert lines[-2:] == [
        "  by the server's own way out, from 127.0.0.2",
        "allowed by rule 2 (allow bind=127.0.0.2)",
    ]
