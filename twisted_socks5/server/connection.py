# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The connection of one client: what it is counted for, what it is sent, and how it is
closed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
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

from twisted_socks5.addresses import UNIX_CLIENT, Address, addressOf
from twisted_socks5.interfaces import IWatchedOutbound
from twisted_socks5.limits.bandwidth import Meters
from twisted_socks5.limits.claims import Claim
from twisted_socks5.relay.halfclose import canHalfClose, passHalfClose
from twisted_socks5.relay.plain import plainTransport
from twisted_socks5.server.accounting import Accounting
from twisted_socks5.server.session import Session, State
from twisted_socks5.stream import ByteStream
from twisted_socks5.timerqueue import Timer

if TYPE_CHECKING:
    from twisted.internet.tcp import Connection

    from twisted_socks5.server.factory import SOCKS5ServerFactory
    from twisted_socks5.server.revising import Revising

_LINGER = 0.5
"""
How long, in seconds, a client may take to read its last reply before the
connection is closed, whatever it still sends.
"""


@implementer(IHalfCloseableProtocol, IPushProducer)
class ClientConnection(Protocol, ABC):
    """
    A client's connection, whatever is said on it.

    @ivar factory: What it shares with all the others.
    @ivar session: What is known of the client.
    @ivar stream: The bytes that the client sends.
    """

    factory: SOCKS5ServerFactory
    session: Session
    stream: ByteStream
    transport: Any

    _serving: Deferred[None] | None = None
    _revising: Revising | None = None
    _timer: Timer | IDelayedCall | None = None
    _plain: Connection | None = None
    _isKnown = False
    _accounting: Accounting | None = None
    _unanswered = 0
    _outbound: IWatchedOutbound | None = None
    _watched = -1

    # -- the conversation, which is for others to hold ------------------------------

    @abstractmethod
    def openSession(self, client: Address, listener: Address) -> Session:
        """
        Take down who has connected.
        """

    @abstractmethod
    async def serve(self) -> None:
        """
        Begun when the first bytes came, and cancelled when the connection ends.

        @raise Exception: L{failed} is told.
        """

    @abstractmethod
    def served(self, result: None) -> None:
        """
        The conversation is over.
        """

    @abstractmethod
    def failed(self, failure: Failure) -> None:
        """
        It is over, since something was wrong.
        """

    @abstractmethod
    def handshakeExpired(self) -> None:
        """
        The client has not said in time what it wants.
        """

    # -- its beginning ----------------------------------------------------------

    def connectionMade(self) -> None:
        """
        A client has connected.
        """
        transport, factory = self.transport, self.factory
        self.stream = ByteStream(self)
        local = addressOf(transport.getHost())
        factory.ownListeners.learn(local)
        peer = addressOf(transport.getPeer())
        self.session = self.openSession(peer, local)
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

    @property
    def meters(self) -> Meters | None:
        """
        What bounds the bytes that it carries, if anything does.
        """
        if self._accounting is None and not self.factory.admission.boundsBandwidth:
            return None
        return self.accounting.meters

    # -- what comes from the client ----------------------------------------------

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
            serving.addCallbacks(self.served, self.failed)

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
        self.session.reason = layerProblem(error)
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

    # -- IPushProducer --------------------------------------------------------------

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

    # -- what goes to the client ------------------------------------------------------

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

    # -- its end ---------------------------------------------------------------------

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

    def _stopRevising(self) -> None:
        if self._revising is not None:
            self._revising.stop()

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

    def stopTimer(self) -> None:
        """
        The deadline that runs, if one does, was kept.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def layerProblem(error: Exception) -> str:
    """
    Why a session ends whose layer has failed.
    """
    return f"protection failed: {type(error).__name__}"
