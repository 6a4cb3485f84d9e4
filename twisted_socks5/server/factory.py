# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What all connections of one server share.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from twisted_socks5.commands import Associate, Bind, Connect
from twisted_socks5.interfaces import (
    IAccessLog,
    IAuthenticator,
    ICommand,
    IConnectPolicy,
    IRelay,
    IRoute,
)
from twisted_socks5.limits import Admission
from twisted_socks5.observe.counts import Counts
from twisted_socks5.observe.defects import logDefect
from twisted_socks5.policy import Guard
from twisted_socks5.relay import AutomaticRelay
from twisted_socks5.resets import Resets
from twisted_socks5.routes import DirectRoute, NameResolver
from twisted_socks5.routes.timed import TimedResolver
from twisted_socks5.server.accepting import Accepting
from twisted_socks5.server.judge import Judge
from twisted_socks5.server.listeners import OwnListeners
from twisted_socks5.server.protocol import SOCKS5ServerProtocol
from twisted_socks5.server.session import LIVE, Session, SessionRegistry
from twisted_socks5.server.throttle import Throttle
from twisted_socks5.settings import (
    BindSettings,
    Limits,
    Throttling,
    Timeouts,
    UDPSettings,
)
from twisted_socks5.timerqueue import TimerQueue

_AT_ONCE = 100
"""
How many sessions are judged again before others get their turn.
"""


