# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The conversation with one client, phase by phase.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from twisted_socks5 import wire
from twisted_socks5.addresses import Address
from twisted_socks5.authenticators import Authenticated
from twisted_socks5.errors import (
    AuthenticationFailed,
    CommandNotSupported,
    ConnectionNotAllowed,
    GeneralFailure,
    NoAcceptableMethod,
    SOCKSError,
    StreamEnded,
)
from twisted_socks5.interfaces import (
    IAccountAuthenticator,
    IAuthenticator,
    IOutbound,
    IWatchedOutbound,
)
from twisted_socks5.layered import LayeredTransport
from twisted_socks5.limits.allowance import Allowance
from twisted_socks5.observe.defects import logDefect
from twisted_socks5.outcome import answerOf, outcomeOf
from twisted_socks5.server.connection import ClientConnection, layerProblem
from twisted_socks5.server.exchange import Exchange
from twisted_socks5.server.request import Request
from twisted_socks5.server.revising import Revising
from twisted_socks5.server.session import Session, State
from twisted_socks5.server.throttle import Attempt

_NO_METHOD = wire.MethodChoice(wire.NO_ACCEPTABLE_METHODS).encode()
_NO_ADDRESS = Address(IPv4Address(0), 0)


class SOCKS5ServerProtocol(ClientConnection):
    """
    The server's side of one connection (RFC 1928).

    @ivar revision: By which state of the policy it was judged the last time.
    """

    revision = -1
    _authenticator: IAuthenticator | None = None
    _attempt: Attempt | None = None
    _request: Request | None = None

    # -- the conversation -----------------------------------------------------

    def openSession(self, client: Address, listener: Address) -> Session:
        """
        Take down who has connected.
        """
        return self.factory.registry.open(self, client, listener)

    async def serve(self) -> None:
        """
        From the client's greeting to the command that it asks for.

        @raise SOCKSError: What the client is to be told.
        """
        session, stream, factory = self.session, self.stream, self.factory

        greeting = await stream.readMessage(wire.Greeting.parse)
        letIn = factory.revision
        exchange = Exchange(self)
        authenticator = self.chooseMethod(greeting, exchange)
        self.send(wire.MethodChoice(authenticator.method).encode())

        session.state = State.AUTHENTICATING
        await self.authenticate(authenticator, exchange)

        session.state = State.REQUESTING
        message = await stream.readMessage(wire.Request.parse)
        self.stopTimer()
        request = self._request = self.takeDown(message)
        command = factory.commands[request.command]

        session.state = State.DECIDING
        while self.revision != factory.revision:  # which may change meanwhile
            self.revision = factory.revision
            if self.revision != letIn:
                await self.checkAccount()
                if self._accounting is not None:  # for rules that it went by before
                    self._accounting.goByRules((), areAll=True)
            session.decision = None  # nothing goes by an earlier one
            session.decision = await factory.judge.decide(request)
            session.decision.enforce()
            if claims := factory.admission.claimsOfRequest(session):
                await self.accounting.forRequest(claims)
            if session.decision.limits is not None:
                await self.accounting.forRule(session.decision)

        session.state = State.RUNNING
        await outcomeOf(command.run(session, request))

    def chooseMethod(
        self, greeting: wire.Greeting, exchange: Exchange
    ) -> IAuthenticator:
        """
        The strongest method that both sides have (RFC 1928, section 3).

        @raise NoAcceptableMethod: There is none.
        """
        for authenticator in self.factory.authenticators:  # the strongest first
            if authenticator.method not in greeting.methods:
                continue
            try:
                isAvailable = authenticator.isAvailable(exchange)
                if not isinstance(isAvailable, bool):  # such as a Deferred
                    raise TypeError(f"not a bool: {type(isAvailable).__name__}")
            except Exception:
                logDefect(authenticator, "isAvailable", Failure(), withText=False)
                continue
            if isAvailable:
                self._authenticator = authenticator
                self.session.method = authenticator.method
                return authenticator
        self.factory.counts.authenticated(wire.NO_ACCEPTABLE_METHODS, "failed")
        raise NoAcceptableMethod("no acceptable authentication method")

    async def authenticate(
        self, authenticator: IAuthenticator, exchange: Exchange
    ) -> None:
        """
        Find out who the client is.

        @raise SOCKSError: It is not let in.
        """
        outcome = "abandoned"
        try:
            answer = authenticator.authenticate(exchange)
            if not isinstance(answer, Authenticated):
                answer = await answer
            if not isinstance(answer, Authenticated):
                raise TypeError(f"not Authenticated: {type(answer).__name__}")
            outcome = "succeeded"
        except AuthenticationFailed:
            outcome = "failed"
            raise
        except (SOCKSError, CancelledError):
            raise
        except Exception:
            outcome = "broken"
            # Its text may hold what the client sent: a password.
            logDefect(authenticator, "authenticate", Failure(), withText=False)
            raise AuthenticationFailed("the authenticator failed") from None
        finally:
            self.factory.counts.authenticated(authenticator.method, outcome)
            if self._attempt is not None:
                self._attempt.end(outcome == "failed")
        self.session.identity = answer.identity
        self.session.logout = answer.logout
        if answer.layer is not None:
            self.session.layer = answer.layer
            self.transport = LayeredTransport(self.transport, answer.layer)
            self._plain = None
            try:
                self.stream.setLayer(answer.layer)
            except Exception as error:  # what was sent ahead is not good
                raise StreamEnded(layerProblem(error)) from None

    async def claim(self, name: bytes) -> None:
        """
        The client claims to be somebody, which is about to be checked.

        @raise AuthenticationFailed: There have been too many failures.
        """
        if self._attempt is not None:
            raise RuntimeError("a client claims to be somebody only once")
        self._attempt = self.factory.throttle.attempt(self.session.client, name)
        await self._attempt.begin()

    async def checkAccount(self) -> None:
        """
        See whether the client would still be let in as who it is.

        @raise ConnectionNotAllowed: It would not.
        """
        session, isOffered = self.session, False
        assert session.identity is not None
        for authenticator in self.factory.authenticators:
            if authenticator.method == session.method:
                isOffered = True
                if not IAccountAuthenticator.providedBy(authenticator):
                    return
                answer: Any = authenticator.hasAccount(session.identity)
                if await answerOf(answer):
                    return
        if isOffered:
            raise ConnectionNotAllowed("the account is gone or has changed")
        raise ConnectionNotAllowed("the method that let it in is gone")

    def takeDown(self, message: wire.Request) -> Request:
        """
        Take down what the client asks for (RFC 1928, section 4).

        @raise SOCKSError: It cannot be had.
        """
        session = self.session
        session.command = message.command
        host = message.host
        session.rawTarget = host if isinstance(host, bytes) else host.packed
        if message.command not in self.factory.commands:  # whatever it is for
            raise CommandNotSupported(f"no command {message.command:02x}")
        session.target = Address.fromWire(host, message.port)
        if self.stream.ended and self.stream.isEmpty:
            raise StreamEnded("the client closed before it was served")
        return Request.of(session)

    # -- what a command does to its client -----------------------------------------

    async def check(self, address: Address, asked: Address | None) -> None:
        """
        Whether the client's request may come down to an address.

        @param asked: What the client has named.

        @raise ReplyError: It may not.
        """
        assert self._request is not None
        decision = await self.factory.judge.check(
            self._request, address, asked or address
        )
        if decision.limits is not None:
            await self.accounting.forRule(decision)

    async def checkName(self, name: Address) -> None:
        """
        Whether the client may send datagrams to a name.

        @raise ConnectionNotAllowed: It may not.
        """
        assert self._request is not None
        await self.factory.judge.checkName(self._request, name)

    def sendReply(self, reply: int, bound: Address | None) -> None:
        """
        Answer the request (RFC 1928, section 6).
        """
        if self.session.state is State.RUNNING:
            self.session.reply = reply
            self.send(_encodeReply(reply, bound))

    def relay(self, outbound: IOutbound) -> None:
        """
        Join the client with a destination.
        """
        session = self.session
        if session.state is not State.RUNNING:
            outbound.abort()
            return
        session.state = State.RELAYING
        self._forgetReset()
        if self._accounting is not None:
            self._accounting.portIsClosed()
        session.dialled = outbound.peer
        if IWatchedOutbound.providedBy(outbound):
            self._outbound = outbound
        meters = self.meters
        session.tunnel = session.traffic = self.factory.relay.join(
            self.transport,
            self.stream,
            outbound,
            self.finish,
            self._plain,
            **({} if meters is None else {"meters": meters}),
        )
        if self.revision != self.factory.revision:
            Deferred.fromCoroutine(self.revise())

    async def approve(self, peer: Address | None) -> None:
        """
        Have a connection that was made judged again, if the policy has changed
        since it was.

        @param peer: What it is connected to; L{None}, if only another proxy knows.
        @raise ConnectionNotAllowed: It is denied now.
        """
        while self.revision != self.factory.revision:
            self.revision = self.factory.revision
            await self.judgeAgain(peer or self.session.target)

    async def judgeAgain(self, dialled: Address | None) -> None:
        """
        Have the request judged, and where it has come to.

        @param dialled: That; L{None}, if it has not come to an end yet.
        @raise ConnectionNotAllowed: It is denied now.
        """
        request, judge = self._request, self.factory.judge
        assert request is not None
        decision = await judge.decide(request)
        decision.enforce()
        self.session.decision = decision
        decisions = [decision]
        if dialled is not None and dialled.ip is not None:
            decisions.append(await judge.check(request, dialled, dialled))
        rules = [
            Allowance(each.scope, each.limits)
            for each in decisions
            if each.limits is not None
        ]
        if rules or self._accounting is not None:
            self.accounting.goByRules(rules, areAll=dialled is not None)

    async def revise(self) -> None:
        """
        The policy may have changed: have what goes on judged again.  What was asked
        before, and is not answered yet, is not asked any more.
        """
        self._stopRevising()
        self._revising = Revising(self)
        await self._revising.begin()

    def countAgain(self, isServed: bool) -> None:
        """
        Count the session by the limits that there are now.

        @param isServed: Whether it is counted for its request.
        """
        admission = self.factory.admission
        if self._accounting is not None or (
            admission.countsConnections
            or admission.boundsBandwidth
            or (isServed and admission.claimsOfRequest(self.session))
        ):
            self.accounting.goBy(admission, self._isKnown, isServed)

    async def untilClosed(self) -> None:
        """
        Wait for the client to close its connection, and drop what it sends
        meanwhile.

        @raise StreamEnded: It had closed already.
        """
        self.stream.discard()
        if self.stream.ended:
            raise StreamEnded("client closed")
        await Deferred()

    # -- what comes of the conversation ------------------------------------------

    def served(self, result: None) -> None:
        if self.session.state is State.RUNNING:
            self.session.reason = self.session.reason or "done"
            self.close()

    def failed(self, failure: Failure) -> None:
        if self.session.state in (State.CLOSING, State.ENDED):
            return  # it was cancelled
        error = failure.value
        if not isinstance(error, SOCKSError):
            command = self.factory.commands.get(self.session.command or 0)
            if command is None:
                logDefect(self, "serve", failure)
            else:
                logDefect(command, "run", failure)
            error = GeneralFailure("the command failed")
        if isinstance(error, ConnectionNotAllowed):  # of an address, perhaps
            self.session.decision = error.decision or self.session.decision
        self.session.reason = self.session.reason or str(error) or type(error).__name__
        if self.session.tunnel is not None:
            self.session.tunnel.abort()  # which owns the connection by now
        else:
            self.close(self._lastReply(error))

    def _lastReply(self, error: SOCKSError) -> bytes:
        """
        What tells a client of an error, in the phase that it is in.  One that
        has closed, or that has not finished its message, is told nothing.
        """
        session = self.session
        if isinstance(error, StreamEnded):
            return b""
        if session.state is State.GREETING:
            return _NO_METHOD
        if session.state is State.AUTHENTICATING:
            assert self._authenticator is not None
            return self._authenticator.failureReply
        session.reply = error.reply
        return _encodeReply(error.reply, None)

    def handshakeExpired(self) -> None:
        """
        The request has not come in time.
        """
        self._timer = None
        self.session.reason = "handshake timed out"
        reply = b""
        if self.session.state is State.AUTHENTICATING and not self.stream.isAwaited:
            reply = self._lastReply(AuthenticationFailed())
        self.close(reply)


def _encodeReply(reply: int, bound: Address | None) -> bytes:
    address = bound or _NO_ADDRESS
    assert not isinstance(address.host, str)
    return wire.Reply(reply, address.host, address.port).encode()
