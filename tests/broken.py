# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Run as a program: a server with a plugin that is broken in the way that the
command line names, and that would tell its secrets.  Its log is that of
C{twistd}.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger, globalLogBeginner, textFileLogObserver
from zope.interface import implementer

from twisted_socks5.authenticators import (
    Authenticated,
    Identity,
    NoAuthentication,
    UsernamePasswordAuthenticator,
)
from twisted_socks5.commands import Connect
from twisted_socks5.interfaces import (
    IAccessLog,
    IAuthenticator,
    ICommand,
    IConnectPolicy,
    IRoute,
    ISession,
)
from twisted_socks5.observe.access import TextAccessLog
from twisted_socks5.policy import Decision
from twisted_socks5.server.factory import SOCKS5ServerFactory
from twisted_socks5.settings import Timeouts

SECRET = "hush-hush"


class Defect(Exception):
    pass


def raises() -> Any:
    raise Defect(SECRET)


async def raisesLater() -> Any:
    raise Defect(SECRET)


async def answersNonsense() -> Any:
    return 42


WAYS: dict[str, Callable[[], Any]] = {
    "raises": raises,
    "raisesLater": raisesLater,
    "fails": lambda: fail(Defect(SECRET)),
    "none": lambda: None,
    "true": lambda: True,
    "nonsense": lambda: 42,
    "class": lambda: Decision,
    "nonsenseLater": answersNonsense,
    "nothingLater": lambda: succeed(None),
    "never": Deferred,
}


@implementer(ICredentialsChecker)
class Checker:
    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer = answer

    def requestAvatarId(self, credentials: Any) -> Any:
        if credentials.username == b"good":
            return credentials.username
        return self.answer()


@implementer(IAuthenticator)
class Authenticator:
    method = 0
    strength = 0
    failureReply = b"no"

    def __init__(self, isAvailable: Any, authenticate: Any) -> None:
        self.isAvailable = lambda exchange: isAvailable()
        self.authenticate = lambda exchange: authenticate()


@implementer(IConnectPolicy)
class Policy:
    def __init__(self, decide: Any, checkAddress: Any) -> None:
        self.decide = lambda request: decide()
        self.checkAddress = lambda request, address: checkAddress()


@implementer(IRoute)
class Route:
    resolvesNames = True

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer = answer

    def boundTo(self, address: Any) -> Any:
        return self

    async def connect(self, target: Any, check: Any) -> Any:
        return await self.answer()

    async def listen(self, expected: Any, check: Any) -> Any: ...

    async def datagrams(self, check: Any) -> Any: ...


@implementer(ICommand)
class Command:
    code = 1

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer = answer

    async def run(self, session: Any, request: Any) -> None:
        await self.answer()


class LateCommand(Connect):
    """
    Breaks when its client is joined with the destination already.
    """

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer = answer

    async def run(self, session: Any, request: Any) -> None:
        await Connect.run(self, session, request)
        await self.answer()


def allow() -> Decision:
    return Decision.allow()


def letIn(logout: Any = None) -> Authenticated:
    return Authenticated(Identity(), logout=logout)


def broken(where: str, answer: Callable[[], Any]) -> dict[str, Any]:
    """
    What the factory is given, where that is broken.
    """
    given: dict[str, Any] = {"authenticators": [NoAuthentication()]}
    if where == "checker":
        checker = Checker(answer)
        given["authenticators"] = [UsernamePasswordAuthenticator.withCheckers(checker)]
    elif where == "isAvailable":
        given["authenticators"] = [Authenticator(answer, letIn)]
    elif where == "authenticate":
        given["authenticators"] = [Authenticator(lambda: True, answer)]
    elif where == "logout":
        given["authenticators"] = [Authenticator(lambda: True, lambda: letIn(answer))]
    elif where == "decide":
        given["policy"] = Policy(answer, allow)
    elif where == "checkAddress":
        given["policy"] = Policy(allow, answer)
    elif where == "route":
        given["route"] = Route(answer)
    elif where == "afterwards":
        given["commands"] = [LateCommand(answer)]
    else:
        given["commands"] = [Command(answer)]
    return given


@implementer(IAccessLog)
class CountingLog(TextAccessLog):
    """
    Tells all counts, too.
    """

    factory: SOCKS5ServerFactory

    def sessionEnded(self, session: ISession) -> None:
        super().sessionEnded(session)
        counts = json.dumps(self.factory.counts.snapshot())
        Logger(namespace="broken").info("counts={counts}", counts=counts)


def main() -> None:
    globalLogBeginner.beginLoggingTo(
        [textFileLogObserver(sys.stdout)], redirectStandardIO=False
    )
    from twisted.internet import reactor

    running: Any = reactor
    where, way = sys.argv[1:3]
    accessLog = CountingLog()
    factory = SOCKS5ServerFactory(
        running,
        timeouts=Timeouts(handshake=2, policy=1),
        accessLog=accessLog,
        **broken(where, WAYS[way]),
    )
    accessLog.factory = factory
    port = running.listenTCP(0, factory, interface="127.0.0.1")
    Logger(namespace="broken").info(
        "SOCKS5 at 127.0.0.1:{port} (tcp:0:interface=127.0.0.1)",
        port=port.getHost().port,
    )
    running.callWhenRunning(Logger(namespace="broken").info, "Starting reactor")
    running.run()


if __name__ == "__main__":
    main()
