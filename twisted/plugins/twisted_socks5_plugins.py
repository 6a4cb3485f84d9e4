# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What twisted_socks5 adds to Twisted's programs.  Nothing is imported here before
it is used: every C{twistd} that starts reads this file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.application.service import ServiceMaker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.strcred import ICheckerFactory
from twisted.internet.interfaces import (
    IReactorCore,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer

from twisted_socks5.interfaces import (
    IAuthenticatorFactory,
    IPolicyFactory,
    IRouteFactory,
)

if TYPE_CHECKING:
    from twisted_socks5.authenticators import NoAuthentication
    from twisted_socks5.authenticators.certificate import CertificateAuthenticator
    from twisted_socks5.authenticators.gssapi import GSSAPIAuthenticator
    from twisted_socks5.client import SOCKS5ClientEndpoint
    from twisted_socks5.passwords.checker import HashedPasswordChecker
    from twisted_socks5.policy import Guard
    from twisted_socks5.routes import ThroughProxy

socks5 = ServiceMaker(
    "SOCKS5 proxy",
    "twisted_socks5.service.maker",
    "A SOCKS5 proxy (RFC 1928) with authentication and rules.",
    "socks5",
)


@implementer(IPlugin, IPolicyFactory)
class GuardFactory:
    """
    Makes the default policy.
    """

    name = "guard"
    help = (
        "The default. Keeps clients elsewhere away from loopback, link-local, "
        "metadata, multicast and reserved addresses, and anonymous ones from "
        "private networks too."
    )
    argumentHelp = "[local=elsewhere]"

    def generate(self, reactor: Any, *, local: str = "here") -> Guard:
        """
        Make a guard.

        @param local: What clients on this host are taken for.

        @raise ValueError: C{local} is neither C{here} nor C{elsewhere}.
        """
        from twisted_socks5.policy import Guard

        return Guard(local)


@implementer(IPlugin, IAuthenticatorFactory)
class NoAuthenticationFactory:
    """
    Makes the method that asks for nothing.
    """

    name = "none"
    help = (
        "Method 00, strength 0: lets anybody in. The default if there is no other; "
        "beside others it is for clients that offer none of them."
    )
    argumentHelp = ""

    def generate(self, reactor: Any) -> NoAuthentication:
        """
        Make it.
        """
        from twisted_socks5.authenticators import NoAuthentication

        return NoAuthentication()


@implementer(IPlugin, IAuthenticatorFactory)
class CertificateAuthenticatorFactory:
    """
    Makes the method for clients with a TLS certificate.
    """

    name = "certificate"
    help = (
        "Method 00, strength 40, for clients that have shown a certificate to a "
        "listener mtls:. Their name is the subject's CN, or what identity= says."
    )
    argumentHelp = "[identity=cn|dns|email|uri]"

    def generate(
        self, reactor: Any, *, identity: str = "cn"
    ) -> CertificateAuthenticator:
        """
        Make it.

        @raise ValueError: There are no names of this kind.
        """
        from twisted_socks5.authenticators.certificate import CertificateAuthenticator

        return CertificateAuthenticator(identity)


@implementer(IPlugin, IStreamServerEndpointStringParser)
class MutualTLSParser:
    """
    Makes endpoints that ask clients for certificates.
    """

    prefix = "mtls"

    def parseStreamServer(
        self, reactor: Any, *args: Any, **kwargs: Any
    ) -> IStreamServerEndpoint:
        """
        Make one.

        @raise ValueError: An argument is wrong.
        """
        from twisted_socks5.mutualtls import endpointFromString
        from twisted_socks5.service.plugins import checkArguments

        expected = (
            "PORT:privateKey=FILE:clientCA=FILE[:certKey=FILE]"
            "[:clients=required|optional][:interface=ADDRESS][:backlog=N]"
        )
        checkArguments(endpointFromString, expected, list(args), kwargs)
        return endpointFromString(reactor, *args, **kwargs)


@implementer(IPlugin, ICheckerFactory)
class HashedPasswordCheckerFactory:
    """
    Makes a checker for C{--auth}, here and in other servers of Twisted's.
    """

    authType = "hashed"
    authHelp = (
        "Accounts in a file with a line name:hash for each, argon2id or bcrypt, as\n"
        "socks5-passwd and Apache's htpasswd -B write it.  The file is read again\n"
        "when it changes.  A password that was right is taken to be so for 60\n"
        "seconds, or as many as remember= says.  At most 2 passwords are checked at\n"
        "once, or as many as threads= says."
    )
    argStringFormat = "FILE[:remember=SECONDS][:threads=N]"
    credentialInterfaces = (IUsernamePassword,)

    def generateChecker(self, argstring: str) -> HashedPasswordChecker:
        """
        Make one.

        @raise ValueError: An argument is wrong, or the file is.
        """
        from twisted.internet import reactor

        from twisted_socks5.passwords.checker import HashedPasswordChecker
        from twisted_socks5.service.plugins import checkArguments, parsePlugin

        _, positional, keyword = parsePlugin(f"hashed:{argstring}")
        make = HashedPasswordChecker.fromText
        checkArguments(make, self.argStringFormat, positional, keyword)
        if not positional[0]:
            raise ValueError(f"expected {self.argStringFormat}")
        return make(reactor, *positional, **keyword)


@implementer(IPlugin, IAuthenticatorFactory)
class GSSAPIFactory:
    """
    Makes the GSSAPI method.
    """

    name = "gssapi"
    help = (
        "Method 01, strength 20: lets those in who have a Kerberos ticket for this "
        "service, and protects all that follows (RFC 1961)."
    )
    argumentHelp = (
        "[keytab=FILE][:service=NAME[@HOST]][:minimum=1|2][:clear=asked|always]"
        "[:nec=yes]"
    )

    def generate(
        self,
        reactor: Any,
        *,
        keytab: str | None = None,
        service: str = "rcmd",
        minimum: str = "1",
        clear: str = "never",
        nec: str = "no",
    ) -> GSSAPIAuthenticator:
        """
        Make it.

        @param keytab: The file with the service's keys.
        @param service: What clients must have a ticket for.
        @param minimum: The least level of protection that is agreed on.
        @param clear: Who is let in without protection.
        @param nec: Whether levels may be agreed on by bare tokens.
        @raise ValueError: An argument is wrong, the keys cannot be had, or
            python-gssapi is not installed.
        """
        if minimum not in ("1", "2"):
            raise ValueError(f"minimum={minimum}: expected 1 or 2")
        if nec not in ("no", "yes"):
            raise ValueError(f"nec={nec}: expected yes or no")
        try:
            from twisted_socks5.authenticators.gssapi import GSSAPIAuthenticator
        except ImportError as error:
            raise ValueError(
                f"{error}; it needs python-gssapi: pip install twisted-socks5[gssapi]"
            ) from None
        from twisted_socks5.wire_gssapi import ProtectionLevel

        return GSSAPIAuthenticator(
            reactor,
            keytab,
            service,
            minimum=ProtectionLevel(int(minimum)),
            clear=clear,
            isNEC=nec == "yes",
        )


@implementer(IPlugin, IRouteFactory)
class ThroughProxyFactory:
    """
    Makes the route through another proxy.
    """

    name = "socks5"
    help = (
        "Through another SOCKS5 proxy, at a client endpoint; it looks the "
        "names up. Several of them are a chain: its endpoint may be socks5: too."
    )
    argumentHelp = (
        "ENDPOINT[:user=NAME:passwordFile=PATH][:timeout=SECONDS]"
        "[:gssapi=HOST[:service=NAME][:tickets=PATH][:minimum=0|1|2]]"
    )

    def generate(
        self,
        reactor: Any,
        proxy: str,
        *,
        timeout: str = "30",
        user: str | None = None,
        passwordFile: str | None = None,
        gssapi: str | None = None,
        service: str = "rcmd",
        tickets: str | None = None,
        minimum: str = "2",
    ) -> ThroughProxy:
        """
        Make a route.

        @param gssapi: What the proxy's host is called in its keys.
        @raise ValueError: An argument is wrong.
        """
        from twisted_socks5.routes.throughproxy import routeFromArguments

        return routeFromArguments(
            reactor,
            proxy,
            timeout,
            user=user,
            passwordFile=passwordFile,
            gssapi=gssapi,
            service=service,
            tickets=tickets,
            minimum=minimum,
        )


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class ClientEndpointParser:
    """
    Makes client endpoints of strings:
    C{socks5:host=example.org:port=443:proxy=tcp\\:127.0.0.1\\:1080}.
    """

    prefix = "socks5"

    def parseStreamClient(
        self, reactor: IReactorCore, *args: Any, **kwargs: Any
    ) -> SOCKS5ClientEndpoint:
        """
        Make a client endpoint.

        @raise ValueError: An argument is wrong.
        @raise TypeError: One is missing, or nobody knows it.
        """
        from twisted_socks5.client.strings import endpointFromArguments

        return endpointFromArguments(reactor, *args, **kwargs)


certificate = CertificateAuthenticatorFactory()
clientEndpoint = ClientEndpointParser()
gssapi = GSSAPIFactory()
guard = GuardFactory()
hashed = HashedPasswordCheckerFactory()
mutualTLS = MutualTLSParser()
none = NoAuthenticationFactory()
throughProxy = ThroughProxyFactory()
