# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The files of keys and certificates that endpoint strings name, looked at before
anybody listens with them.
"""

from __future__ import annotations

from datetime import UTC, datetime

import attrs
from cryptography.x509 import load_pem_x509_certificates
from twisted.logger import Logger

from twisted_socks5.mutualtls import loadKey
from twisted_socks5.observe.escape import escape
from twisted_socks5.service.plugins import parsePlugin

_log = Logger(namespace="twisted_socks5")

_POSITIONS = {
    "ssl": ("port", "privateKey", "certKey"),
    "mtls": ("port", "privateKey", "clientCA", "certKey"),
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
    """

    kind: str
    key: str | None
    certificates: tuple[str, ...]

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
        return cls(kind, key, tuple(path for path in paths if path))


def checkCertificates(description: str) -> None:
    """
    Warn of certificates that have expired, or that are not valid yet.

    @raise OSError: A key cannot be read.
    @raise ValueError: OpenSSL would ask for the passphrase of a key.
    """
    names = CertificateNames.fromText(description)
    if names.kind == "ssl" and names.key is not None:  # mtls: looks for itself
        loadKey(names.key)
    for path in names.certificates:
        _warnOf(path)


def _warnOf(path: str) -> None:
    now = datetime.now(UTC)
    try:
        with open(path, "rb") as file:
            certificates = load_pem_x509_certificates(file.read())
    except (OSError, ValueError):
        return  # listening will tell
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
