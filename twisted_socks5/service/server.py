# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The service that C{twistd socks5} runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    TimeoutError,
    maybeDeferred,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_socks5.interfaces import ILedger
from twisted_socks5.limits import Admission
from twisted_socks5.server.factory import SOCKS5ServerFactory
from twisted_socks5.server.session import State
from twisted_socks5.service.accounts import ReadableAccounts
from twisted_socks5.service.change import ServerChange
from twisted_socks5.service.listeners import Listener, listen
from twisted_socks5.service.logs import LoggedService, Logs
from twisted_socks5.service.metrics import countAsAsked, serveStatus
from twisted_socks5.service.options import SOCKS5Options, fail
from twisted_socks5.service.prepared import prepare
from twisted_socks5.service.quotas import ledgerOf
from twisted_socks5.service.reload import Reload
from twisted_socks5.service.stopping import StopSignals

_log = Logger(namespace="twisted_socks5")

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
        self,
        factory: SOCKS5ServerFactory,
        listeners: Sequence[Listener],
        reload: Reload,
        isWorker: bool = False,
    ) -> None:
        """
        @param reload: Reads the configuration again.
        @param isWorker: Whether another process has said where clients can connect.
        """
        MultiService.__init__(self)
        self.factory = factory
        self.listeners = listeners
        self.reload = reload
        reload.setServiceParent(self)
        self._isWorker = isWorker
        self._signals = StopSignals(factory.reactor, self.hurry)
        self._isHurried = False
        self._finishing: Deferred[None] | None = None

    def startService(self) -> None:
        """
        Say where clients can connect.
        """
        MultiService.startService(self)
        self.factory.reactor.callWhenRunning(self._signals.take)
        if not self._isWorker:
            for listener in self.listeners:
                listener.tell()
        for listener in self.listeners:
            self.factory.accepting.watch(listener.port)

    def whenServing(self) -> Deferred[None]:
        """
        Wait until clients are accepted.
        """
        serving: Deferred[None] = Deferred()
        self.factory.reactor.callWhenRunning(serving.callback, None)
        return serving

    def stopListening(self) -> Deferred[Any]:
        """
        Let nobody in any more.

        @return: Fires when nothing listens.
        """
        self._signals.isStopping = True
        self.reload.end()
        self.factory.accepting.stop()
        ports = [listener.port for listener in self.listeners]
        self.listeners = ()
        return DeferredList([maybeDeferred(port.stopListening) for port in ports])

    def stopService(self) -> Deferred[Any]:
        """
        Stop listening, and end all sessions: those that have asked for nothing yet
        at once, the others when they have finished by themselves, or after the
        grace time (C{timeout.grace}).

        @return: Fires when nothing listens any more, and the sessions are over.
        """
        stopping = [self.stopListening(), Deferred.fromCoroutine(self._drain())]
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


def makeService(reactor: Any, options: SOCKS5Options) -> LoggedService:
    """
    Make the service, and listen.

    @raise SystemExit: It cannot be done; the text says what to do.
    """
    try:
        logs = Logs(reactor, options)
        ledger, keeper = ledgerOf(reactor, options.configuration)
        server = makeServer(reactor, options, logs, ledger)
    except ValueError as error:
        fail(error)
    if keeper is not None:
        keeper.sessionsOver = server.factory.registry.whenEmpty
        keeper.setServiceParent(server)
    return LoggedService(logs, server)


def makeServer(
    reactor: Any,
    options: SOCKS5Options,
    logs: Logs,
    ledger: ILedger,
    listening: Any = None,
    isWorker: bool = False,
) -> SOCKS5Service:
    """
    Make the server, and listen.

    @param logs: Where it writes its sessions down.
    @param ledger: Where it is counted what there are limits of.
    @param listening: What listens in the reactor's stead, if anything does: in a
        worker, or for workers.
    @param isWorker: Whether another process says where clients can connect.
    @raise ValueError: It cannot be done; the text says what to do.
    """
    settings = options.configuration.settings
    prepared = prepare(
        reactor,
        options.configuration,
        accessLog=logs.access,
        admission=Admission(reactor, settings.limit, ledger),
    )
    listeners = listen(listening or reactor, prepared)
    factory = prepared.factory
    metrics = countAsAsked(reactor, options.configuration, factory.counts)
    try:
        if listening is None:  # else it is told of all workers together
            metrics += serveStatus(
                reactor,
                options.configuration,
                factory.ownListeners.add,
                factory.counts.snapshot,
                lambda: factory.accepting.isOpen,
            )
    except ValueError:
        for listener in listeners:
            listener.port.stopListening()
        raise
    factory.counts.read("linesDropped", logs.dropped)
    prepared.plugins.warn()
    reload = Reload(reactor, options.configure)
    server = SOCKS5Service(prepared.factory, listeners, reload, isWorker)
    accounts = ReadableAccounts(prepared.checkers)
    for one in (accounts, *prepared.services, *metrics):
        one.setServiceParent(server)
    change = ServerChange(
        reactor, prepared, listeners, server, listening or reactor, isWorker
    )
    reload.add(change.prepare)
    return server
