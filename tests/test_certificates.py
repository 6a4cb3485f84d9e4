# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Clients that are known by their TLS certificates.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.conftest import twistdIn
from tests.conversation import GREET, connectTo, pattern, readAll, readExactly, sending
from tests.test_listeners_started import dial, newKey, version1, write
from tests.test_start import refused

if TYPE_CHECKING:
    from tests.conftest import Server

CLIENTS = ("--authenticator", "certificate")

SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """
    Signs certificates.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.key = newKey()
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.serverKey = newKey()
        certificate = self.build(self.name, self.key)
        certificate = certificate.add_extension(x509.BasicConstraints(True, None), True)
        certificate = certificate.add_extension(SIGNS, True)
        self.save(certificate, f"{name}.pem")

    def build(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        begin: int = -2,
        end: int = 2,
    ) -> x509.CertificateBuilder:
        """
        @param begin: The day, from today, that it is valid from.
        @param end: The day that it is valid until.
        """
        now = datetime.now(UTC)
        # Python 3.13 accepts none that do not say whose key is whose.
        ours = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        its = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(begin))
            .not_valid_after(now + timedelta(end))
            .add_extension(ours, False)
            .add_extension(its, False)
        )

    def save(self, builder: x509.CertificateBuilder, file: str) -> None:
        certificate = builder.sign(self.key, hashes.SHA256())
        # Replaced as a whole, as a program that renews certificates does.
        new = self.folder / "new"
        new.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        new.rename(self.folder / file)

    def forServer(self) -> None:
        """
        C{server.pem} and C{server.key}, for C{localhost}.
        """
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        alternative = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        builder = self.build(name, self.serverKey).add_extension(alternative, False)
        write(self.serverKey, self.folder / "server.key")
        self.save(builder, "server.pem")

    def forClient(
        self,
        file: str,
        names: Sequence[str],
        alternatives: Sequence[x509.GeneralName] = (),
        purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
        begin: int = -2,
        end: int = 2,
    ) -> None:
        """
        C{FILE.pem} and C{FILE.key}, with those common names.
        """
        key = newKey()
        subject = x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names]
        )
        builder = self.build(subject, key, begin, end).add_extension(
            x509.ExtendedKeyUsage([purpose]), False
        )
        if alternatives:
            names_ = x509.SubjectAlternativeName(alternatives)
            builder = builder.add_extension(names_, False)
        write(key, self.folder / f"{file}.key")
        self.save(builder, f"{file}.pem")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """
    C{ours.pem} and C{others.pem} are authorities; C{alice} is a client of ours,
    C{mallory} one of the others.
    """
    ours, others = Authority(tmp_path, "ours"), Authority(tmp_path, "others")
    ours.forServer()
    ours.forClient("alice", ["alice"])
    ours.forClient("expired", ["alice"], begin=-2, end=-1)
    ours.forClient("early", ["alice"], begin=1, end=2)
    ours.forClient("server-only", ["alice"], purpose=ExtendedKeyUsageOID.SERVER_AUTH)
    others.forClient("mallory", ["alice"])
    return tmp_path


def endpoint(folder: Path, more: str = "") -> str:
    return (
        f"mtls:0:interface=127.0.0.1:privateKey={folder}/server.key"
        f":certKey={folder}/server.pem:clientCA={folder}/ours.pem{more}"
    )


def secure(
    server: Server,
    folder: Path,
    certificate: str | None = "alice",
    more: str = "",
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    authority: str = "ours",
) -> ssl.SSLSocket:
    """
    A connection by TLS, with a certificate of the client's.
    """
    context = ssl.create_default_context(cafile=str(folder / f"{authority}.pem"))
    context.minimum_version = context.maximum_version = version
    if version < ssl.TLSVersion.TLSv1_2:
        context.set_ciphers("ALL:@SECLEVEL=0")
    if certificate:
        context.load_cert_chain(
            folder / f"{certificate}.pem", folder / f"{certificate}.key"
        )
    return context.wrap_socket(
        dial(server, endpoint(folder, more)), server_hostname="localhost"
    )


def assertTurnedAway(
    server: Server,
    folder: Path,
    certificate: str | None,
    listener: socket.socket,
    more: str,
) -> None:
    """
    The handshake fails, in either version, and nothing is relayed.
    """
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            with secure(server, folder, certificate, more, version) as client:
                client.sendall(GREET + connectTo(listener.getsockname()[1]))
                assert client.recv(1) == b""  # in 1.3 a client learns of it late
                raise ConnectionError
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()
    listener.settimeout(10)


def isServed(client: ssl.SSLSocket, listener: socket.socket) -> None:
    with client:
        client.sendall(GREET + connectTo(listener.getsockname()[1]))
        assert readExactly(client, 5) == b"\x05\x00\x05\x00\x00"
        destination, _ = listener.accept()
        with destination:
            payload = pattern("certificate", 300000)
            with sending(client, payload):
                assert readExactly(destination, len(payload)) == payload


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_oldTLS(
    start: Callable[..., Server], folder: Path, version: ssl.TLSVersion
) -> None:
    server = start("--port", endpoint(folder), *CLIENTS)
    with pytest.raises(ssl.SSLError, match=r"(?i)alert.protocol.version"):
        secure(server, folder, version=version)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_certificate(
    start: Callable[..., Server],
    folder: Path,
    listener: socket.socket,
    version: ssl.TLSVersion,
) -> None:
    server = start("--port", endpoint(folder), *CLIENTS)
    isServed(secure(server, folder, version=version), listener)
    server.waitForLog("user=alice")


@pytest.mark.parametrize(
    ("certificate", "more"),
    [
        (None, ""),
        ("mallory", ""),
        ("expired", ""),
        ("early", ""),
        ("server-only", ""),
        ("mallory", ":clients=optional"),
        ("expired", ":clients=optional"),
    ],
)
def test_certificateIsNotGood(
    start: Callable[..., Server],
    folder: Path,
    listener: socket.socket,
    certificate: str | None,
    more: str,
) -> None:
    """
    Who shows one must show a good one, also where none is required.
    """
    server = start("--port", endpoint(folder, more), *CLIENTS)
    assertTurnedAway(server, folder, certificate, listener, more)
    isServed(secure(server, folder, "alice", more), listener)


@pytest.mark.parametrize(
    ("certificate", "offered", "arguments", "chosen"),
    [
        (None, b"\x00", (), 0xFF),
        (None, b"\x00\x02", ("--auth", "memory:user:password"), 0x02),
        (None, b"\x00", ("--auth", "memory:user:password"), 0xFF),
        (None, b"\x00", ("--authenticator", "none"), 0x00),
        ("alice", b"\x02", ("--auth", "memory:user:password"), 0x02),
        ("alice", b"\x02", (), 0xFF),
        ("alice", b"\x00\x02", ("--auth", "memory:user:password"), 0x00),
        ("alice", b"\x00", ("--authenticator", "none"), 0x00),
    ],
)
def test_optional(
    start: Callable[..., Server],
    folder: Path,
    certificate: str | None,
    offered: bytes,
    arguments: Sequence[str],
    chosen: int,
) -> None:
    """
    Octet 00 is a certificate's or nobody's, and without either it is refused.
    """
    more = ":clients=optional"
    server = start("--port", endpoint(folder, more), *CLIENTS, *arguments)
    with secure(server, folder, certificate, more) as client:
        client.sendall(bytes((5, len(offered))) + offered)
        assert readExactly(client, 2) == bytes((5, chosen))
        if chosen == 0x00:
            client.sendall(connectTo(0))
            readAll(client)
    if chosen == 0x00:
        server.waitForLog("session=2 ")
        assert ("user=alice" in server.output()) == (certificate is not None)


@pytest.mark.parametrize(
    ("names", "alternatives", "identity", "user"),
    [
        (["alice"], [x509.RFC822Name("a@example.org")], "cn", "alice"),
        (["alice"], [x509.RFC822Name("a@example.org")], "email", "a@example.org"),
        ([], [x509.DNSName("a.example.org")], "dns", "a.example.org"),
        (
            ["alice"],
            [x509.UniformResourceIdentifier("spiffe://example.org/a")],
            "uri",
            "spiffe://example.org/a",
        ),
        (["alice"], [x509.RFC822Name("a@example.org")], "dns", None),
        (["alice"], [], "email", None),
        ([], [x509.DNSName("alice")], "cn", None),
        (["alice", "admin"], [], "cn", None),
        (["alice"], [x509.DNSName("a"), x509.DNSName("b")], "dns", None),
        (["alice\x00admin"], [], "cn", None),
        (["alice\nadmin"], [], "cn", None),
        (["Älice"], [], "cn", r"\xc4lice"),
    ],
)
def test_identity(
    start: Callable[..., Server],
    folder: Path,
    names: Sequence[str],
    alternatives: Sequence[x509.GeneralName],
    identity: str,
    user: str | None,
) -> None:
    """
    There must be exactly one name of the kind that is asked for.
    """
    ours = Authority(folder, "ours")
    ours.forServer()
    ours.forClient("one", names, alternatives)
    server = start(
        *("--port", endpoint(folder)),
        *("--authenticator", f"certificate:identity={identity}"),
    )
    with secure(server, folder, "one") as client:
        client.sendall(GREET)
        if user is None:
            assert readAll(client) == b"\x05\xff"
        else:
            assert readExactly(client, 2) == b"\x05\x00"
            client.sendall(connectTo(0))
            readAll(client)
            server.waitForLog(f"user={user} ")


@pytest.mark.parametrize("sent", [GREET, GREET + connectTo(1), b"\x05\x01\x02"])
def test_clearText(start: Callable[..., Server], folder: Path, sent: bytes) -> None:
    """
    Too little for TLS to tell waits for the deadline, the rest does not.
    """
    server = start("--port", endpoint(folder), *CLIENTS, "--set", "timeout.handshake=1")
    with dial(server, endpoint(folder)) as client:
        client.sendall(sent)
        try:
            answer = readAll(client)
        except ConnectionResetError:
            answer = b""
    assert answer[:1] in (b"", b"\x15")  # at most an alert (RFC 8446, 6)
    server.waitForDescriptors(0)


def test_certificateOfTheBalancer(start: Callable[..., Server], folder: Path) -> None:
    """
    Where a PROXY header tells of clients, they have no certificates.
    """
    wrapped = f"haproxy:{endpoint(folder)}"
    server = start("--port", wrapped, "--port", endpoint(folder), *CLIENTS)
    context = ssl.create_default_context(cafile=str(folder / "ours.pem"))
    context.load_cert_chain(folder / "alice.pem", folder / "alice.key")
    with context.wrap_socket(
        dial(server, wrapped), server_hostname="localhost"
    ) as client:
        client.sendall(version1("127.0.0.7") + GREET)
        assert readAll(client) == b"\x05\xff"


def test_noTLS(start: Callable[..., Server], folder: Path) -> None:
    server = start("--port", endpoint(folder), *CLIENTS)
    with server.connect() as client:
        client.sendall(GREET)
        assert readAll(client) == b"\x05\xff"


def test_nobodyCouldGetIn(start: Callable[..., Server], folder: Path) -> None:
    for ports in (["0"], ["0", f"haproxy:{endpoint(folder)}"]):
        arguments = [word for port in ports for word in ("--port", port)]
        assert "--port mtls:" in refused(*arguments, *CLIENTS)
    start(*CLIENTS, "--auth", "memory:user:password")


def test_otherMachinesNeedNoOpen(start: Callable[..., Server], folder: Path) -> None:
    everywhere = endpoint(folder).replace(":interface=127.0.0.1", "")
    start("--port", everywhere, *CLIENTS)
    assert "--open" in refused("--port", everywhere)


# -- files that change ------------------------------------------------------------


def test_newAuthority(
    start: Callable[..., Server], folder: Path, listener: socket.socket
) -> None:
    server = start("--port", endpoint(folder), *CLIENTS)
    isServed(secure(server, folder), listener)
    os.link(folder / "others.pem", folder / "new")
    os.rename(folder / "ours.pem", folder / "old.pem")
    os.rename(folder / "new", folder / "ours.pem")
    isServed(secure(server, folder, "mallory", authority="old"), listener)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        with secure(server, folder, "alice", authority="old") as client:
            client.sendall(GREET)
            assert client.recv(1) == b""
            raise ConnectionError
    assert "others" not in server.output()


def test_newCertificate(
    start: Callable[..., Server], folder: Path, listener: socket.socket
) -> None:
    """
    New connections use it, and old ones live on.
    """
    server = start("--port", endpoint(folder), *CLIENTS)
    with secure(server, folder) as old:
        old.sendall(GREET)
        assert readExactly(old, 2) == b"\x05\x00"
        before = old.getpeercert(True)
        ours = Authority(folder, "ours")
        ours.forServer()
        ours.forClient("alice", ["alice"])
        with secure(server, folder) as new:
            assert new.getpeercert(True) not in (None, before)
        isServed(secure(server, folder), listener)
        old.sendall(connectTo(0))
        assert readAll(old)[:2] == b"\x05\x01"
    server.waitForLog("read again")


@pytest.mark.parametrize("file", ["server.key", "server.pem", "ours.pem"])
@pytest.mark.parametrize("content", [None, b"", b"nonsense", "others.pem", "alice.key"])
def test_filesThatBreak(
    start: Callable[..., Server],
    folder: Path,
    listener: socket.socket,
    file: str,
    content: bytes | str | None,
) -> None:
    """
    Those that were good stay in use, and the log tells once.
    """
    if (file, content) == ("ours.pem", "others.pem"):
        return  # that would be good
    server = start("--port", endpoint(folder), *CLIENTS)
    good = (folder / file).read_bytes()
    os.link(folder / "ours.pem", folder / "kept.pem")
    (folder / file).unlink()
    if content is not None:
        if isinstance(content, str):
            content = (folder / content).read_bytes()
        (folder / file).write_bytes(content)
    for _ in range(2):
        isServed(secure(server, folder, authority="kept"), listener)
    server.waitForLog("the certificates that are in use stay", 1)
    assert server.output().count("the certificates that are in use stay") == 1
    (folder / "new").write_bytes(good)
    (folder / "new").rename(folder / file)
    isServed(secure(server, folder, authority="kept"), listener)
    server.waitForLog("read again", 1)
    assert server.output().count("read again") == 1
    server.defects = 1


def test_otherFolder(
    start: Callable[..., Server],
    folder: Path,
    listener: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Relative paths are from where the command line was given.
    """
    monkeypatch.chdir(folder)
    (folder / "elsewhere").mkdir()
    relative = endpoint(folder).replace(f"{folder}/", "")
    command = twistdIn(folder / "elsewhere")
    server = start("--port", relative, *CLIENTS, command=command, started="SOCKS5 at")
    context = ssl.create_default_context(cafile=str(folder / "ours.pem"))
    context.load_cert_chain(folder / "alice.pem", folder / "alice.key")
    client = context.wrap_socket(dial(server, relative), server_hostname="localhost")
    isServed(client, listener)
    assert "stay" not in server.output()


