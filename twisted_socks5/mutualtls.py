# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Listening with TLS and asking clients for certificates (the endpoint C{mtls:}).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from cryptography.x509 import load_pem_x509_certificates
from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_PEM, X509, PKey, load_privatekey
from OpenSSL.crypto import Error as CryptoError
from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.logger import Logger
from zope.interface import implementer

_log = Logger(namespace="twisted_socks5")


@implementer(IOpenSSLServerConnectionCreator)
class CertificateFiles:
    """
    Makes the TLS side of connections, with TLS 1.2 or newer, from PEM files
    that are read again when they have changed.

    A client's certificate must come from one of the authorities; one that does
    not, or that is out of date, ends the handshake.
    """

    def __init__(
        self, privateKey: str, certificate: str, clientCA: str, isRequired: bool = True
    ) -> None:
        """
        @param privateKey: The path of the server's key.
        @param certificate: The path of its certificate, with those that lead from
            it to its authority behind it, if there are any.
        @param clientCA: The path of the authorities for clients.
        @param isRequired: Whether a client without a certificate is turned away.
        @raise OSError: A file cannot be read.
        @raise ValueError: What is in it cannot be used.
        """
        # They are read again when a daemon is in another folder.
        self._paths = tuple(map(os.path.abspath, (privateKey, certificate, clientCA)))
        self._isRequired = isRequired
        self._state = self._look()
        self._context = self._read()

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        """
        The TLS side of one connection.
        """
        state = self._look()
        if state != self._state:
            self._state = state
            self.reload()
        return SSL.Connection(self._context, None)

    def reload(self) -> None:
        """
        Read the files now; connections from now on use what is in them.  If it
        cannot be used, the log tells, and what was there before stays.
        """
        try:
            self._context = self._read()
        except (OSError, ValueError) as error:
            _log.error(
                "{paths}: the certificates that are in use stay: {problem}",
                paths=", ".join(self._paths),
                problem=str(error),
            )
        else:
            _log.info("{paths}: read again", paths=", ".join(self._paths))

    def _look(self) -> Sequence[object]:
        """
        What changes when a file does.
        """
        return [_stateOf(path) for path in self._paths]

    def _read(self) -> SSL.Context:
        keyPath, certificatePath, authoritiesPath = self._paths
        key = loadKey(keyPath)
        certificate, *chain = _certificates(certificatePath)
        options = CertificateOptions(
            privateKey=key,
            certificate=certificate,
            extraCertChain=chain or None,
            verify=True,
            caCerts=_certificates(authoritiesPath),
            requireCertificate=self._isRequired,
            raiseMinimumTo=TLSVersion.TLSv1_2,
        )
        try:
            context: SSL.Context = options.getContext()
            context.check_privatekey()
        except SSL.Error:
            raise ValueError(f"{keyPath} is not the key of {certificatePath}") from None
        return context


def _stateOf(path: str) -> object:
    try:
        status = os.stat(path)
    except OSError as error:
        return error.errno
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class _Encrypted(Exception):
    """
    A key that only a passphrase opens.
    """


def _refuse(*about: object) -> bytes:
    raise _Encrypted


def loadKey(path: str) -> PKey:
    """
    Read a private key.  OpenSSL would ask for the passphrase of an encrypted one
    at the terminal, and hold up the whole process meanwhile.

    @raise OSError: The file cannot be read.
    @raise ValueError: There is none, or it is encrypted.
    """
    try:
        return load_privatekey(FILETYPE_PEM, _contents(path), _refuse)
    except _Encrypted:
        raise ValueError(
            f"{path}: the private key is encrypted, and nobody is asked for its "
            "passphrase; it must be in the clear"
        ) from None
    except (CryptoError, ValueError, TypeError):
        raise ValueError(f"{path}: no private key") from None


def _contents(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _certificates(path: str) -> list[X509]:
    try:
        found = load_pem_x509_certificates(_contents(path))
    except ValueError:
        raise ValueError(f"{path}: no certificates") from None
    return [X509.from_cryptography(one) for one in found]


def endpointFromString(
    reactor: Any,
    port: str,
    privateKey: str,
    clientCA: str,
    certKey: str = "",
    clients: str = "required",
    interface: str = "",
    backlog: str = "50",
) -> SSL4ServerEndpoint:
    """
    What C{mtls:PORT:privateKey=...:clientCA=...} stands for.

    @raise OSError: A file cannot be read.
    @raise ValueError: An argument is wrong.
    """
    if clients not in ("required", "optional"):
        raise ValueError(f"clients={clients}: expected required or optional")
    files = CertificateFiles(
        privateKey, certKey or privateKey, clientCA, clients == "required"
    )
    return SSL4ServerEndpoint(reactor, int(port), files, int(backlog), interface)