class SOCKS5ServerFactory(ServerFactory):
    """
    A SOCKS5 server, to be listened with on any endpoint.

    @ivar reactor: What it runs on.
    @ivar accepting: To be told of its listening ports (L{Accepting.watch}), so
        that it does not run out of descriptors.
    @ivar accessLog: Is told of sessions, if anybody is.
    @ivar admission: Who counts sessions where there are limits.
    @ivar authenticators: The methods, the strongest first.
    @ivar commands: By their CMD octet.
    @ivar counts: What happened how often.
    @ivar handshakes: Run from accepting a client to its request.
    @ivar judge: Who is asked whether a request is allowed.
    @ivar ownListeners: Where clients connect to; nobody gets there through
        the proxy.
    @ivar registry: The sessions that live now.
    @ivar relay: What carries bytes.
    @ivar route: The way out, unless the policy says another.
    @ivar throttle: Who has failed to log in, and how often.
    @ivar timeouts: The deadlines.
    """

    protocol: Any = SOCKS5ServerProtocol
    noisy = False

    def __init__(
        self,
        reactor: Any,
        authenticators: Iterable[IAuthenticator],
        policy: IConnectPolicy | None = None,
        route: IRoute | None = None,
        commands: Iterable[ICommand] | None = None,
        relay: IRelay | None = None,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        bind: BindSettings | None = None,
        udp: UDPSettings | None = None,
        accessLog: IAccessLog | None = None,
        throttling: Throttling | None = None,
        admission: Admission | None = None,
        counts: Counts | None = None,
    ) -> None:
        """
        @param reactor: What to run on.
        @param authenticators: The methods to let clients in by.  There is no
            default: C{[NoAuthentication()]} lets anybody in.
        @param policy: Who may go where; by default the
            L{Guard<twisted_socks5.policy.Guard>}.
        @param route: The way out; by default straight from this host.
        @param commands: What clients may ask for; by default CONNECT, BIND and
            UDP ASSOCIATE.
        @param relay: What carries bytes; by default the best there is for each
            tunnel.
        @param timeouts: The deadlines.
        @param limits: How much there may be at once.
        @param bind: How the default BIND listens.
        @param udp: How the default UDP associations work.
        @param accessLog: Is told of each session when it has ended.
        @param throttling: What failed logins lead to.
        @param admission: What counts sessions by limits, instead of C{limits}: for
            several factories with limits in common.
        @param counts: Where to count what happens, instead of anew.
        @raise ValueError: There are no authenticators, or one's method is no
            octet from 00 to FE, or its strength no number; or a command's code is no
            octet.
        """
        self.reactor = reactor
        self.timeouts = timeouts or Timeouts()
        self.authenticators = _inOrder(authenticators)
        self.registry = SessionRegistry()
        self.admission = admission or Admission(reactor, limits)
        self.handshakes = TimerQueue(reactor, self.timeouts.handshake)
        self.accepting = Accepting(
            reactor, lambda: len(self.handshakes), self.registry.__len__
        )
        self.commands: dict[int, ICommand] = {}
        self.counts = counts or self._ownCounts()
        if commands is None:
            commands = [
                Connect(self.counts.connected),
                Bind(reactor, self.timeouts, bind),
                Associate(reactor, self.timeouts, udp),
            ]
        self.addCommands(commands)
        # One that is merely false counts, too: nobody gets out by a way, or past a
        # policy, that was not meant.
        if route is None:
            route = DirectRoute(
                reactor,
                TimedResolver(NameResolver(reactor), self.counts.resolved),
                self.timeouts,
                bind=bind,
                udp=udp,
            )
        self.route: IRoute = route
        self.relay = relay or AutomaticRelay(reactor, self.timeouts)
        self.resets = Resets(reactor)
        self.ownListeners = OwnListeners()
        self.judge = Judge(
            reactor,
            Guard() if policy is None else policy,
            self.ownListeners,
            self.timeouts.policy,
        )
        self.accessLog = accessLog
        self.throttle = Throttle(reactor, throttling or Throttling())

    def _ownCounts(self) -> Counts:
        counts = Counts(self.registry, LIVE, lambda: self.commands)
        counts.read("limitsHit", lambda: self.admission.limitsHit)
        counts.read("turnedAway", lambda: self.accepting.turnedAway)
        return counts

    def sibling(
        self,
        authenticators: Iterable[IAuthenticator],
        policy: IConnectPolicy,
        admission: Admission | None = None,
    ) -> SOCKS5ServerFactory:
        """
        A factory for another listener of the same server, which lets clients in by
        other methods, or has another policy.  All else is the same for both: the
        sessions and their limits, failed logins, commands, routes, the relay.

        @param admission: With what further limits.
        @raise ValueError: As when a factory is made.
        """
        other = copy(self)
        other.numPorts = 0
        other.admission = admission or self.admission
        other.authenticators = _inOrder(authenticators)
        other.judge = Judge(
            self.reactor, policy, self.ownListeners, self.timeouts.policy
        )
        return other

    def become(self, other: SOCKS5ServerFactory) -> None:
        """
        Serve as another factory would from now on: with its methods, policy,
        commands, route, relay, deadlines, and what failed logins lead to.  What
        lives stays: the sessions and their log, what has failed, own listeners.
        """
        self.authenticators = other.authenticators
        self.commands = other.commands
        self.route = other.route
        self.relay = other.relay
        self.timeouts = other.timeouts
        self.handshakes = other.handshakes
        self.throttle.settings = other.throttle.settings
        self.judge = Judge(
            self.reactor, other.judge.policy, self.ownListeners, other.timeouts.policy
        )

    @property
    def revision(self) -> int:
        """
        How often the policy was said to have changed.
        """
        return self.registry.revision

    def reviseSessions(self) -> Deferred[None]:
        """
        Say that the policy has changed.  Every live session is judged again, by
        its request and by the address that it has come to; those that are denied
        now are ended, with that reason.  Those that are allowed go on, by the way
        that they have.

        @return: Fires when all were judged.
        """
        return Deferred.fromCoroutine(self._revise())

    async def _revise(self) -> None:
        self.registry.revision += 1
        revising = []
        for count, session in enumerate(self.registry, 1):
            revising.append(Deferred.fromCoroutine(session.revise()))
            if count % _AT_ONCE == 0:
                await deferLater(self.reactor, 0)
        await DeferredList(revising)

    def addCommands(self, commands: Iterable[ICommand]) -> None:
        """
        Have clients ask for these too.

        @raise ValueError: A command's code is no octet.
        """
        for command in commands:
            _checkOctet(command, "code", 0xFF)
            self.commands[command.code] = command

    def sessionEnded(self, session: Session) -> None:
        """
        A session is over, and nothing of it is left open.
        """
        self.registry.close(session)
        self.counts.sessionEnded(session)
        if session.logout is not None:
            try:
                session.logout()
            except Exception:
                logDefect(session, "logout", Failure(), withText=False)
        if self.accessLog is not None:
            self.accessLog.sessionEnded(session)


def _inOrder(authenticators: Iterable[IAuthenticator]) -> list[IAuthenticator]:
    """
    The strongest first.

    @raise ValueError: There are none, or one is wrong.
    """
    authenticators = list(authenticators)
    if not authenticators:
        raise ValueError("a server needs an authenticator to let clients in by")
    for authenticator in authenticators:
        verifyObject(IAuthenticator, authenticator)
        _checkOctet(authenticator, "method", 0xFE)
        if not isinstance(authenticator.strength, int | float):
            raise ValueError(
                f"{type(authenticator).__name__}.strength is "
                f"{authenticator.strength!r}, no number"
            )
    return sorted(authenticators, key=lambda one: one.strength, reverse=True)


def _checkOctet(plugin: object, field: str, most: int) -> None:
    """
    @raise ValueError: What a plugin says is no octet, or above the most.
    """
    value = getattr(plugin, field)
    if not isinstance(value, int) or not 0 <= value <= most:
        shown = hex(value) if isinstance(value, int) else repr(value)
        raise ValueError(
            f"{type(plugin).__name__}.{field} is {shown}, no octet from 00 to {most:X}"
        )
