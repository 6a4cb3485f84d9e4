# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Method 02: username and password (RFC 1929), through C{twisted.cred}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.credentials import UsernamePassword as Credentials
from twisted.cred.error import LoginFailed, UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import CancelledError, maybeDeferred
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface, implementer

from twisted_socks5.authenticators.accounts import accountsOf
from twisted_socks5.authenticators.identity import Authenticated, Identity
from twisted_socks5.errors import AuthenticationFailed
from twisted_socks5.interfaces import (
    IAccountAuthenticator,
    IAuthenticator,
    IChangingAccounts,
    IExchange,
)
from twisted_socks5.observe.defects import logDefect
from twisted_socks5.outcome import outcomeOf
from twisted_socks5.wire import Method, UsernamePassword, UsernamePasswordStatus

_SUCCESS = UsernamePasswordStatus(0x00).encode()
_FAILURE = UsernamePasswordStatus(0x01).encode()


class IProxyUser(Interface):
    """
    The avatar that a realm makes of a user.
    """

    identity: Identity = Attribute("Who it is.")


@implementer(IProxyUser)
class ProxyUser:
    """
    A user of whom nothing more is known.
    """

    def __init__(self, identity: Identity) -> None:
        self.identity = identity


@implementer(IRealm)
class ProxyRealm:
    """
    Makes a L{ProxyUser} of the avatar ID that a checker answers, which is the
    user's name.
    """

    def requestAvatar(
        self, avatarId: object, mind: object, *interfaces: type[Interface]
    ) -> tuple[type[Interface], ProxyUser, Any]:
        """
        The avatar of a user.

        @raise TypeError: The checker did not answer with a name; among others
            that of C{anonymous} does not.
        """
        if isinstance(avatarId, str):
            raw = avatarId.encode("utf-8", "surrogateescape")
        elif isinstance(avatarId, bytes):
            raw = avatarId
        else:
            raise TypeError(f"not a user's name: {type(avatarId).__name__}")
        name = raw.decode("utf-8", "backslashreplace")
        identity = Identity(name, raw, method=int(Method.USERNAME))
        return IProxyUser, ProxyUser(identity), _nothing


def _nothing() -> None:
    """
    What there is to do when a L{ProxyUser} has gone.
    """


@implementer(ICredentialsChecker)
class CheckersInTurn:
    """
    Asks several checkers, one after the other, until one knows the user and
    password.  (A portal keeps only one for each kind of credentials.)
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, checkers: Sequence[ICredentialsChecker]) -> None:
        self._checkers = checkers

    async def _ask(self, credentials: Credentials) -> object:
        for checker in self._checkers:
            try:
                answer = await maybeDeferred(checker.requestAvatarId, credentials)
            except (LoginFailed, UnauthorizedLogin):
                continue
            except CancelledError:
                raise
            except Exception:
                # Its text may hold the password.
                logDefect(checker, "requestAvatarId", Failure(), withText=False)
                continue
            if not isinstance(answer, bytes | str) or not answer:
                logDefect(
                    checker,
                    "requestAvatarId",
                    Failure(TypeError(f"not a user's name: {type(answer).__name__}")),
                )
                continue
            return answer
        raise UnauthorizedLogin

    def requestAvatarId(self, credentials: Any) -> Any:
        """
        Ask them.

        @return: A Deferred with what the first one that knows them answers.
            Fails with C{UnauthorizedLogin} if none does.
        """
        return maybeDeferred(self._ask, credentials)


@implementer(IAuthenticator, IAccountAuthenticator)
class UsernamePasswordAuthenticator:
    """
    Lets those in whose username and password a portal accepts.  A client
    cannot tell an unknown user from a wrong password.
    """

    name = "username"
    method = int(Method.USERNAME)
    strength = 10
    failureReply = _FAILURE

    def __init__(
        self, portal: Portal, checkers: Sequence[ICredentialsChecker] = ()
    ) -> None:
        """
        @param portal: Its realm makes avatars that provide L{IProxyUser}.
        @param checkers: Those that know whose accounts are still there, if the
            avatars have the names that these check.
        """
        self._portal = portal
        self._accounts = [accountsOf(checker) for checker in checkers]

    @classmethod
    def withCheckers(
        cls, *checkers: ICredentialsChecker
    ) -> UsernamePasswordAuthenticator:
        """
        One that asks checkers for C{IUsernamePassword} in turn.
        """
        return cls(Portal(ProxyRealm(), [CheckersInTurn(checkers)]), checkers)

    def isAvailable(self, exchange: IExchange) -> bool:
        """
        Always.
        """
        return True

    async def authenticate(self, exchange: IExchange) -> Authenticated:
        """
        Read username and password, and ask the portal.

        @raise AuthenticationFailed: It does not accept them.
        """
        sent = await exchange.readMessage(UsernamePassword.parse)
        await exchange.claim(sent.username)
        marks = self._marksOf(sent.username)  # of what the password is compared with
        credentials = Credentials(sent.username, sent.password)
        try:
            avatar: Any
            _, avatar, logout = await self._portal.login(credentials, None, IProxyUser)
        except (LoginFailed, UnauthorizedLogin):
            raise AuthenticationFailed("wrong username or password") from None
        exchange.write(_SUCCESS)
        identity = avatar.identity
        if marks:
            identity = attrs.evolve(identity, marks=marks)
        return Authenticated(identity, logout=logout)

    def _marksOf(self, name: bytes) -> frozenset[bytes]:
        """
        What the accounts of this name are known by.
        """
        marks = [one.markOf(name) for one in self._accounts if _canChange(one)]
        return frozenset(mark for mark in marks if mark is not None)

    async def hasAccount(self, identity: Identity) -> bool:
        """
        Whether a checker has such an account, with the password that it had, or may
        have: not all can tell.
        """
        for accounts in self._accounts:
            if identity.marks and _canChange(accounts):
                if accounts.markOf(identity.raw) in identity.marks:
                    return True
            elif accounts is None or await outcomeOf(accounts.hasAccount(identity.raw)):
                return True
        return not self._accounts


def _canChange(accounts: object) -> bool:
    return bool(IChangingAccounts.providedBy(accounts))
