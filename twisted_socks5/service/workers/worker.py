# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A worker, as it sees itself.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger, globalLogBeginner
from twisted.python.failure import Failure

from twisted_socks5.addresses import Address
from twisted_socks5.server.throttle import Failures
from twisted_socks5.service.logs import LoggedService, Logs
from twisted_socks5.service.options import SOCKS5Options, fail
from twisted_socks5.service.server import SOCKS5Service, makeServer
from twisted_socks5.service.workers.balance import Comparing
from twisted_socks5.service.workers.channel import Channel, join
from twisted_socks5.service.workers.counting import COUNTS
from twisted_socks5.service.workers.failures import decode, encode
from twisted_socks5.service.workers.forwarding import Forwarder
from twisted_socks5.service.workers.ledger import RemoteLedger
from twisted_socks5.service.workers.listening import AdoptingReactor
from twisted_socks5.service.workers.messages import (
    Compare,
    Done,
    Drain,
    Events,
    Failed,
    Gather,
    Hurry,
    Offer,
    Ready,
    Reload,
    Told,
)

_log = Logger(namespace="twisted_socks5")

SESSIONS = 1_000_000_000
"""
How far the numbers of one worker's sessions are from those of the next.
"""

_LAST = 1.0
"""
How long, in seconds, the last events may take to be passed on.
"""

_ORPHANED = 5.0
"""
How long, in seconds, a worker lives at most whose supervisor has gone.
"""


class Worker(Channel):
    """
    Serves, and does as the supervisor says.

    @ivar subjects: What the supervisor can ask about, and who answers.
    """

    def __init__(
        self,
        reactor: Any,
        service: IService,
        server: SOCKS5Service,
        forwarder: Forwarder,
        adopting: AdoptingReactor,
    ) -> None:
        Channel.__init__(self)
        self._reactor = reactor
        self._service = service
        self._server = server
        self._forwarder = forwarder
        self._adopting = adopting
        self._told: dict[str, Told] = {}
        factory = server.factory
        self._comparing = Comparing(reactor, factory.registry.__len__, self._compare)
        factory.accepting.isAhead = self._comparing.isAhead
        factory.throttle.report = self._report
        self.subjects: dict[str, Callable[[], object]] = {}
        reactor.addSystemEventTrigger("before", "shutdown", self._end)

    def connectionMade(self) -> None:
        """
        The supervisor is there: begin.
        """
        Channel.connectionMade(self)
        self._forwarder.begin(self._send)
        self._service.startService()
        self._comparing.start()
        self.callRemote(Ready).addErrback(lambda _: None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        The supervisor has gone, and we with it.
        """
        Channel.connectionLost(self, reason)
        self._reactor.callLater(_ORPHANED, os._exit, 1)
        self._server.hurry()
        self._stop()

    def _send(self, lines: bytes, dropped: int) -> Deferred[Any]:
        sent: Deferred[Any] = self.callRemote(Events, lines=lines, dropped=dropped)
        return sent

    def _report(self, failures: Failures) -> None:
        # If it has gone, so will we.
        told = self.callRemote(Failed, failures=encode(failures))
        told.addErrback(lambda _: None)

    async def _compare(self, sessions: int) -> int:
        answer = await self.callRemote(Compare, sessions=sessions)
        mean: int = answer["mean"]
        return mean

    def _stop(self) -> None:
        try:
            self._reactor.stop()
        except ReactorNotRunning:  # it was told to, by a signal perhaps
            pass

    def _end(self) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._ending())

    async def _ending(self) -> None:
        await maybeDeferred(self._service.stopService)
        passedOn = self._forwarder.whenEmpty()
        # What was told before is known there when this is answered.
        passedOn.addCallback(lambda _: self.callRemote(Done))
        passedOn.addTimeout(_LAST, self._reactor).addErrback(lambda _: None)
        await passedOn

    # -- what the supervisor says -------------------------------------------------

    @Drain.responder
    def drain(self) -> Deferred[Any]:
        self._reactor.callLater(0, self._stop)
        return self._server.stopListening().addCallback(lambda _: {})

    @Hurry.responder
    def hurry(self) -> dict[str, Any]:
        self._server.hurry()
        self._reactor.callLater(0, self._stop)
        return {}

    @Offer.responder
    def offer(self, key: str, descriptor: int) -> dict[str, Any]:
        self._adopting.offer(key, socket.socket(fileno=descriptor))
        return {}

    @Reload.responder
    def reload(self) -> Deferred[Any]:
        obeyed = self._server.reload.whenObeyed()
        # Whoever reads something again does it at this signal.
        signal.raise_signal(signal.SIGHUP)
        return obeyed.addCallback(self._reloaded)

    def _reloaded(self, result: object) -> dict[str, Any]:
        self._adopting.drop()
        return {}

    @Failed.responder
    def failed(self, failures: bytes) -> dict[str, Any]:
        for key, count in decode(failures):
            self._server.factory.throttle.failed(key, count)
        return {}

    @Gather.responder
    def gather(self, subject: str, part: int) -> dict[str, Any]:
        if part == 0:
            try:
                self._told[subject] = Told(self.subjects[subject]())
            except Exception:
                _log.failure("what there is to know of {subject}", subject=subject)
                self._told[subject] = Told(None)
        return self._told[subject].part(part)


def serve(start: Mapping[str, Any], reactor: Any) -> None:
    """
    Be a worker, until it ends.

    @param start: What the supervisor has said.
    """
    number: int = start["number"]
    forwarder = Forwarder(number)
    globalLogBeginner.beginLoggingTo([forwarder], redirectStandardIO=False)
    # They are for the supervisor, which tells us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    folder = os.getcwd()
    os.chdir(start["folder"])
    options = SOCKS5Options()
    options.parseOptions(start["arguments"])
    ledger = RemoteLedger()
    adopting = AdoptingReactor(reactor)
    for key, descriptor in start["listening"]:
        adopting.offer(key, socket.socket(fileno=descriptor))
    try:
        logs = Logs(reactor, options)
        server = makeServer(reactor, options, logs, ledger, adopting, isWorker=True)
    except ValueError as error:
        fail(error)
    adopting.drop()
    server.factory.accepting.isShared = True
    service = LoggedService(logs, server)
    os.chdir(folder)
    factory = server.factory
    factory.registry.startAt(number * SESSIONS + 1)
    for host, port in start["own"]:
        factory.ownListeners.add(Address(ip_address(host), port))
    factory.counts.read("linesDropped", lambda: logs.dropped() + forwarder.dropped)
    worker = Worker(reactor, service, server, forwarder, adopting)
    worker.subjects[COUNTS] = factory.counts.snapshot
    ledger.begin(worker.callRemote)
    join(reactor, socket.socket(fileno=start["channel"]), worker)
    reactor.run()
