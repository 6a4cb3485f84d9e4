# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The process that has workers serve.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    TimeoutError,
    maybeDeferred,
    succeed,
)
from twisted.logger import Logger

from twisted_socks5.addresses import Address
from twisted_socks5.limits import LocalLedger
from twisted_socks5.service.logs import LoggedService, Logs
from twisted_socks5.service.metrics import serveStatus
from twisted_socks5.service.options import SOCKS5Options, fail
from twisted_socks5.service.quotas import ledgerOf
from twisted_socks5.service.reload import tellWhatIsWrong
from twisted_socks5.service.server import SOCKS5Service, makeServer
from twisted_socks5.service.starting import CannotStart
from twisted_socks5.service.stopping import StopSignals
from twisted_socks5.service.workers.balance import Shares
from twisted_socks5.service.workers.counting import Gathered
from twisted_socks5.service.workers.failures import SharedFailures
from twisted_socks5.service.workers.keptalive import KeptAlive
from twisted_socks5.service.workers.ledger import WorkersAccount
from twisted_socks5.service.workers.listening import BindingReactor
from twisted_socks5.service.workers.process import WorkerProcess
from twisted_socks5.service.workers.watching import Watch
from twisted_socks5.settings import Timeouts

_log = Logger(namespace="twisted_socks5")

_PATIENCE = 2.0
"""
How long, in seconds, workers may take besides their grace time.
"""