def encrypt(key: Path) -> None:
    """
    Put a passphrase on a key.
    """
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"passphrase"),
        )
    )


def test_encryptedKey(
    start: Callable[..., Server], folder: Path, listener: socket.socket
) -> None:
    """
    Nobody is asked for its passphrase, neither while the server runs nor before.
    """
    server = start("--port", endpoint(folder), *CLIENTS)
    encrypt(folder / "server.key")
    isServed(secure(server, folder), listener)
    isServed(secure(server, folder), listener)
    told = f"{folder}/server.key: the private key is encrypted"
    server.waitForLog(told, 1)
    assert server.output().count(told) == 1
    server.defects = 1
    assert told in refused("--port", endpoint(folder), *CLIENTS)


@pytest.mark.parametrize("wrapping", ["", "haproxy:"])
def test_expired(start: Callable[..., Server], tmp_path: Path, wrapping: str) -> None:
    """
    The log warns of each of the certificates, also in the file of the key.
    """
    ours = Authority(tmp_path, "ours")
    old = ours.build(ours.name, ours.key, begin=-9, end=-1)
    extension = x509.BasicConstraints(True, None)
    ours.save(old.add_extension(extension, True), "ours.pem")
    write(ours.key, tmp_path / "key.pem")
    with open(tmp_path / "both.pem", "wb") as file:
        file.write((tmp_path / "key.pem").read_bytes())
        file.write((tmp_path / "ours.pem").read_bytes())
    server = start(
        *("--port", f"{wrapping}mtls:0:{tmp_path}/both.pem:{tmp_path}/ours.pem"),
        *("--port", f"ssl:0:{tmp_path}/key.pem:{tmp_path}/ours.pem", "--open"),
    )
    for path, times in (("both.pem", 1), ("ours.pem", 2)):
        told = f"{tmp_path}/{path}: the certificate of CN=ours expired on"
        server.waitForLog(told, times)
        assert server.output().count(told) == times


