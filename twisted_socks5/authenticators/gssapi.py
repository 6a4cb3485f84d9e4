# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Method 01: GSSAPI (RFC 1961), on python-gssapi.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from gssapi import Credentials, Name, NameType, RequirementFlag, SecurityContext, raw
from gssapi.raw.misc import GSSError
from gssapi.raw.named_tuples import AcceptSecContextResult
from twisted.application.service import Service
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from twisted_socks5.authenticators.identity import Authenticated, Identity
from twisted_socks5.errors import AuthenticationFailed
from twisted_socks5.gsserror import explain
from twisted_socks5.interfaces import IAuthenticator, IExchange
from twisted_socks5.protection import GSSAPIProtection
from twisted_socks5.wire import Method
from twisted_socks5.wire_gssapi import (
    ABORT,
    ProtectionLevel,
    TokenMessage,
    TokenType,
)

_THREADS = 4
_MOST_TOKENS = 16
_MOST_BYTES = 128 * 1024
_SHORTEST_TOKEN = 2
"""
Bounds of what a client may send to establish a context: Kerberos needs one
token, of some hundred bytes up to nearly 64 KiB; other mechanisms need two or
three.
"""

_readContextToken = partial(TokenMessage.parse, kind=TokenType.CONTEXT)
_readLevelToken = partial(TokenMessage.parse, kind=TokenType.LEVEL)