class Supervisor(MultiService):
    """
    Has workers serve, and new ones when they end.

    @ivar addresses: Where it listens itself; clients of workers do not get there.
    @ivar watch: Finds those that are stuck.
    @ivar workers: Those that live.
    """

    def __init__(
        self,
        reactor: Any,
        count: int,
        arguments: Sequence[str],
        server: SOCKS5Service,
        bound: BindingReactor,
        ledger: LocalLedger,
    ) -> None:
        """
        @param count: How many workers there are to be.
        @param arguments: Their command line, which is ours.
        @param server: What each of them is to be; it serves nobody itself.
        @param bound: What it listens with.
        @param ledger: Where it is counted what all of them have together.
        """
        MultiService.__init__(self)
        self._reactor = reactor
        self._arguments = list(arguments)
        self._server = server
        self._bound = bound
        self._ledger = ledger
        self._folder = os.getcwd()
        self._signals = StopSignals(reactor, self.hurry)
        self._hangup: Any = signal.SIG_DFL
        self._shares = Shares()
        self._failures = SharedFailures(server.factory.throttle, lambda: self.workers)
        self._started = 0
        self._isHurried = False
        self._finishing: Deferred[Any] | None = None
        self._kept = [KeptAlive(reactor, self._begin) for _ in range(count)]
        self._notServing: list[Deferred[None]] = []
        self._waiting: list[tuple[set[WorkerProcess], Deferred[None]]] = []
        self.workers: list[WorkerProcess] = []
        self.watch = Watch(reactor, lambda: self.workers, self._timeouts.worker)
        self.addresses: list[Address] = []

    @property
    def _timeouts(self) -> Timeouts:
        return self._server.factory.timeouts

    @property
    def _ports(self) -> list[Any]:
        return [listener.port for listener in self._server.listeners]

    @property
    def isReady(self) -> bool:
        """
        Whether clients can come.
        """
        return not self._signals.isStopping and any(
            worker.isReady for worker in self.workers
        )

    def startService(self) -> None:
        """
        Start the workers.  Privileges were given up by now, so they have none.

        @raise CannotStart: The first one cannot serve.
        """
        first, *others = self._kept
        # It takes a while, in which a signal must not end us; it is obeyed afterwards.
        self._hangup = signal.signal(
            signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload)
        )
        try:
            first.start()
        except CannotStart as end:
            end.tell()
            raise
        self._reactor.callWhenRunning(self._signals.take)
        MultiService.startService(self)
        for listener in self._server.listeners:
            listener.tell()
        for kept in others:
            kept.start()
        self.watch.start()

    def _begin(self) -> Deferred[None]:
        self._started += 1
        account = WorkersAccount(self._ledger)
        worker = WorkerProcess(
            self._reactor, self._started, account, self._shares, self._failures
        )
        worker.serving.addCallback(lambda _: self._serves())
        self.workers.append(worker)
        isFirst = worker.number == 1
        try:
            worker.start(
                self._arguments, self._ports, self._folder, self.addresses, isFirst
            )
        except OSError as problem:
            if isFirst:
                reason = problem.strerror or problem
                raise CannotStart(f"a worker cannot be started: {reason}") from None
            _log.error(
                "worker {number} cannot be started: {problem}",
                number=worker.number,
                problem=problem.strerror or str(problem),
            )
            account.close()
            self._ended(worker)
            return succeed(None)
        return worker.ended.addBoth(lambda _: self._ended(worker))

    def _serves(self) -> None:
        waiting, self._notServing = self._notServing, []
        for each in waiting:
            each.callback(None)

    def whenServing(self) -> Deferred[None]:
        """
        Wait until there is a worker that serves.
        """
        waiting: Deferred[None] = Deferred()
        self._notServing.append(waiting)
        if any(worker.isReady for worker in self.workers):
            self._serves()
        return waiting

    def _ended(self, worker: WorkerProcess) -> None:
        self.workers.remove(worker)
        for each in list(self._waiting):
            awaited, waiting = each
            awaited.discard(worker)
            if not awaited:
                self._waiting.remove(each)
                waiting.callback(None)

    def _whenEnded(self, workers: Iterable[WorkerProcess]) -> Deferred[None]:
        """
        Wait until all of these have ended.
        """
        waiting: Deferred[None] = Deferred(lambda _: self._waiting.remove(each))
        each = (set(workers), waiting)
        if each[0]:
            self._waiting.append(each)
        else:
            waiting.callback(None)
        return waiting

    def reload(self) -> None:
        """
        Have all workers read again what can change, unless something is wrong with it.
        """
        if self._signals.isStopping:
            return
        before = self._ports
        told: list[Deferred[Any]] = []
        if self._load():
            ports = self._ports
            # One that does not serve yet has been given others, and there is a next.
            for worker in self.workers:
                if ports != before and not worker.isReady:
                    worker.kill()
            told = [worker.reload(ports) for worker in self.workers]
        Deferred.fromCoroutine(self._closeReleased(DeferredList(told)))

    def _load(self) -> bool:
        """
        Have what workers will read be in force here, with what it listens at.

        @return: Whether it is right.
        """
        try:
            commits = self._server.reload.prepare()
        except ValueError as error:
            tellWhatIsWrong(error)
            return False
        except Exception:
            _log.failure("preparing failed; the old configuration stays in force")
            return False
        for commit in commits:
            maybeDeferred(commit).addErrback(
                lambda failure: _log.failure(
                    "a part of the configuration is not in force", failure
                )
            )
        self.watch.timeout = self._timeouts.worker
        return True

    async def _closeReleased(self, told: Deferred[Any]) -> None:
        """
        Close what nobody listens at any more.

        @param told: Fires when nobody accepts from there.
        """
        released = self._bound.takeReleased()
        await self._wait(told, _PATIENCE)
        for port in released:
            await maybeDeferred(port.stopListening)

    async def gather(self, subject: str) -> dict[int, Any]:
        """
        Ask all workers what they know of a subject.

        @return: What those have told that serve, by their numbers.
        """
        asked = {
            worker.number: Deferred.fromCoroutine(worker.gather(subject))
            for worker in self.workers
            if worker.isReady
        }
        answers = await DeferredList(list(asked.values()), consumeErrors=True)
        return {
            number: answer
            for number, (isAnswered, answer) in zip(asked, answers, strict=True)
            if isAnswered
        }

    # -- the end ------------------------------------------------------------------

    def stopService(self) -> Deferred[Any]:
        """
        Stop listening, and have the workers finish.

        @return: Fires when they have ended.
        """
        self._signals.isStopping = True
        for kept in self._kept:
            kept.stop()
        return Deferred.fromCoroutine(self._stop())

    def hurry(self) -> None:
        """
        Have the workers end now.
        """
        self._isHurried = True
        for worker in self.workers:
            worker.hurry()
        if self._finishing is not None:
            self._finishing.cancel()

    async def _stop(self) -> None:
        began = self._reactor.seconds()
        for worker in self.workers:
            if not worker.isReady:
                worker.kill()
        drained = DeferredList([worker.drain() for worker in self.workers])
        for port in self._ports:
            port.stopListening()
        await self._closeReleased(drained)
        if self._isHurried:
            self.hurry()
        else:
            # One that has not answered is stuck, and its sessions with it.
            self._finishing = self._whenEnded(
                worker for worker in self.workers if worker.isDraining
            )
            end = began + self._timeouts.grace + _PATIENCE
            await self._wait(self._finishing, max(0.0, end - self._reactor.seconds()))
        self._finishing = None
        left = began + _PATIENCE - self._reactor.seconds()
        if self._isHurried:
            left = _PATIENCE
        await self._wait(self._whenEnded(self.workers), max(0.0, left))
        for worker in self.workers:
            worker.kill()
        await self._whenEnded(self.workers)
        self.watch.stop()
        await maybeDeferred(MultiService.stopService, self)
        self._signals.leave()
        signal.signal(signal.SIGHUP, self._hangup)

    async def _wait(self, awaited: Deferred[Any], seconds: float) -> None:
        try:
            await awaited.addTimeout(seconds, self._reactor)
        except (TimeoutError, CancelledError):
            pass


def makeSupervisor(reactor: Any, options: SOCKS5Options) -> LoggedService:
    """
    Make the service of a supervisor, and bind.  All that a server checks when it
    starts is checked here, once for all workers.

    @raise SystemExit: It cannot be done; the text says what to do.
    """
    try:
        logs = Logs(reactor, options)
        ledger, keeper = ledgerOf(reactor, options.configuration)
        bound = BindingReactor(reactor)
        server = makeServer(reactor, options, logs, ledger, bound)
    except ValueError as error:
        fail(error)

    supervisor = Supervisor(
        reactor,
        options.configuration.workers,
        options.arguments,
        server,
        bound,
        ledger,
    )
    if keeper is not None:
        keeper.setServiceParent(supervisor)
    counts = Gathered(
        supervisor.gather,
        lambda: {worker.number for worker in supervisor.workers},
        lambda: {
            "linesDropped": logs.dropped(),
            "workersKilled": supervisor.watch.givenUp,
        },
    )
    try:
        status = serveStatus(
            reactor,
            options.configuration,
            supervisor.addresses.append,
            counts.snapshot,
            lambda: supervisor.isReady,
        )
    except ValueError as error:
        fail(error)
    for one in status:
        one.setServiceParent(supervisor)
    return LoggedService(logs, supervisor)
