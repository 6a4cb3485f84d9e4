# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A started server that listens at other endpoints than TCP over IPv4.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.conversation import (
    GREET,
    connectTo,
    failure,
    loopback6,
    pattern,
    readAll,
    readExactly,
    reset,
    sending,
    sendUntilBlocked,
    tunnel,
)
from tests.test_start import refused

if TYPE_CHECKING:
    from tests.conftest import Server

HAPROXY = "haproxy:tcp:0:interface=127.0.0.1"


def dial(server: Server, endpoint: str) -> socket.socket:
    return socket.create_connection(server.address(endpoint), 10)


# -- tcp6: --------------------------------------------------------------------


def test_tcp6(startEach: Callable[..., Server], listener: socket.socket) -> None:
    loopback6().close()
    endpoint = "tcp6:0:interface=\\:\\:1"
    server = startEach("--port", endpoint)
    client, destination = tunnel(server, listener, dial(server, endpoint))
    with client, destination:
        client.sendall(b"data")
        client.shutdown(socket.SHUT_WR)
        assert readAll(destination) == b"data"
        destination.sendall(b"answer")
        destination.close()
        assert readAll(client) == b"answer"
    server.waitForLog("client=[::1]:")
    with dial(server, endpoint) as client:  # no way back to itself
        client.sendall(GREET + b"\x05\x01\x00\x04" + bytes(15) + b"\x01")
        client.sendall(server.address(endpoint)[1].to_bytes(2, "big"))
        assert readAll(client) == b"\x05\x00" + failure(2)


# -- unix: --------------------------------------------------------------------


def test_UNIX(
    start: Callable[..., Server], listener: socket.socket, tmp_path: Path
) -> None:
    path = str(tmp_path / "socks")
    server = start("--port", f"unix:{path}")

    def come() -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(10)
        client.connect(path)
        return client

    payload = pattern("unix", 3000000)
    client, destination = tunnel(server, listener, come())
    with client, destination:
        with sending(client, payload, thenEnd=True):
            assert readAll(destination) == payload
        with sending(destination, payload, thenEnd=True):
            assert readAll(client) == payload
    client, destination = tunnel(server, listener, come())
    with client, destination:
        destination.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
        client.sendall(b"still")
        assert readExactly(destination, 5) == b"still"
    client, destination = tunnel(server, listener, come())
    with client:
        reset(destination)
        with pytest.raises(ConnectionResetError):
            if not client.recv(1):
                raise ConnectionResetError  # there are no resets
    for sent in (b"", b"\x05", GREET, GREET + connectTo(1)[:5]):
        with come() as client:
            client.sendall(sent)
    server.waitForDescriptors(0)
    server.waitForLog("client=unix", 3)


# -- haproxy: -----------------------------------------------------------------


def version1(client: str) -> bytes:
    return f"PROXY TCP4 {client} 192.0.2.1 4711 1080\r\n".encode()


def version2(client: str) -> bytes:
    addresses = socket.inet_aton(client) + socket.inet_aton("192.0.2.1")
    return (
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"
        + addresses
        + (4711).to_bytes(2, "big")
        + (1080).to_bytes(2, "big")
    )


Header = Callable[[str], bytes]
versions = pytest.mark.parametrize("header", [version1, version2])


@versions
def test_PROXY(
    startEach: Callable[..., Server], listener: socket.socket, header: Header
) -> None:
    """
    The client is where the header says: in the log, and for the guard.
    """
    server = startEach("--open", "--port", HAPROXY)
    client = dial(server, HAPROXY)
    client.sendall(header("127.0.0.7"))
    payload = pattern("proxy", 3000000)
    client, destination = tunnel(server, listener, client)
    with client, destination:
        with sending(client, payload, thenEnd=True):
            assert readAll(destination) == payload
        with sending(destination, payload, thenEnd=True):
            assert readAll(client) == payload
    server.waitForLog("client=127.0.0.7:4711")
    with dial(server, HAPROXY) as client:
        client.sendall(
            header("203.0.113.7") + GREET + connectTo(listener.getsockname()[1])
        )
        assert readAll(client) == b"\x05\x00" + failure(2)
    server.waitForLog("client=203.0.113.7:4711")


@versions
def test_PROXYOneByteASegment(
    start: Callable[..., Server], listener: socket.socket, header: Header
) -> None:
    server = start("--open", "--port", HAPROXY)
    with dial(server, HAPROXY) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = connectTo(listener.getsockname()[1])
        for byte in header("127.0.0.7") + GREET + request + b"hello":
            client.sendall(bytes((byte,)))
        assert readExactly(client, 12)[:4] == b"\x05\x00\x05\x00"
        destination, _ = listener.accept()
        with destination:
            assert readExactly(destination, 5) == b"hello"