@pytest.mark.parametrize("wrong", ["", "key", "certificate", "names", "match"])
def test_folder(tmp_path: Path, wrong: str) -> None:
    """
    C{tls:} with a folder in which there is nothing to serve anybody with does not start;
    with one in which there is something, the line is about the next thing.
    """
    ours, folder = Authority(tmp_path, "ours"), tmp_path / "folder" / "deeper"
    folder.mkdir(parents=True)
    ours.forServer()
    if wrong != "key":
        written = tmp_path / "server.key" if wrong != "match" else tmp_path / "other"
        write(newKey(), tmp_path / "other")
        written.rename(folder / "key.pem")
    if wrong == "names":
        ours.save(ours.build(ours.name, ours.serverKey), "server.pem")
    if wrong != "certificate":
        (tmp_path / "server.pem").rename(folder / "certificate.pem")
    line = refused("--port", f"tls:{tmp_path}/folder:0")
    assert ("anybody could use this proxy" in line) == (not wrong)
    told = f"{tmp_path}/folder: no *.pem there has a private key and its certificate"
    assert (told in line) == bool(wrong)


def test_encryptedKeyInAFolder(tmp_path: Path) -> None:
    """
    Nobody is asked for its passphrase.
    """
    Authority(tmp_path, "ours").forServer()
    encrypt(tmp_path / "server.key")
    (tmp_path / "server.key").rename(tmp_path / "key.pem")
    line = refused("--port", f"tls:{tmp_path}:0")
    assert f"{tmp_path}/key.pem: the private key is encrypted" in line


