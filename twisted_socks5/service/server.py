# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The service that C{twistd socks5} runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    TimeoutError,
    maybeDeferred,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_socks5.addresses import addressOf
from twisted_socks5.authenticators import (
    NoAuthentication,
    UsernamePasswordAuthenticator,
)
from twisted_socks5.authenticators.certificate import CertificateAuthenticator
from twisted_socks5.interfaces import IAuthenticator
from twisted_socks5.policy.rulesfile import loadRules
from twisted_socks5.relay import AutomaticRelay, PortableRelay
from twisted_socks5.server.factory import SOCKS5ServerFactory
from twisted_socks5.server.session import State
from twisted_socks5.service.accounts import prepareChecker
from twisted_socks5.service.listeners import Listener, describe, listen
from twisted_socks5.service.logs import LoggedService, Logs
from twisted_socks5.service.options import SOCKS5Options, fail
from twisted_socks5.service.plugins import (
    AUTHENTICATOR,
    COMMAND,
    POLICY,
    ROUTE,
    findPlugins,
    makePlugin,
)
from twisted_socks5.service.rules import RulesReload, policyOf
from twisted_socks5.service.stopping import StopSignals

_log = Logger(namespace="twisted_socks5")

# Endpoints of ours and Twisted's that no client shows a certificate to; behind
# haproxy: it would be the balancer's.  Nothing is known of those of others.
_WITHOUT_CERTIFICATES = {"tcp", "tcp6", "unix", "ssl", "systemd", "haproxy"}

_RELAYS: dict[str, type[AutomaticRelay] | type[PortableRelay]] = {
    "auto": AutomaticRelay,
    "portable": PortableRelay,
}


_STOPS = "the server stops"

_PATIENCE = 1.0
"""
How long, in seconds, the sessions that are cut may take to end when the server
stops: those that are told something linger until the client has read it.
"""

_IN_HANDSHAKE = {State.GREETING, State.AUTHENTICATING, State.REQUESTING}


class SOCKS5Service(MultiService):
    """
    A server that listens already, with the services that it needs, which stop
    when its sessions are over.
    """

    def __init__(
        self, factory: SOCKS5ServerFactory, listeners: Sequence[Listener]
    ) -> None:
        MultiService.__init__(self)
        self.factory = factory
        self.listeners = listeners
        self._signals = StopSignals(factory.reactor, self.hurry)
        self._isHurried = False
        self._finishing: Deferred[None] | None = None

    def startService(self) -> None:
        """
        Say where clients can connect.
        """
        MultiService.startService(self)
        self.factory.reactor.callWhenRunning(self._signals.take)
        for listener in self.listeners:
            _log.info(
                "SOCKS5 at {address} ({endpoint})",
                address=str(addressOf(listener.port.getHost())),
                endpoint=listener.description,
            )
            self.factory.accepting.watch(listener.port)

    def stopService(self) -> Deferred[Any]:
        """
        Stop listening, and end all sessions: those that have asked for nothing yet
        at once, the others when they have finished by themselves, or after the
        grace time (C{timeout.grace}).

        @return: Fires when nothing listens any more, and the sessions are over.
        """
        self._signals.isStopping = True
        self.factory.accepting.stop()
        stopping: list[Deferred[Any]] = [
            maybeDeferred(listener.port.stopListening) for listener in self.listeners
        ]
        stopping.append(Deferred.fromCoroutine(self._drain()))
        return DeferredList(stopping).addCallback(lambda _: self._stopOthers())

    def hurry(self) -> None:
        """
        Give sessions no time to finish, neither now nor when the server stops.
        """
        self._isHurried = True
        if self._finishing is not None:
            self._finishing.cancel()

    async def _drain(self) -> None:
        registry, reactor = self.factory.registry, self.factory.reactor
        grace = 0 if self._isHurried else self.factory.timeouts.grace
        served = [one for one in registry if one.state not in _IN_HANDSHAKE]
        for session in registry:
            if session.state in _IN_HANDSHAKE:
                session.cut(_STOPS)
        if grace and served:
            _log.info(
                "{count} sessions have {grace:g} s to finish",
                count=len(served),
                grace=grace,
            )
            self._finishing = registry.whenEmpty()
            await self._finishing.addTimeout(grace, reactor).addErrback(_givenUp)
        for session in registry:
            session.cut(_STOPS)
        await registry.whenEmpty().addTimeout(_PATIENCE, reactor).addErrback(_givenUp)

    def _stopOthers(self) -> Deferred[Any]:
        self._signals.leave()
        stopped: Deferred[Any] = MultiService.stopService(self)
        return stopped


