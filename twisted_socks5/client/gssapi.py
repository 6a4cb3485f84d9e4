# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Method 01 on the client's side: GSSAPI (RFC 1961), on python-gssapi.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from gssapi import Credentials, Name, NameType, RequirementFlag, SecurityContext
from gssapi.raw.misc import GSSError
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from twisted_socks5.errors import AuthenticationFailed
from twisted_socks5.gsserror import explain
from twisted_socks5.interfaces import IClientAuthenticator, IClientExchange
from twisted_socks5.protection import GSSAPIProtection
from twisted_socks5.wire import Command, Method
from twisted_socks5.wire_gssapi import ProtectionLevel, TokenMessage, TokenType

_MOST_TOKENS = 16
"""
How many tokens a proxy may have us send to establish a context: Kerberos needs
one, other mechanisms two or three.
"""

_FLAGS = (
    RequirementFlag.mutual_authentication,
    RequirementFlag.replay_detection,
    RequirementFlag.integrity,
)

_Result = TypeVar("_Result")

_readContextToken = partial(TokenMessage.parse, kind=TokenType.CONTEXT)
_readLevelToken = partial(TokenMessage.parse, kind=TokenType.LEVEL)


@implementer(IClientAuthenticator)
class GSSAPILogin:
    """
    Shows a proxy our ticket for it, has it prove who it is, and protects what
    follows.

    Establishing a context may ask another machine for the ticket, and is done in
    the threads of the reactor.
    """

    method = int(Method.GSSAPI)

    def __init__(
        self,
        reactor: Any,
        host: str,
        service: str = "rcmd",
        tickets: str | None = None,
        level: ProtectionLevel = ProtectionLevel.CONFIDENTIALITY,
        minimum: ProtectionLevel | None = None,
    ) -> None:
        """
        @param host: What the proxy's host is called in its keys: the ticket is
            for C{SERVICE@HOST}.
        @param service: What its service is called there.
        @param tickets: The path of the file with our tickets; without it, where
            Kerberos is configured to look.
        @param level: The protection that is asked for: integrity or
            confidentiality.
        @param minimum: The least that will do; without it, what is asked for.
            With L{ProtectionLevel.CLEAR}, none at all will do.
        @raise ValueError: There is no such level, or the least is more than what
            is asked for.
        """
        if level not in (ProtectionLevel.INTEGRITY, ProtectionLevel.CONFIDENTIALITY):
            raise ValueError(f"level={level:d}: expected 1 or 2")
        least = level if minimum is None else minimum
        if not ProtectionLevel.CLEAR <= least <= level:
            raise ValueError(f"minimum={least:d}: expected 0 to {level:d}")
        self._reactor = reactor
        self._service = f"{service}@{host}"
        self._tickets = tickets
        self._level = ProtectionLevel(level)
        self._minimum = ProtectionLevel(least)

    def __repr__(self) -> str:
        return f"<GSSAPILogin {self._service}>"

    async def authenticate(self, exchange: IClientExchange) -> GSSAPIProtection | None:
        """
        Establish a context, and agree on a protection level.

        @raise AuthenticationFailed: We have no ticket, the proxy does not let us
            in or is somebody else, or it protects too little.
        """
        context = await self._establish(exchange)
        level = await self._agree(exchange, context)
        if level is ProtectionLevel.CLEAR:
            return None
        return GSSAPIProtection(context, level)

    async def _establish(self, exchange: IClientExchange) -> SecurityContext:
        """
        Establish a security context (section 3).
        """
        isForDatagrams = exchange.command == Command.ASSOCIATE
        context, token = await self._inThread(self._begin, isForDatagrams)
        for _ in range(_MOST_TOKENS):
            exchange.write(TokenMessage(TokenType.CONTEXT, token).encode())
            # It is empty if the mechanism has none for us.
            answer = (await exchange.readMessage(_readContextToken)).token
            if context.complete:
                break
            token = await self._inThread(_step, context, answer)
            if not token:
                break
        if not context.complete:
            raise AuthenticationFailed("no context, after all tokens")
        self._check(context)
        return context

    def _inThread(self, work: Callable[..., _Result], *given: Any) -> Deferred[_Result]:
        pool = self._reactor.getThreadPool()
        done: Deferred[_Result] = deferToThreadPool(self._reactor, pool, work, *given)
        return done

    def _begin(self, isForDatagrams: bool) -> tuple[SecurityContext, bytes]:
        """
        Find the ticket, and make the first token, in a thread.
        """
        flags: Any = list(_FLAGS)
        if self._level is ProtectionLevel.CONFIDENTIALITY:
            flags.append(RequirementFlag.confidentiality)
        # Datagrams are lost and come in any order (section 3.2).
        if not isForDatagrams:
            flags.append(RequirementFlag.out_of_sequence_detection)
        store: dict[bytes | str, bytes | str] | None = None
        if self._tickets is not None:
            store = {"ccache": f"FILE:{self._tickets}"}
        try:
            context = SecurityContext(
                name=Name(self._service, NameType.hostbased_service),
                creds=Credentials(usage="initiate", store=store),
                flags=flags,
                usage="initiate",
            )
        except GSSError as error:
            raise AuthenticationFailed(f"no context: {explain(error)}") from None
        return context, _step(context, None)

    def _check(self, context: SecurityContext) -> None:
        """
        Whether the context has what we cannot do without.
        """
        flags: Any = context.actual_flags
        if RequirementFlag.mutual_authentication not in flags:
            raise AuthenticationFailed("the proxy has not proved who it is")
        if _strongest(context) < self._minimum:
            raise AuthenticationFailed("the context has not the protection for it")

    async def _agree(
        self, exchange: IClientExchange, context: SecurityContext
    ) -> ProtectionLevel:
        """
        Agree on a protection level (section 4).
        """
        try:
            asked = context.wrap(bytes((self._level,)), False).message
            exchange.write(TokenMessage(TokenType.LEVEL, asked).encode())
            token = (await exchange.readMessage(_readLevelToken)).token
            answer = context.unwrap(token).message
        except GSSError as error:
            raise AuthenticationFailed(f"no level: {explain(error)}") from None
        try:
            (octet,) = answer
            level = ProtectionLevel(octet)
        except ValueError:
            raise AuthenticationFailed(f"no level {answer[:16].hex()}") from None
        if level < self._minimum:
            raise AuthenticationFailed(
                f"level {level:d}, where {self._minimum:d} was the least"
            )
        if level > _strongest(context):
            raise AuthenticationFailed(f"level {level:d}, which the context has not")
        return level


def _step(context: SecurityContext, token: bytes | None) -> bytes:
    """
    Take the proxy's token and make ours, in a thread.
    """
    try:
        return context.step(token) or b""
    except GSSError as error:
        raise AuthenticationFailed(f"no context: {explain(error)}") from None


def _strongest(context: SecurityContext) -> ProtectionLevel:
    """
    The most protection that a context has.
    """
    flags: Any = context.actual_flags
    if RequirementFlag.confidentiality in flags:
        return ProtectionLevel.CONFIDENTIALITY
    if RequirementFlag.integrity in flags:
        return ProtectionLevel.INTEGRITY
    return ProtectionLevel.CLEAR