@versions
def test_PROXYClientLimit(start: Callable[..., Server], header: Header) -> None:
    """
    The limit for each client is that of the client, not of the balancer.
    """
    server = start("--open", "--port", HAPROXY, "--set", "limit.sessions-per-client=1")
    with dial(server, HAPROXY) as one, dial(server, HAPROXY) as other:
        for client, address in ((one, "127.0.0.7"), (other, "127.0.0.8")):
            client.sendall(header(address) + GREET)
            assert readExactly(client, 2) == b"\x05\x00"
        with dial(server, HAPROXY) as third:
            third.sendall(header("127.0.0.7") + GREET)
            try:
                assert readAll(third) == b""
            except ConnectionResetError:
                pass
        server.waitForLog("over limit.sessions-per-client")


@pytest.mark.parametrize(
    "sent",
    [
        GREET * 6,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PROXY NONSENSE\r\n" + GREET,
        b"PROXY " + b"x" * 200,
        b"PROXY TCP4 a b 1 2\r\n" + GREET,
        b"PROXY TCP6 127.0.0.1\x00 127.0.0.1 1 1\r\n" + GREET,
        version2("127.0.0.7")[:12] + b"\xff\xff\xff\xff" + bytes(300),
    ],
)
def test_PROXYHeaderIsWrong(start: Callable[..., Server], sent: bytes) -> None:
    server = start("--open", "--port", HAPROXY, "--set", "timeout.handshake=2")
    with dial(server, HAPROXY) as client:
        client.sendall(sent)
        try:
            assert readAll(client) == b""
        except ConnectionResetError:
            pass
    server.waitForDescriptors(0)