def _givenUp(failure: Failure) -> None:
    failure.trap(TimeoutError, CancelledError)


def makeService(reactor: Any, options: SOCKS5Options) -> MultiService:
    """
    Make the service, and listen.

    @raise SystemExit: It cannot be done; the text says what to do.
    """
    try:
        return _makeService(reactor, options)
    except ValueError as error:
        fail(error)


def _makeService(reactor: Any, options: SOCKS5Options) -> MultiService:
    plugins = findPlugins()
    made = [
        makePlugin(AUTHENTICATOR, plugins, reactor, text)
        for text in options["authenticator"]
    ]
    commands = [
        makePlugin(COMMAND, plugins, reactor, text) for text in options["command"]
    ]
    policy = makePlugin(POLICY, plugins, reactor, options["policy"])
    if options["rules"] is not None:
        loaded = loadRules(options["rules"])
        policy = policyOf(loaded, reactor.seconds, policy)
    route = None
    if options["route"]:
        route = makePlugin(ROUTE, plugins, reactor, options["route"])
    checkers = [prepareChecker(one) for one in options.get("credCheckers", [])]
    authenticators = _authenticators(made, checkers)
    logs = Logs(reactor, options)
    settings = options["settings"]
    factory = SOCKS5ServerFactory(
        reactor,
        authenticators,
        policy=policy,
        route=route,
        relay=_RELAYS[options["relay"]](reactor, settings.timeout),
        timeouts=settings.timeout,
        limits=settings.limit,
        bind=settings.bind,
        udp=settings.udp,
        throttling=settings.throttle,
        accessLog=logs.access,
    )
    factory.addCommands(commands)
    descriptions = [describe(port, options["interface"]) for port in options["port"]]
    _refuseToLetNobodyIn(authenticators, descriptions)
    listeners = listen(reactor, descriptions, factory)
    if any(isinstance(one, NoAuthentication) for one in authenticators):
        _refuseToBeOpen(listeners, options)
    for listener in listeners:
        factory.ownListeners.add(addressOf(listener.port.getHost()))
    plugins.warn()
    server = SOCKS5Service(factory, listeners)
    for one in (*made, *commands, policy, route, *checkers):
        if IService.providedBy(one):
            one.setServiceParent(server)
    if options["rules"] is not None:
        reload = RulesReload(reactor, options["rules"], loaded, policy, factory)
        reload.setServiceParent(server)
    service = LoggedService(logs)
    logs.setServiceParent(service)
    server.setServiceParent(service)
    return service


def _authenticators(
    made: Sequence[IAuthenticator], checkers: Sequence[ICredentialsChecker]
) -> list[IAuthenticator]:
    """
    Those that were named, and no other: C{none} is there without anything, or
    by its name.
    """
    authenticators = list(made)
    if checkers:
        authenticators.append(UsernamePasswordAuthenticator.withCheckers(*checkers))
    return authenticators or [NoAuthentication()]


def _refuseToLetNobodyIn(
    authenticators: Sequence[IAuthenticator], descriptions: Sequence[str]
) -> None:
    if all(isinstance(one, CertificateAuthenticator) for one in authenticators):
        kinds = {description.partition(":")[0] for description in descriptions}
        if kinds <= _WITHOUT_CERTIFICATES:
            raise ValueError(
                "--authenticator certificate: nobody could get in; certificates of "
                "clients are seen by a listener --port mtls: only"
            )


def _refuseToBeOpen(listeners: Sequence[Listener], options: SOCKS5Options) -> None:
    if options["open"]:
        return
    for listener in listeners:
        if listener.isReachable:
            for each in listeners:
                each.port.stopListening()
            closed = (
                "leave --authenticator none out"
                if options["authenticator"]
                else "add --auth to ask for a password"
            )
            raise ValueError(
                f"--port {listener.description}: anybody could use this proxy from "
                f"other machines; {closed}, or add --open to let everybody in"
            )
