# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Method 00 for a client that TLS has identified already, by its certificate.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.x509 import (
    Certificate,
    DNSName,
    ExtensionNotFound,
    RFC822Name,
    SubjectAlternativeName,
    UniformResourceIdentifier,
)
from cryptography.x509.oid import NameOID
from zope.interface import implementer

from twisted_socks5.authenticators.identity import Authenticated, Identity
from twisted_socks5.errors import AuthenticationFailed
from twisted_socks5.interfaces import (
    IAccountAuthenticator,
    IAuthenticator,
    IExchange,
)
from twisted_socks5.wire import Method


def _commonNames(certificate: Certificate) -> list[str]:
    attributes = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return [str(attribute.value) for attribute in attributes]


def _alternative(
    kind: type[DNSName] | type[RFC822Name] | type[UniformResourceIdentifier],
) -> Callable[[Certificate], list[str]]:
    def names(certificate: Certificate) -> list[str]:
        try:
            found = certificate.extensions.get_extension_for_class(
                SubjectAlternativeName
            )
        except ExtensionNotFound:
            return []
        return found.value.get_values_for_type(kind)

    return names


_SOURCES: dict[str, Callable[[Certificate], list[str]]] = {
    "cn": _commonNames,
    "dns": _alternative(DNSName),
    "email": _alternative(RFC822Name),
    "uri": _alternative(UniformResourceIdentifier),
}


@implementer(IAuthenticator, IAccountAuthenticator)
class CertificateAuthenticator:
    """
    Lets a client in that has shown a certificate in the TLS handshake, which was
    verified there, as the one that it names.
    """

    name = "certificate"
    method = int(Method.NONE)
    strength = 40
    failureReply = b""

    def __init__(self, identity: str = "cn") -> None:
        """
        @param identity: Where the name is from: C{"cn"}, the common name of the
            subject; or of the subject's alternative names C{"dns"}, C{"email"}
            or C{"uri"}.
        @raise ValueError: It is something else.
        """
        if identity not in _SOURCES:
            raise ValueError(
                f"identity={identity}: expected {', '.join(sorted(_SOURCES))}"
            )
        self._names = _SOURCES[identity]

    def isAvailable(self, exchange: IExchange) -> bool:
        """
        Only if there is a certificate, with exactly one such name.
        """
        return bool(self._nameOf(exchange))

    def authenticate(self, exchange: IExchange) -> Authenticated:
        """
        Let it in.  Nothing is said: to the client this is method 00.

        @raise AuthenticationFailed: There is no such certificate.
        """
        name = self._nameOf(exchange)
        if not name:
            raise AuthenticationFailed("no certificate with one name")
        return Authenticated(Identity(name, name.encode(), method=self.method))

    def hasAccount(self, identity: Identity) -> bool:
        """
        Anybody who has a name: the certificate is not looked at again.
        """
        return not identity.isAnonymous

    def _nameOf(self, exchange: IExchange) -> str:
        """
        The one name, or an empty text.
        """
        if exchange.certificate is None:
            return ""
        try:
            names = self._names(exchange.certificate.to_cryptography())
        except ValueError:  # what an authority has signed may still be nonsense
            return ""
        return names[0] if len(names) == 1 and names[0].isprintable() else ""