def test_PROXYOfTheBalancerItself(
    start: Callable[..., Server], listener: socket.socket
) -> None:
    """
    A header may say that there is no client but the balancer ("LOCAL").
    """
    server = start("--open", "--port", HAPROXY)
    client = dial(server, HAPROXY)
    client.sendall(b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")
    client, destination = tunnel(server, listener, client)
    client.close()
    destination.close()
    server.waitForLog("session=2 client=127.0.0.1:")


@versions
def test_PROXYHeaderIsCut(start: Callable[..., Server], header: Header) -> None:
    server = start("--open", "--port", HAPROXY, "--set", "timeout.handshake=2")
    whole = header("127.0.0.7")
    for length in range(len(whole)):
        for leave in (socket.socket.close, reset):
            client = dial(server, HAPROXY)
            client.sendall(whole[:length])
            leave(client)
    server.waitForDescriptors(0)
    with dial(server, HAPROXY) as client:  # nobody waits for ever
        client.sendall(whole[:-1])
        assert readAll(client) == b""


# -- ssl: ---------------------------------------------------------------------


def newKey() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def write(key: ec.EllipticCurvePrivateKey, path: Path) -> None:
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    A folder with C{key.pem}, its C{cert.pem}, an C{expired.pem} and one that
    is C{early.pem}, and C{other.pem}, another key.
    """
    folder = tmp_path_factory.mktemp("tls")
    key = newKey()
    write(key, folder / "key.pem")
    write(newKey(), folder / "other.pem")
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    for file, begin, end in (("cert", -1, 1), ("expired", -9, -1), ("early", 1, 9)):
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(begin))
            .not_valid_after(now + timedelta(end))
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName("localhost")]), False
            )
            .sign(key, hashes.SHA256())
        )
        (folder / f"{file}.pem").write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
        )
    return folder


def endpointFor(tls: Path, certificate: str = "cert", key: str = "key") -> str:
    return (
        f"ssl:0:interface=127.0.0.1:privateKey={tls}/{key}.pem"
        f":certKey={tls}/{certificate}.pem"
    )


def secure(server: Server, tls: Path, certificate: str = "cert") -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(tls / "cert.pem"))
    if certificate != "cert":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(
        dial(server, endpointFor(tls, certificate)),
        server_hostname="localhost",
        suppress_ragged_eofs=False,  # all but an end that was announced is an error
    )


def test_TLS(start: Callable[..., Server], listener: socket.socket, tls: Path) -> None:
    """
    The end of one direction ends both, after all bytes.
    """
    server = start("--port", endpointFor(tls))
    payload = pattern("tls", 5000000)
    client, destination = tunnel(server, listener, secure(server, tls))
    with client, destination:
        with sending(client, payload):
            assert readExactly(destination, len(payload)) == payload
        with sending(destination, payload, thenEnd=True):
            assert readAll(client) == payload
        client.close()
        assert readAll(destination) == b""


def test_TLSClientEnds(
    start: Callable[..., Server], listener: socket.socket, tls: Path
) -> None:
    server = start("--port", endpointFor(tls))
    payload = pattern("tls", 5000000)
    client, destination = tunnel(server, listener, secure(server, tls))
    assert isinstance(client, ssl.SSLSocket)
    with client, destination:
        with sending(client, payload):
            assert readExactly(destination, 1000000) == payload[:1000000]
            rest = readExactly(destination, len(payload) - 1000000)
        assert rest == payload[1000000:]
        client.unwrap().close()
        assert readAll(destination) == b""
    server.waitForDescriptors(0)


@pytest.mark.parametrize("byClient", [True, False])
def test_TLSReset(
    start: Callable[..., Server], listener: socket.socket, tls: Path, byClient: bool
) -> None:
    server = start("--port", endpointFor(tls))
    client, destination = tunnel(server, listener, secure(server, tls))
    one, other = (client, destination) if byClient else (destination, client)
    with other:
        reset(one)
        with pytest.raises((ConnectionResetError, ssl.SSLError)):
            other.recv(1)
    server.waitForDescriptors(0)


def test_TLSReaderThatDoesNotRead(
    start: Callable[..., Server], listener: socket.socket, tls: Path
) -> None:
    server = start("--port", endpointFor(tls), "--set", "timeout.write-stall=3")
    client, destination = tunnel(server, listener, secure(server, tls))
    payload = pattern("tls", 1000000) * 60
    with client, destination:
        before = server.memory()
        assert sendUntilBlocked(destination, payload) < len(payload)
        assert server.memory() - before < 8000000
        destination.close()
        server.waitForDescriptors(0)


@pytest.mark.parametrize("sent", [GREET, GREET * 100, b"\x16\x03\x01", b""])
def test_clearTextToTLS(start: Callable[..., Server], tls: Path, sent: bytes) -> None:
    server = start("--port", endpointFor(tls), "--set", "timeout.handshake=2")
    with dial(server, endpointFor(tls)) as client:
        client.sendall(sent)
        try:
            answer = readAll(client)
        except ConnectionResetError:
            answer = b""
        assert answer[:1] in (b"", b"\x15")  # at most an alert (RFC 8446, 6)
    server.waitForDescriptors(0)


def test_failureThroughTLS(start: Callable[..., Server], tls: Path) -> None:
    """
    The last reply is read in full.
    """
    server = start("--port", endpointFor(tls))
    with secure(server, tls) as client:
        client.sendall(GREET + connectTo(0) + b"x" * 100000)
        assert readAll(client) == b"\x05\x00" + failure(1)


def test_handshakeDeadlineThroughTLS(start: Callable[..., Server], tls: Path) -> None:
    server = start("--port", endpointFor(tls), "--set", "timeout.handshake=2")
    with secure(server, tls) as client:
        client.sendall(GREET)
        assert readAll(client) == b"\x05\x00"


@pytest.mark.parametrize(
    ("certificate", "words"),
    [("expired", "expired on"), ("early", "not valid before")],
)
def test_certificateOutOfDate(
    start: Callable[..., Server],
    listener: socket.socket,
    tls: Path,
    certificate: str,
    words: str,
) -> None:
    server = start("--port", endpointFor(tls, certificate))
    assert server.output().count(words) == 1
    client, destination = tunnel(server, listener, secure(server, tls, certificate))
    client.close()
    destination.close()


def test_keyOfAnotherCertificate(tls: Path) -> None:
    line = refused("--port", endpointFor(tls, key="other"))
    assert "match" in line.partition("cert.pem: ")[2]


@pytest.mark.parametrize("form", ["privateKey={0}:certKey={1}", "{0}:{1}"])
def test_encryptedKey(tls: Path, tmp_path: Path, form: str) -> None:
    """
    Nobody is asked for its passphrase.
    """
    key = serialization.load_pem_private_key((tls / "key.pem").read_bytes(), None)
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"passphrase"),
        )
    )
    files = form.format(tmp_path / "key.pem", tls / "cert.pem")
    assert "key.pem: the private key is encrypted" in refused(
        "--port", f"ssl:0:{files}"
    )


def test_keyThatIsNone(tls: Path, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(b"")
    endpoint = f"ssl:0:privateKey={tmp_path}/key.pem:certKey={tls}/cert.pem"
    assert "key" in refused("--port", endpoint)


# -- several ------------------------------------------------------------------


def test_oneCannotListen() -> None:
    """
    Then none does.
    """
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused("--port", "0", "--port", str(port))
    assert str(port) in line
    assert "in use" in line


def test_unreadablePasswords(tmp_path: Path) -> None:
    """
    They never become none.
    """
    assert "directory" in refused("--auth", f"file:{tmp_path}")


def test_passwordsThatVanish(start: Callable[..., Server], tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.touch(0o600)
    users.write_text("user:swordfish\n")
    server = start("--auth", f"file:{users}")
    users.unlink()
    with server.connect() as client:
        client.sendall(b"\x05\x01\x00")
        assert readAll(client) == b"\x05\xff"
    with server.connect() as client:
        client.sendall(b"\x05\x01\x02\x01\x04user\x09swordfish")
        assert readAll(client) == b"\x05\x02\x01\x01"
    server.defects = 1
    assert "swordfish" not in server.output()
