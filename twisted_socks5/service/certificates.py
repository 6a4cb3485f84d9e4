# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The files of keys and certificates that endpoint strings name, looked at before
anybody listens with them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from errno import ENOTDIR

import attrs
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import (
    Certificate,
    DNSName,
    ExtensionNotFound,
    SubjectAlternativeName,
    load_pem_x509_certificates,
)
from OpenSSL.crypto import FILETYPE_ASN1, dump_publickey
from twisted.logger import Logger

from twisted_socks5.mutualtls import loadKey
from twisted_socks5.observe.escape import escape
from twisted_socks5.service.plugins import parsePlugin

_log = Logger(namespace="twisted_socks5")

_POSITIONS = {
    "ssl": ("port", "privateKey", "certKey"),
    "mtls": ("port", "privateKey", "clientCA", "certKey"),
    "tls": ("path", "port"),
}
"""
What the arguments without a name are of the endpoints that we know; of any other,
only those with a name are.
"""


@attrs.frozen
class CertificateNames:
    """
    What an endpoint string says, as paths.

    @ivar kind: The endpoint's, that in C{haproxy:} if it is one.
    @ivar key: The server's private key.
    @ivar certificates: Its certificate, and the clients' authorities.
    @ivar folder: Where C{tls:} has keys and certificates, for many names.
    """

    kind: str
    key: str | None
    certificates: tuple[str, ...]
    folder: str | None

    @classmethod
    def fromText(cls, description: str) -> CertificateNames:
        """
        Those of an endpoint.

        @raise ValueError: An argument is given twice.
        """
        kind, positional, keyword = parsePlugin(description)
        while kind == "haproxy" and positional:
            kind, *positional = positional
        named = dict(zip(_POSITIONS.get(kind, ()), positional, strict=False)) | keyword
        key = named.get("privateKey", "server.pem" if kind == "ssl" else None)
        paths = named.get("certKey") or key, named.get("clientCA")
        folder = named.get("path") if kind == "tls" else None
        return cls(kind, key, tuple(path for path in paths if path), folder)


def checkCertificates(description: str) -> None:
    """
    Warn of certificates that have expired, or that are not valid yet.

    @raise OSError: A key cannot be read.
    @raise ValueError: OpenSSL would ask for the passphrase of a key, or there is nothing
        to serve anybody with.
    """
    names = CertificateNames.fromText(description)
    if names.kind == "ssl" and names.key is not None:  # mtls: looks for itself
        loadKey(names.key)
    if names.folder is not None:
        _checkFolder(names.folder)
    for path in names.certificates:
        _warnOf(path)


def _checkFolder(folder: str) -> None:
    """
    See that C{tls:} finds a key with its certificate.  It would listen without, and serve
    nobody.
    """
    keys: set[bytes] = set()
    certificates: list[Certificate] = []
    for path in _pemsIn(folder):
        with open(path, "rb") as file:
            if b"PRIVATE KEY-----" in file.read():
                keys.add(dump_publickey(FILETYPE_ASN1, loadKey(path)))
        certificates += _warnOf(path)
    for certificate in certificates:
        public = certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        if public in keys and _namesOf(certificate):
            return
    raise ValueError(
        f"{folder}: no *.pem there has a private key and its certificate for a DNS name"
    )


def _pemsIn(folder: str) -> Iterator[str]:
    if not os.path.isdir(folder):
        os.stat(folder)
        raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), folder)
    for parent, _, files in os.walk(folder):
        for name in sorted(files):
            if name.endswith(".pem"):
                yield os.path.join(parent, name)


def _namesOf(certificate: Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(SubjectAlternativeName)
    except ExtensionNotFound:
        return []
    return found.value.get_values_for_type(DNSName)


def _warnOf(path: str) -> list[Certificate]:
    """
    @return: The certificates in a file.
    """
    now = datetime.now(UTC)
    try:
        with open(path, "rb") as file:
            certificates = load_pem_x509_certificates(file.read())
    except (OSError, ValueError):
        return []  # listening will tell
    for certificate in certificates:
        if now > certificate.not_valid_after_utc:
            problem = f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
        elif now < certificate.not_valid_before_utc:
            problem = f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}"
        else:
            continue
        _log.warn(
            "{path}: the certificate of {subject} {problem}",
            path=path,
            subject=escape(certificate.subject.rfc4514_string()),
            problem=problem,
        )
    return certificates