@implementer(IAuthenticator)
class GSSAPIAuthenticator(Service):
    """
    Lets those in who have a ticket for this service, and protects what follows.

    It is a service, since establishing a context can take long (there is a file
    of tickets that were used, in which it must not be found again, and
    some mechanisms ask another machine), and is done in threads of its own.
    While it does not run, the method is not available.
    """

    method = int(Method.GSSAPI)
    strength = 20
    failureReply = ABORT

    def __init__(
        self,
        reactor: Any,
        keytab: str | None = None,
        service: str = "rcmd",
        minimum: ProtectionLevel = ProtectionLevel.INTEGRITY,
        clear: str = "never",
        isNEC: bool = False,
    ) -> None:
        """
        @param keytab: The path of the file with the service's keys; without it,
            where Kerberos is configured to look.
        @param service: What clients must have a ticket for: C{NAME}, on any
            host that the keytab has keys for, or C{NAME@HOST}.
        @param minimum: The least protection that is agreed on.  Clients get
            more if they ask for it.
        @param clear: Who is let in without any protection of what follows:
            C{"never"} anybody, C{"asked"} clients that ask for it, or
            C{"always"} all of them.
        @param isNEC: Whether clients may agree on a level by tokens that are
            not protected, as NEC's implementation did.
        @raise ValueError: The keys cannot be had, or the arguments contradict
            each other.
        """
        if clear not in ("never", "asked", "always"):
            raise ValueError(f"clear={clear}: expected never, asked or always")
        if minimum not in (ProtectionLevel.INTEGRITY, ProtectionLevel.CONFIDENTIALITY):
            raise ValueError(f"minimum={minimum:d}: expected 1 or 2")
        if clear != "never" and minimum != ProtectionLevel.INTEGRITY:
            raise ValueError(f"clear={clear} and minimum={minimum:d}: either or")
        self._reactor = reactor
        self._credentials = _acquire(keytab, service)
        self._minimum = ProtectionLevel(minimum)
        self._clear = clear
        self._isNEC = isNEC
        self._threads = ThreadPool(0, _THREADS, "gssapi")

    def startService(self) -> None:
        """
        Be ready for clients.
        """
        self._threads.start()
        Service.startService(self)

    def stopService(self) -> None:
        """
        Let no more in.
        """
        Service.stopService(self)
        self._threads.stop()

    def isAvailable(self, exchange: IExchange) -> bool:
        """
        While the service runs.
        """
        return bool(self.running)

    async def authenticate(self, exchange: IExchange) -> Authenticated:
        """
        Establish a context, and agree on a protection level.

        @raise AuthenticationFailed: The client is not let in.
        """
        accepted = await self._establish(exchange)
        name = _nameOf(accepted)
        context = SecurityContext(base=accepted.context)
        level = await self._agree(exchange, context, accepted.flags)
        identity = Identity(
            name.decode("utf-8", "backslashreplace"), name, method=self.method
        )
        layer = None
        if level is not ProtectionLevel.CLEAR:
            layer = GSSAPIProtection(context, level)
        return Authenticated(identity, layer)

    async def _establish(self, exchange: IExchange) -> AcceptSecContextResult:
        """
        Establish a security context (section 3).
        """
        context = None
        size = 0
        for _ in range(_MOST_TOKENS):
            message = await exchange.readMessage(_readContextToken)
            size += len(message.token)
            if len(message.token) < _SHORTEST_TOKEN or size > _MOST_BYTES:
                raise AuthenticationFailed("a token too short, or too many bytes")
            accepted: AcceptSecContextResult = await deferToThreadPool(
                self._reactor, self._threads, self._accept, message.token, context
            )
            context = accepted.context
            # With an empty token if the mechanism has none.
            answer = TokenMessage(TokenType.CONTEXT, accepted.token or b"")
            exchange.write(answer.encode())
            if not accepted.more_steps:
                return accepted
        raise AuthenticationFailed("too many tokens")

    def _accept(
        self, token: bytes, context: raw.SecurityContext | None
    ) -> AcceptSecContextResult:
        """
        Take the client's next token, in a thread.
        """
        try:
            return raw.accept_sec_context(token, self._credentials, context)
        except GSSError as error:
            # The library keeps the text for this thread only.
            raise AuthenticationFailed(f"no context: {explain(error)}") from None

    async def _agree(
        self, exchange: IExchange, context: SecurityContext, flags: Any
    ) -> ProtectionLevel:
        """
        Agree on a protection level (section 4).
        """
        token = (await exchange.readMessage(_readLevelToken)).token
        # An octet by itself is no token of any mechanism.
        isNEC = self._isNEC and len(token) == 1
        try:
            asked = token if isNEC else context.unwrap(token).message
            level = self._choose(asked, flags)
            answer = bytes((level,))
            if not isNEC:
                answer = context.wrap(answer, False).message
        except GSSError as error:
            raise AuthenticationFailed(f"no level: {explain(error)}") from None
        exchange.write(TokenMessage(TokenType.LEVEL, answer).encode())
        return level

    def _choose(self, asked: bytes, flags: Any) -> ProtectionLevel:
        """
        What is answered to a client that asks for a level.  Whether that is
        enough is for the client to say.
        """
        try:
            (octet,) = asked
            wanted = ProtectionLevel(octet)
        except ValueError:
            raise AuthenticationFailed(f"no level {asked[:16].hex()}") from None
        if self._clear == "always" or (
            self._clear == "asked" and wanted is ProtectionLevel.CLEAR
        ):
            return ProtectionLevel.CLEAR
        if RequirementFlag.confidentiality in flags:
            strongest = ProtectionLevel.CONFIDENTIALITY
        elif RequirementFlag.integrity in flags:
            strongest = ProtectionLevel.INTEGRITY
        else:
            strongest = ProtectionLevel.CLEAR
        if strongest < self._minimum:
            raise AuthenticationFailed("the context has not the protection for it")
        return min(max(wanted, self._minimum), strongest)


def _acquire(keytab: str | None, service: str) -> Credentials:
    """
    The credentials of the service.

    @raise ValueError: They cannot be had; the text says why.
    """
    store: dict[bytes | str, bytes | str] | None = None
    if keytab is not None:
        try:
            with open(keytab, "rb"):
                pass
        except OSError as error:
            raise ValueError(f"keytab {keytab}: {error.strerror}") from None
        store = {"keytab": f"FILE:{keytab}"}
    try:
        name = Name(service, NameType.hostbased_service)
        return Credentials(name=name, usage="accept", store=store)
    except GSSError as error:
        where = "the default keytab" if keytab is None else f"keytab {keytab}"
        raise ValueError(f"{where}: {explain(error)}") from None


def _nameOf(accepted: AcceptSecContextResult) -> bytes:
    """
    Who the client is.

    @raise AuthenticationFailed: It does not tell: there are tickets for anybody
        (RFC 8062).
    """
    flags: Any = accepted.flags
    name, kind = raw.display_name(accepted.initiator_name, True)
    if kind == NameType.anonymous or RequirementFlag.anonymity in flags:
        raise AuthenticationFailed("an anonymous ticket")
    return name
