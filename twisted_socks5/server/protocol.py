# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
One client's connection, phase by phase.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_socks5 import wire
from twisted_socks5.addresses import UNIX_CLIENT, Address, addressOf
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
from twisted_socks5.limits.bandwidth import Meters
from twisted_socks5.limits.claims import Claim
from twisted_socks5.observe.defects import logDefect
from twisted_socks5.outcome import answerOf, outcomeOf
from twisted_socks5.relay.halfclose import canHalfClose, passHalfClose
from twisted_socks5.relay.plain import plainTransport
from twisted_socks5.server.accounting import Accounting
from twisted_socks5.server.exchange import Exchange
from twisted_socks5.server.request import Request
from twisted_socks5.server.revising import Revising
from twisted_socks5.server.session import Session, State
from twisted_socks5.server.throttle import Attempt
from twisted_socks5.stream import ByteStream
from twisted_socks5.timerqueue import Timer

if TYPE_CHECKING:
    from twisted.internet.tcp import Connection

    from twisted_socks5.server.factory import SOCKS5ServerFactory

_NO_METHOD = wire.MethodChoice(wire.NO_ACCEPTABLE_METHODS).encode()
_NO_ADDRESS = Address(IPv4Address(0), 0)

_LINGER = 0.5
"""
How long, in seconds, a client may take to read its last reply before the
connection is closed, whatever it still sends.
"""


