# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
GSSAPI (RFC 1961) with a started server and a KDC.
"""

from __future__ import annotations

import hashlib
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.association import ASSOCIATE, datagramSocket
from tests.association import frame as packDatagram
from tests.conversation import (
    connectTo,
    failure,
    pattern,
    readAll,
    readExactly,
    request,
    sending,
    sendUntilBlocked,
)
from tests.kdc import program
from tests.rfc1961 import (
    CONTEXT,
    DATA,
    LEVEL,
    SPNEGO,
    UNORDERED,
    Client,
    frame,
    initiator,
    readFrame,
)
from tests.test_start import refused

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.kdc import Realm

MIB = 1024 * 1024
REFUSED = b"\x01\xff"


def option(realm: Realm, more: str = "") -> str:
    return f"--authenticator=gssapi:keytab={realm.keytab}{more}"


def connect(server: Server, realm: Realm, **different: Any) -> Client:
    return Client(server.connect(), initiator(realm.tickets, **different))


def tunnel(
    server: Server, realm: Realm, listener: socket.socket, level: int = 2
) -> tuple[Client, socket.socket]:
    """
    A client and the destination that it has been connected to.
    """
    client = connect(server, realm)
    client.establish()
    assert client.agree(level) == level
    client.send(connectTo(listener.getsockname()[1]))
    destination, peer = listener.accept()
    destination.settimeout(10)
    bound = socket.inet_aton(peer[0]) + peer[1].to_bytes(2, "big")
    assert client.read(10) == b"\x05\x00\x00\x01" + bound
    return client, destination


def assertRefused(connection: socket.socket) -> None:
    assert readAll(connection) == REFUSED


# -- establishing a context (section 3) ------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        frame(CONTEXT, b"\xde\xad\xbe\xef"),
        frame(CONTEXT, b""),
        frame(CONTEXT, b"\x60"),
        frame(CONTEXT, bytes(65535)),
        frame(LEVEL, b"\x01"),
        frame(DATA, b"\xde\xad"),
        b"\x02\x01",
        REFUSED,
    ],
    ids=lambda message: message[:6].hex(),
)
def test_noContext(start: Callable[..., Server], realm: Realm, message: bytes) -> None:
    server = start(option(realm))
    with server.connect() as client:
        client.sendall(b"\x05\x01\x01")
        assert readExactly(client, 2) == b"\x05\x01"
        client.sendall(message)
        assertRefused(client)


@pytest.mark.parametrize("isMutual", [True, False])
def test_context(
    start: Callable[..., Server],
    realm: Realm,
    listener: socket.socket,
    isMutual: bool,
) -> None:
    """
    Where the mechanism has no token for the client, an empty one is sent.
    """
    server = start(option(realm))
    client = connect(server, realm, **({} if isMutual else {"flags": UNORDERED[1:]}))
    (token,) = client.establish()
    assert bool(token) is isMutual
    client.agree(1)
    client.send(connectTo(listener.getsockname()[1]))
    assert client.read(2) == b"\x05\x00"
    listener.accept()[0].close()
    client.connection.close()
    server.waitForLog("user=alice@SOCKS.TEST command=CONNECT")


def test_negotiatedMechanism(start: Callable[..., Server], realm: Realm) -> None:
    """
    By SPNEGO (RFC 4178).
    """
    client = connect(start(option(realm)), realm, mech=SPNEGO)
    client.establish()
    assert client.agree(2) == 2
    client.connection.close()


def test_ticketForAnotherService(start: Callable[..., Server], realm: Realm) -> None:
    server = start(option(realm))
    client = connect(server, realm, service="host@localhost")
    with client.connection as connection:
        connection.sendall(b"\x05\x01\x01" + frame(CONTEXT, client.context.step()))
        assert readExactly(connection, 2) == b"\x05\x01"
        assertRefused(connection)
    server.waitForLog("does not match server principal")


def test_anotherServiceOnRequest(start: Callable[..., Server], realm: Realm) -> None:
    server = start(option(realm, ":service=host@localhost"))
    client = connect(server, realm, service="host@localhost")
    client.establish()
    assert client.agree(2) == 2
    client.connection.close()


def test_sameTokenAgain(start: Callable[..., Server], realm: Realm) -> None:
    """
    Who has overheard one gains nothing.
    """
    server = start(option(realm))
    client = connect(server, realm)
    token = client.context.step()
    ahead = b"\x05\x01\x01" + frame(CONTEXT, token)
    with client.connection as first, server.connect() as second:
        first.sendall(ahead)
        assert readExactly(first, 4) == b"\x05\x01\x01\x01"
        second.sendall(ahead)
        assert readExactly(second, 2) == b"\x05\x01"
        assertRefused(second)


def test_newKeyInTheKeytab(start: Callable[..., Server], realm: Realm) -> None:
    """
    It needs no restart.
    """
    keytab = realm.newKeytab("rcmd/changing")
    server = start(f"--authenticator=gssapi:keytab={keytab}")
    realm.admin(f"ktadd -k {keytab} rcmd/changing")
    client = connect(server, realm, service="rcmd@changing")
    client.establish()
    assert client.agree(2) == 2
    client.connection.close()


def test_methods(start: Callable[..., Server], realm: Realm) -> None:
    only = start(option(realm))
    for offered, chosen in ((b"\x02\x00\x01", 0x01), (b"\x01\x00", 0xFF)):
        with only.connect() as client:
            client.sendall(b"\x05" + offered)
            assert readExactly(client, 2) == bytes((5, chosen))
    both = start(option(realm), "--auth", "memory:user:password")
    for offered, chosen in ((b"\x03\x00\x02\x01", 0x01), (b"\x02\x00\x02", 0x02)):
        with both.connect() as client:
            client.sendall(b"\x05" + offered)
            assert readExactly(client, 2) == bytes((5, chosen))


def test_manyAtOnce(start: Callable[..., Server], realm: Realm) -> None:
    server = start(option(realm))
    clients = [connect(server, realm) for _ in range(40)]
    for client in clients:
        first = frame(CONTEXT, client.context.step())
        client.connection.sendall(b"\x05\x01\x01" + first)
    for client in clients:
        assert readExactly(client.connection, 4) == b"\x05\x01\x01\x01"
    for client in clients:
        client.connection.close()


# -- agreeing on a level (section 4) -------------------------------------------------


@pytest.mark.parametrize(
    ("minimum", "asked", "answered"),
    [(1, 0, 1), (1, 1, 1), (1, 2, 2), (1, 3, 2), (2, 0, 2), (2, 1, 2), (2, 3, 2)],
)
def test_level(
    start: Callable[..., Server],
    realm: Realm,
    minimum: int,
    asked: int,
    answered: int,
) -> None:
    server = start(option(realm, f":minimum={minimum}"))
    client = connect(server, realm)
    client.establish()
    assert client.agree(asked) == answered
    client.connection.close()


def test_noLevel(start: Callable[..., Server], realm: Realm) -> None:
    """
    Neither one that does not exist, nor bytes that are not protected, nor
    those of another context.
    """
    server = start(option(realm))
    other = connect(server, realm)
    other.establish()
    for message in (
        lambda client: client.levelToken(4),
        lambda client: frame(LEVEL, client.context.wrap(b"\x01\x01", False).message),
        lambda client: frame(LEVEL, client.context.wrap(b"", False).message),
        lambda client: frame(LEVEL, b"\x02"),
        lambda client: frame(LEVEL, b""),
        lambda client: other.levelToken(1),
        lambda client: frame(CONTEXT, client.context.wrap(b"\x01", False).message),
    ):
        client = connect(server, realm)
        client.establish()
        client.connection.sendall(message(client))
        assertRefused(client.connection)
        client.connection.close()
    other.connection.close()


@pytest.mark.parametrize(("asked", "answered"), [(0, 1), (1, 1), (2, 2)])
def test_unprotectedAgreement(
    start: Callable[..., Server],
    realm: Realm,
    listener: socket.socket,
    asked: int,
    answered: int,
) -> None:
    """
    NEC's variant: the level itself is bare, what follows is not.
    """
    server = start(option(realm, ":nec=yes"))
    client = connect(server, realm)
    client.establish()
    client.connection.sendall(frame(LEVEL, bytes((asked,))))
    expected = frame(LEVEL, bytes((answered,)))
    assert readExactly(client.connection, 5) == expected
    client.level = answered
    client.send(connectTo(listener.getsockname()[1]))
    assert client.read(2) == b"\x05\x00"
    client.connection.close()
    again = connect(server, realm)  # who does as the RFC says is served too
    again.establish()
    assert again.agree(2) == 2
    again.connection.close()


@pytest.mark.parametrize(
    ("clear", "asked", "answered"),
    [("asked", 0, 0), ("asked", 1, 1), ("asked", 2, 2), ("always", 2, 0)],
)
def test_clear(
    start: Callable[..., Server],
    realm: Realm,
    listener: socket.socket,
    clear: str,
    asked: int,
    answered: int,
) -> None:
    server = start(option(realm, f":clear={clear}"))
    client = connect(server, realm)
    client.establish()
    assert client.agree(asked) == answered
    client.send(connectTo(listener.getsockname()[1]))
    assert client.read(2) == b"\x05\x00"
    client.connection.close()


# -- protection (section 5) ------------------------------------------------------------


@pytest.mark.parametrize("level", [1, 2])
def test_muchInManyTokens(
    start: Callable[..., Server],
    realm: Realm,
    listener: socket.socket,
    level: int,
) -> None:
    """
    In tokens of all sizes, and segments that begin and end anywhere in them.
    """
    client, destination = tunnel(start(option(realm)), realm, listener, level)
    payload = pattern(level, MIB)
    choice = random.Random(level)
    tokens, rest = b"", payload
    for size in (0, 1, 2, 65000, 15):
        tokens += client.protect(rest[:size])
        rest = rest[size:]
    while rest:
        size = choice.choice((1, 100, 4096, 65000))
        tokens += client.protect(rest[:size])
        rest = rest[size:]
    client.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    got = b""
    with client.connection, destination:
        for octet in tokens[:300]:  # three empty or short ones, octet by octet
            client.connection.sendall(bytes((octet,)))
        tokens = tokens[300:]
        while tokens:
            size = choice.choice((1, 3, 5, 1000, 70000))
            client.connection.sendall(tokens[:size])
            tokens = tokens[size:]
            destination.setblocking(False)
            try:
                got += destination.recv(MIB)
            except BlockingIOError:
                pass
        destination.settimeout(10)
        got += readExactly(destination, MIB - len(got))
        assert hashlib.sha256(got).digest() == hashlib.sha256(payload).digest()
        with sending(destination, payload, thenEnd=True):
            back = client.readAll()
        assert hashlib.sha256(back).digest() == hashlib.sha256(payload).digest()


@pytest.mark.parametrize("level", [1, 2])
def test_sentAhead(
    start: Callable[..., Server], realm: Realm, listener: socket.socket, level: int
) -> None:
    """
    A client that knows what it will get has its request and payload arrive
    together with the level that it asks for, and then ends.
    """
    client = connect(start(option(realm)), realm)
    client.establish()
    client.level = level
    ahead = client.levelToken(level)
    ahead += client.protect(connectTo(listener.getsockname()[1]))
    ahead += client.protect(b"ahead")
    client.connection.sendall(ahead)
    client.connection.shutdown(socket.SHUT_WR)
    answer = client.context.unwrap(readFrame(client.connection, LEVEL))
    assert answer.message == bytes((level,))
    destination, _ = listener.accept()
    with client.connection, destination:
        assert client.read(10)[:2] == b"\x05\x00"
        destination.settimeout(10)
        assert readAll(destination) == b"ahead"
        destination.sendall(b"answer")
        destination.close()
        assert client.readAll() == b"answer"


def test_refusalIsProtected(start: Callable[..., Server], realm: Realm) -> None:
    client = connect(start(option(realm)), realm)
    client.establish()
    client.agree(2)
    client.send(b"\x05\xf0\x00\x01\x7f\x00\x00\x01\x00\x50")
    assert client.readAll() == failure(7)
    client.connection.close()


def flipped(token: bytes) -> bytes:
    return token[:-1] + bytes((token[-1] ^ 0x10,))


def unencrypted(client: Client) -> bytes:
    return frame(DATA, client.context.wrap(b"bad", False).message)


def ofAnotherType(client: Client) -> bytes:
    return frame(LEVEL, client.context.wrap(b"bad", True).message)


def afterAGap(client: Client) -> bytes:
    client.protect(b"lost")
    return client.protect(b"bad")


@pytest.mark.parametrize(
    ("spoil", "good"),
    [
        (lambda client: flipped(client.protect(b"bad")), b""),
        (unencrypted, b""),
        (lambda client: b"bad", b""),
        (ofAnotherType, b""),
        (lambda client: frame(DATA, b""), b""),
        (afterAGap, b""),
        (lambda client: client.protect(b"twice") * 2, b"twice"),
    ],
    ids=["flipped", "unencrypted", "bare", "type", "empty", "gap", "replay"],
)
@pytest.mark.parametrize("inOneSegment", [True, False])
def test_tokenThatIsNotGood(
    start: Callable[..., Server],
    realm: Realm,
    listener: socket.socket,
    spoil: Callable[[Client], bytes],
    good: bytes,
    inOneSegment: bool,
) -> None:
    """
    What came before it is delivered, and nothing after it.
    """
    server = start(option(realm))
    client, destination = tunnel(server, realm, listener)
    with client.connection as connection, destination:
        before = client.protect(b"before")
        bad = spoil(client)
        after = client.protect(b"after")
        if inOneSegment:
            connection.sendall(before + bad + after)
        else:
            connection.sendall(before)
            assert readExactly(destination, 6) == b"before"
            connection.sendall(bad + after)
        assert readAll(destination) == (b"before" if inOneSegment else b"") + good
        with pytest.raises(ConnectionResetError):
            readAll(connection)
    server.waitForLog('reason="protection failed: ')


@pytest.mark.parametrize("level", [1, 2])
def test_flippedAnywhere(
    start: Callable[..., Server], realm: Realm, listener: socket.socket, level: int
) -> None:
    """
    Whichever octet of a token is not as it was.
    """
    server = start(option(realm))
    offset = 0
    while True:
        client, destination = tunnel(server, realm, listener, level)
        with client.connection as connection, destination:
            token = bytearray(client.protect(b"payload"))
            if offset == len(token):
                break
            token[offset] ^= 0x01
            connection.sendall(bytes(token) + client.protect(bytes(600)))
            assert readAll(destination) == b""
        offset += 1


def test_endAmidAToken(
    start: Callable[..., Server], realm: Realm, listener: socket.socket
) -> None:
    server = start(option(realm))
    client, destination = tunnel(server, realm, listener)
    with client.connection as connection, destination:
        connection.sendall(client.protect(b"whole") + client.protect(b"half")[:-1])
        connection.shutdown(socket.SHUT_WR)
        assert readAll(destination) == b"whole"
    server.waitForLog('reason="protection failed: StreamEnded"')


def test_reorderedWithoutDetection(
    start: Callable[..., Server], realm: Realm, listener: socket.socket
) -> None:
    """
    A client that does not ask for detection of order gets none; a token that
    comes twice is noticed all the same.
    """
    client = connect(start(option(realm)), realm, flags=UNORDERED)
    client.establish()
    client.agree(2)
    client.send(connectTo(listener.getsockname()[1]))
    destination, _ = listener.accept()
    with client.connection as connection, destination:
        assert client.read(10)[:2] == b"\x05\x00"
        one, two = client.protect(b"one"), client.protect(b"two")
        connection.sendall(two + one + two)
        assert readAll(destination) == b"twoone"


def test_halfClose(
    start: Callable[..., Server], realm: Realm, listener: socket.socket
) -> None:
    server = start(option(realm))
    client, destination = tunnel(server, realm, listener)
    with client.connection as connection, destination:
        client.send(b"question")
        connection.shutdown(socket.SHUT_WR)
        assert readAll(destination) == b"question"
        destination.sendall(b"answer")
        destination.close()
        assert client.readAll() == b"answer"
    client, destination = tunnel(server, realm, listener)
    with client.connection as connection, destination:
        destination.sendall(b"question")
        destination.shutdown(socket.SHUT_WR)
        assert client.readAll() == b"question"
        client.send(b"answer")
        connection.close()
        assert readAll(destination) == b"answer"


@pytest.mark.parametrize("toClient", [True, False])
def test_readerThatDoesNotRead(
    start: Callable[..., Server],
    realm: Realm,
    listener: socket.socket,
    toClient: bool,
) -> None:
    """
    Its peer is held up, with the proxy's memory as it was; when it reads at
    last, everything comes.
    """
    server = start(option(realm))
    client, destination = tunnel(server, realm, listener)
    block = pattern("block", 60000)
    payload = block * 500
    if toClient:
        writer, sent = destination, payload
    else:
        writer = client.connection
        sent = b"".join(client.protect(block) for _ in range(500))
    with client.connection, destination:
        before = server.memory()
        count = sendUntilBlocked(writer, sent)
        assert count < len(sent)  # the kernel's buffers, and little of ours
        assert server.memory() - before < 4 * MIB
        client.connection.settimeout(60)
        destination.settimeout(60)
        with sending(writer, sent[count:], thenEnd=True):
            got = client.readAll() if toClient else readAll(destination)
        assert hashlib.sha256(got).digest() == hashlib.sha256(payload).digest()
        assert server.memory() - before < 8 * MIB


@pytest.mark.parametrize("level", [1, 2])
def test_datagrams(start: Callable[..., Server], realm: Realm, level: int) -> None:
    """
    What is not good is dropped by itself, and so is what is too long.
    """
    client = connect(start(option(realm)), realm, flags=UNORDERED)
    client.establish()
    assert client.agree(level) == level
    client.send(request(ASSOCIATE, "0.0.0.0"))
    reply = client.read(10)
    assert reply[:8] == b"\x05\x00\x00\x01\x7f\x00\x00\x01"
    relay = ("127.0.0.1", int.from_bytes(reply[8:]))
    with client.connection, datagramSocket() as ours, datagramSocket() as target:
        name = target.getsockname()

        def wrapped(payload: bytes) -> bytes:
            return client.protect(packDatagram(payload, name))

        first, second = wrapped(b"first"), wrapped(b"second")
        unprotected = packDatagram(b"bare", name)
        for sent in (unprotected, flipped(wrapped(b"bad")), second + b"x"):
            ours.sendto(sent, relay)
        for sent, expected in ((second, b"second"), (first, b"first")):
            ours.sendto(sent, relay)
            payload, source = target.recvfrom(65535)
            assert payload == expected
        ours.sendto(first, relay)  # it came before
        largest = pattern("largest", 65000)
        ours.sendto(wrapped(largest), relay)
        assert target.recv(65535) == largest
        target.sendto(bytes(65500), source)  # no token has room for it
        for answer in (b"", b"answer", largest):
            target.sendto(answer, source)
            datagram = ours.recv(65535)
            assert datagram[:4] == b"\x01\x03" + (len(datagram) - 4).to_bytes(2)
            opened = client.context.unwrap(datagram[4:])
            assert opened.encrypted == (level == 2)
            assert opened.message == packDatagram(answer, name)


# -- starts that are refused --------------------------------------------------------


def refusedWith(*arguments: str, command: tuple[str, ...] = ()) -> str:
    done = subprocess.run(
        [*command, sys.executable, "-m", "twisted", "socks5", "--port=0", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("socks5: --authenticator gssapi: ")
    return line


def test_keytabIsMissing(realm: Realm) -> None:
    missing = "/nonexistent/proxy.keytab"
    line = refused(f"--authenticator=gssapi:keytab={missing}")
    assert line.endswith(f"keytab {missing}: No such file or directory")
    line = refused("--authenticator=gssapi")
    assert "the default keytab: Key table file" in line
    assert "nothing.keytab' not found" in line


def test_keytabIsUnreadable(realm: Realm, tmp_path: Path) -> None:
    keytab = tmp_path / "keytab"
    keytab.write_bytes(realm.keytab.read_bytes())
    keytab.chmod(0)
    option = f"--authenticator=gssapi:keytab={keytab}"
    mayAnything: tuple[str, ...] = ()
    if os.getuid() == 0:  # who may read anything, unless that is taken away
        bounded = "--bounding-set=-dac_override,-dac_read_search"
        mayAnything = (program("setpriv"), bounded)
    line = refusedWith(option, command=mayAnything)
    assert line.endswith("Permission denied")


def test_keytabWithoutThePrincipal(realm: Realm, tmp_path: Path) -> None:
    for service in ("socks", "rcmd@elsewhere"):
        line = refusedWith(option(realm, f":service={service}"))
        assert f"keytab {realm.keytab}: No key table entry found matching" in line
        assert service.replace("@", "/") in line
    garbage = tmp_path / "garbage"
    garbage.write_text("no keytab")
    line = refusedWith(f"--authenticator=gssapi:keytab={garbage}")
    assert "Unsupported key table format" in line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (":minimum=3", "minimum=3: expected 1 or 2"),
        (":minimum=none", "minimum=none: expected 1 or 2"),
        (":nec=maybe", "nec=maybe: expected yes or no"),
        (":clear=yes", "clear=yes: expected never, asked or always"),
        (":clear=asked:minimum=2", "clear=asked and minimum=2: either or"),
        (":keytap=x", "keytap"),
    ],
)
def test_wrongArgument(realm: Realm, arguments: str, expected: str) -> None:
    assert expected in refusedWith(option(realm, arguments))


def test_libraryIsMissing(realm: Realm) -> None:
    """
    As where the extra was not installed.
    """
    without = (
        "import runpy, sys; sys.modules['gssapi'] = None;"
        "runpy.run_module('twisted', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", without, "socks5", option(realm)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith("pip install twisted-socks5[gssapi]")


# -- libcurl -----------------------------------------------------------------------------

CURL = """
import sys
from io import BytesIO
try:
    import pycurl