# -- arguments ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ((":clientCA=FOLDER/ours.pem", ""), "'clientCA'; expected PORT:privateKey="),
        (("ours.pem", "missing.pem"), "FOLDER/missing.pem: No such file"),
        (("ours.pem", "alice.key"), "FOLDER/alice.key: no certificates"),
        (("server.key", "server.pem"), "FOLDER/server.pem: no private key"),
        (("server.pem", "server.key"), "FOLDER/server.key: no certificates"),
        (("server.key", "alice.key"), "FOLDER/alice.key is not the key of FOLDER/"),
        (("mtls:0:", "mtls:x:"), "port x: expected a number"),
        (("mtls:0:", "mtls:0:backlog=x:"), "backlog x: expected a number"),
        (("mtls:0:", "mtls:0:clients=maybe:"), "clients=maybe: expected required"),
        (("mtls:0:", "mtls:0:client=optional:"), "'client'"),
    ],
)
def test_wrongEndpoint(folder: Path, wrong: tuple[str, str], words: str) -> None:
    old, new = (text.replace("FOLDER", str(folder)) for text in wrong)
    line = refused("--port", endpoint(folder).replace(old, new), *CLIENTS)
    assert words.replace("FOLDER", str(folder)) in line.partition(".pem: ")[2] + line


def test_wrongIdentity() -> None:
    line = refused("--authenticator", "certificate:identity=dn")
    assert "--authenticator certificate: identity=dn: expected cn, dns" in line