@implementer(IHalfCloseableProtocol, IPushProducer)
class SOCKS5ServerProtocol(Protocol):
    """
    The server's side of one connection (RFC 1928).

    @ivar factory: What it shares with all the others.
    @ivar revision: By which state of the policy it was judged the last time.
    @ivar session: What is known of the client.
    @ivar stream: The bytes that the client sends.
    """

    factory: SOCKS5ServerFactory
    session: Session
    stream: ByteStream
    transport: Any

    _serving: Deferred[None] | None = None
    _authenticator: IAuthenticator | None = None
    _attempt: Attempt | None = None
    _request: Request | None = None
    _revising: Revising | None = None
    revision = -1
    _timer: Timer | IDelayedCall | None = None
    _plain: Connection | None = None
    _isKnown = False
    _accounting: Accounting | None = None
    _unanswered = 0
    _outbound: IWatchedOutbound | None = None
    _watched = -1

    # -- the conversation -----------------------------------------------------

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
                raise StreamEnded(_layerProblem(error)) from None

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

    @property
    def accounting(self) -> Accounting:
        """
        What the session is counted for.
        """
        if self._accounting is None:
            self._accounting = Accounting(self.factory.admission, self.session)
            if self.session.state is State.ENDED:
                self._accounting.end()
        return self._accounting

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

    @property
    def meters(self) -> Meters | None:
        """
        What bounds the bytes that it carries, if anything does.
        """
        if self._accounting is None and not self.factory.admission.boundsBandwidth:
            return None
        return self.accounting.meters

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

    def _stopRevising(self) -> None:
        if self._revising is not None:
            self._revising.stop()

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

    def send(self, data: bytes) -> None:
        """
        Send bytes to the client.  To a plain socket they go at once, which
        saves the reactor a round, as long as it takes everything.
        """
        if self._plain is not None:
            try:
                data = data[self._plain.getHandle().send(data) :]
            except OSError:
                pass  # of which the transport will learn, too
            if not data:
                return
            self._plain = None
        self.transport.write(data)

    # -- what comes of the conversation ------------------------------------------

    def _served(self, result: None) -> None:
        if self.session.state is State.RUNNING:
            self.session.reason = self.session.reason or "done"
            self.close()

    def _failed(self, failure: Failure) -> None:
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

    def end(self, reason: str) -> None:
        """
        End the session, whatever it is doing.
        """
        # Later, since whoever asks may be run by the conversation itself.
        self.factory.reactor.callLater(0, self.cut, reason)

    def cut(self, reason: str) -> None:
        """
        End the session at once.  Not for those whom the conversation runs.
        """
        if self.session.state is State.ENDED:
            return
        self.session.reason = self.session.reason or reason
        if self.session.tunnel is not None:
            self.session.tunnel.abort()
        else:
            self.close()

    def close(self, reply: bytes = b"") -> None:
        """
        Undo what was begun, and close the connection so that a last reply
        reaches the client.  Were it closed while bytes of the client wait to
        be read, the kernel would send a reset, which destroys the reply on
        its way; so they are read, for a while, and dropped.
        """
        session, transport = self.session, self.transport
        if session.state in (State.CLOSING, State.ENDED):
            return
        self.stopTimer()
        if reply:
            self.send(reply)
        session.state = State.CLOSING
        self._cancel()
        self.stream.discard()
        if reply and not self.stream.ended and canHalfClose(transport):
            transport.loseWriteConnection()
            self._timer = self.factory.reactor.callLater(_LINGER, self._closeNow)
        else:
            self._closeNow()

    def _cancel(self) -> None:
        """
        Undo what was begun, and hear no answers any more.
        """
        if self._serving is not None:
            self._serving.cancel()
        self._stopRevising()

    def _closeNow(self) -> None:
        # First the timer: the connection may be lost at once, which stops it.
        self._timer = self.factory.reactor.callLater(_LINGER, self._abort)
        self.transport.loseConnection()

    def _abort(self) -> None:
        self._timer = None
        self.transport.abortConnection()

    def finish(self, reason: str) -> None:
        """
        It is over, and nothing is left open.
        """
        session = self.session
        if session.state is State.ENDED:
            return
        session.reason = session.reason or reason
        self._stopRevising()
        if self._accounting is not None:
            self._accounting.end()
        if self._outbound is not None:
            self._outbound.ended()
        self.factory.admission.spending.end(session)
        self.factory.sessionEnded(session)

    # -- IPushProducer: what comes from the client ---------------------------------

    def pauseProducing(self) -> None:
        """
        More waits to be read than is kept.
        """
        self.transport.pauseProducing()
        self._watchForReset()

    def resumeProducing(self) -> None:
        """
        It has been read.
        """
        self._forgetReset()
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """
        Nobody wants any of it.
        """
        self.transport.abortConnection()

    def _watchForReset(self) -> None:
        """
        The reactor does not watch the client's socket now, so it would tell of no
        reset.
        """
        if self._plain is not None:
            self._watched = self._plain.fileno()
            self.factory.resets.watch(self._watched, self)

    def _forgetReset(self) -> None:
        if self._watched != -1:
            self.factory.resets.forget(self._watched)
            self.factory.resets.rest()
            self._watched = -1

    def wasReset(self) -> None:
        """
        The client is gone while it was not read.
        """
        self.transport.abortConnection()

    @property
    def scope(self) -> int:
        """
        The number of the network interface that a link-local address of ours is of;
        of the socket's, whatever a PROXY header says.
        """
        transport: Any = self.transport
        while isinstance(transport, ProtocolWrapper):
            transport = transport.transport
        scope: int = getattr(transport.getHost(), "scopeID", 0)
        return scope

    def stopTimer(self) -> None:
        """
        The deadline that runs, if one does, was kept.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- from the transport ---------------------------------------------------

    def connectionMade(self) -> None:
        """
        A client has connected.
        """
        transport, factory = self.transport, self.factory
        self.stream = ByteStream(self)
        local = addressOf(transport.getHost())
        factory.ownListeners.learn(local)
        peer = addressOf(transport.getPeer())
        self.session = factory.registry.open(self, peer, local)
        if factory.accessLog is not None:
            factory.accessLog.sessionStarted(self.session)
        admission = factory.admission
        if admission.countsConnections and not self.claimForConnection(
            admission.claimsOfAll()
        ):
            return
        self._plain = plainTransport(transport)
        if hasattr(transport, "setTcpNoDelay"):
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)
        self._timer = factory.handshakes.start(self.handshakeExpired)
        if isinstance(transport, ProtocolWrapper):
            # It may learn from its first bytes who the client is (PROXY).
            passHalfClose(transport, self)
        else:
            self.countClient()

    def claimForConnection(self, claims: Sequence[Claim]) -> bool:
        """
        Count the session for what is limited before it is served.

        @return: Whether it may stay, for what is known now.
        """
        refused = self.accounting.forConnection(claims)
        if isinstance(refused, Deferred):
            self._unanswered += 1
            refused.addCallback(self._answered)
            return True
        if refused is not None:
            self.refuse(refused.reason)
        return refused is None

    def _answered(self, refused: Claim | None) -> None:
        self._unanswered -= 1
        if self.session.state is not State.GREETING:
            return
        if refused is not None:
            self.refuse(refused.reason)
        elif self._isKnown and not self.stream.isEmpty:
            self._beginToServe()

    def knowClient(self) -> bool:
        """
        Take down where the client of a balancer is, which is known by now.

        @return: Whether it may stay.
        """
        session = self.session
        try:
            client = addressOf(self.transport.getPeer())
        except ValueError:  # a PROXY header with nonsense in it
            client = UNIX_CLIENT
        if client.ip is None and session.client.ip is not None:
            # Or one with a UNIX socket of the balancer's, which is not ours.
            self.refuse("the PROXY header tells no address of the client")
            return False
        session.client = client
        return self.countClient()

    def countClient(self) -> bool:
        """
        Count the session for its client's address.

        @return: Whether it may stay.
        """
        self._isKnown = True
        if self._accounting is None:
            return True
        claims = self.factory.admission.claimsOfClient(self.session.client)
        return self.claimForConnection(claims)

    def refuse(self, reason: str) -> None:
        """
        Turn the client away before it is served.
        """
        self.finish(reason)
        self.stopTimer()
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """
        Bytes came from the client.
        """
        session = self.session
        if self._serving is None:
            if session.state is not State.GREETING or (
                not self._isKnown and not self.knowClient()
            ):
                return
            self.stream.dataReceived(data)
            self._beginToServe()
            return
        try:
            self.stream.dataReceived(data)
        except Exception as error:
            self._layerFailed(error)

    def _beginToServe(self) -> None:
        if not self._unanswered:
            serving = self._serving = Deferred.fromCoroutine(self.serve())
            serving.addCallbacks(self._served, self._failed)

    def readConnectionLost(self) -> None:
        """
        The client has closed its direction.  With nothing left to pass on, it
        has no use for what was begun for it.
        """
        try:
            self.stream.readConnectionLost()
        except Exception as error:
            self._layerFailed(error)
            return
        state = self.session.state
        if state is State.CLOSING:
            self.stopTimer()
            self._closeNow()
        elif self.stream.isEmpty and (
            self._serving is None
            or state in (State.AUTHENTICATING, State.DECIDING, State.RUNNING)
        ):
            self.session.reason = self.session.reason or "client closed"
            self.close()
        elif self.session.tunnel is None:
            self._watchForReset()

    def writeConnectionLost(self) -> None:
        """
        Our direction is closed, as we wanted.
        """

    def _layerFailed(self, error: Exception) -> None:
        self.session.reason = _layerProblem(error)
        if self.session.tunnel is None:
            self.close()
            return
        # What came before was good: the destination gets it, and nothing else.
        self.stream.connectionLost(Failure(ConnectionDone()))
        self.stream.discard()
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The client is gone.
        """
        self.stopTimer()
        self._forgetReset()
        self.stream.connectionLost(reason)
        session = self.session
        if session.tunnel is not None or session.state is State.ENDED:
            return
        session.state = State.CLOSING
        self._cancel()
        self.finish("client closed" if reason.check(ConnectionDone) else "client reset")


def _layerProblem(error: Exception) -> str:
    return f"protection failed: {type(error).__name__}"


def _encodeReply(reply: int, bound: Address | None) -> bytes:
    address = bound or _NO_ADDRESS
    assert not isinstance(address.host, str)
    return wire.Reply(reply, address.host, address.port).encode()