except ImportError as error:
    sys.exit(f"missing: {error}")
if b"GSS" not in pycurl.version.encode().upper() and "krb5" not in pycurl.version:
    sys.exit(f"missing: GSSAPI in {pycurl.version}")
proxy, url, isNEC = sys.argv[1:]
curl, body = pycurl.Curl(), BytesIO()
curl.setopt(pycurl.URL, url)
curl.setopt(pycurl.PROXY, f"socks5h://{proxy}")
curl.setopt(pycurl.NOPROXY, "")
curl.setopt(pycurl.SOCKS5_GSSAPI_NEC, isNEC == "yes")
curl.setopt(pycurl.WRITEDATA, body)
curl.setopt(pycurl.TIMEOUT, 20)
try:
    curl.perform()
except pycurl.error as error:
    sys.exit(f"failed: {error}")
sys.stdout.buffer.write(body.getvalue())
"""


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"a page")

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def website() -> Iterator[str]:
    """
    The URL of a page.
    """
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()
        thread.join()


def curl(server: Server, realm: Realm, url: str, isNEC: bool) -> str:
    """
    What libcurl got, or what it says of why not.
    """
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            CURL,
            f"localhost:{server.port}",
            url,
            "yes" if isNEC else "no",
        ],
        env=os.environ | {"KRB5CCNAME": f"FILE:{realm.tickets}"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    if done.stderr.startswith("missing: "):
        assert os.environ.get("CI") != "true", done.stderr
        pytest.skip(done.stderr)
    return done.stdout + done.stderr


@pytest.mark.parametrize("isNEC", [False, True])
def test_curl(
    start: Callable[..., Server],
    realm: Realm,
    website: str,
    isNEC: bool,
) -> None:
    """
    It goes on only without protection.
    """
    nec = ":nec=yes" if isNEC else ""
    server = start(option(realm, f":clear=always{nec}"))
    assert curl(server, realm, website, isNEC) == "a page"
    server.waitForLog("user=alice@SOCKS.TEST command=CONNECT")
    strict = start(option(realm, nec))
    assert "failed: " in curl(strict, realm, website, isNEC)
