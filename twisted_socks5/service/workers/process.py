# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A worker, as its supervisor sees it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol, connectionDone
from twisted.logger import Logger, globalLogPublisher
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from twisted_socks5.addresses import Address
from twisted_socks5.limits.claims import Claim
from twisted_socks5.observe.escape import escape
from twisted_socks5.service.starting import CannotStart
from twisted_socks5.service.workers.balance import Shares
from twisted_socks5.service.workers.channel import Channel, join
from twisted_socks5.service.workers.failures import SharedFailures
from twisted_socks5.service.workers.firststart import awaitFirstWord
from twisted_socks5.service.workers.forwarding import logForwarded
from twisted_socks5.service.workers.ledger import WorkersAccount, decode, encode
from twisted_socks5.service.workers.listening import HeldPort
from twisted_socks5.service.workers.messages import (
    Admit,
    Buy,
    Compare,
    Done,
    Drain,
    Events,
    Failed,
    Gather,
    Hurry,
    Offer,
    Ready,
    Release,
    Reload,
    Spend,
)

_log = Logger(namespace="twisted_socks5")

_FIRST = 3
"""
The first descriptor that a worker inherits, besides the standard ones.
"""

_PATIENCE = 2.0
"""
How long, in seconds, a worker may take to answer.
"""


class WorkerProcess(ProcessProtocol):
    """
    One process.

    @ivar ended: Fires when it has.
    @ivar failures: What has failed in all of them.
    @ivar isReady: Whether it serves clients.
    @ivar serving: Fires when it does.
    @ivar isDraining: Whether it accepts nobody any more, as it was told.
    @ivar number: Which one it is, of all that were started.
    @ivar silence: For how many seconds it was not heard of.
    @ivar shares: How many sessions all of them have.
    """

    transport: Any

    def __init__(
        self,
        reactor: Any,
        number: int,
        account: WorkersAccount,
        shares: Shares,
        failures: SharedFailures,
    ) -> None:
        """
        @param account: What it has of what is limited.
        @param shares: How many sessions all of them have.
        @param failures: What has failed in all of them.
        """
        self._reactor = reactor
        self._account = account
        self.shares = shares
        self.failures = failures
        self._channel = _Answers(self, account)
        self._errors = _Errors(number)
        self.number = number
        self.ended: Deferred[None] = Deferred()
        self.serving: Deferred[None] = Deferred()
        self.isReady = False
        self.isDraining = False
        self.silence = 0.0
        self._isKilled = False
        self._isGivenUp = False
        self._isLost = False

    def start(
        self,
        arguments: Sequence[str],
        ports: Sequence[HeldPort],
        folder: str,
        addresses: Sequence[Address],
        isAwaited: bool = False,
    ) -> None:
        """
        Start it.

        @param arguments: The command line.
        @param ports: What it accepts from.
        @param folder: What relative paths are from.
        @param addresses: Where we listen ourselves.
        @param isAwaited: Whether to wait until it serves.
        @raise OSError: There cannot be another process.
        @raise CannotStart: It was waited for, and has ended.
        """
        channel = _FIRST + _ofSystemd()
        start = {
            "arguments": list(arguments),
            "folder": folder,
            "number": self.number,
            "reactor": type(self._reactor).__module__,
            "channel": channel,
            "own": [(str(one.ip), one.port) for one in addresses if one.ip is not None],
            "listening": [
                (port.key, number) for number, port in enumerate(ports, channel + 1)
            ],
        }
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._spawn(
                    [theirs.fileno(), *(port.fileno() for port in ports)], start
                )
            if isAwaited:
                self._awaitFirstWord(ours)
        except (OSError, CannotStart):
            ours.close()
            raise
        join(self._reactor, ours, self._channel)

    def _spawn(self, inherited: Sequence[int], start: Mapping[str, Any]) -> None:
        """
        Have the process, and tell it what to do before the reactor has to run.
        """
        told, begins = socket.socketpair()
        with told:
            with begins, open(os.devnull) as nothing:
                inherited = [*[nothing.fileno()] * _ofSystemd(), *inherited]
                self._reactor.spawnProcess(
                    self,
                    sys.executable,
                    # -P: nothing is imported from the folder that it is started in.
                    [sys.executable, "-P", "-m", "twisted_socks5.service.workers"],
                    env=_environment(),
                    childFDs={
                        0: begins.fileno(),
                        1: 1,
                        2: "r",
                        **dict(enumerate(inherited, _FIRST)),
                    },
                )
            with suppress(ConnectionError):  # it has ended, as will be seen
                told.sendall(json.dumps(start).encode())

    def _awaitFirstWord(self, channel: socket.socket) -> None:
        errors = self.transport.pipes[2].fileno()
        if not awaitFirstWord(channel, errors, self._errors.dataReceived):
            self._errors.end()
            raise CannotStart(self._errors.last or f"worker {self.number} has ended")

    def drain(self) -> Deferred[Any]:
        """
        Have it finish.

        @return: Fires when it accepts nobody any more.
        """
        return self._tell(Drain).addCallback(self._drains)

    def _drains(self, answer: object) -> None:
        self.isDraining = answer is not None

    def hurry(self) -> None:
        """
        Have it end now.
        """
        self._tell(Hurry)

    def reload(self, ports: Sequence[HeldPort]) -> Deferred[Any]:
        """
        Have it read again what can change.

        @param ports: All that there are then.
        @return: Fires when it has.
        """
        for port in ports:
            self._offer(port)
        return self._tell(Reload)

    def _offer(self, port: HeldPort) -> None:
        # The port may be closed by when this is sent.
        descriptor = os.dup(port.fileno())
        offered = self._tell(Offer, key=port.key, descriptor=descriptor)
        offered.addCallback(lambda _: os.close(descriptor))

    def kill(self) -> None:
        """
        End it, whatever it does.
        """
        self._isKilled = True
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess("KILL")

    def giveUp(self) -> None:
        """
        End it, which is stuck.
        """
        self._isGivenUp, self.isReady = True, False
        _log.error(
            "worker {number} has not answered for {seconds:g} s, and is killed",
            number=self.number,
            seconds=self.silence,
        )
        self.kill()

    def tellFailures(self, encoded: bytes) -> None:
        """
        Have it count logins that have failed elsewhere.
        """
        self._tell(Failed, failures=encoded)

    async def gather(self, subject: str) -> Any:
        """
        Ask it what it knows.

        @raise Exception: It has not answered.
        """
        text = b""
        part, parts = 0, 1
        while part < parts:
            answer = await self._channel.callRemote(
                Gather, subject=subject, part=part
            ).addTimeout(_PATIENCE, self._reactor)
            text += answer["text"]
            parts = answer["parts"]
            part += 1
        return json.loads(text)

    def _tell(self, command: Any, **arguments: object) -> Deferred[Any]:
        if self._channel.transport is None:
            return succeed(None)
        told: Deferred[Any] = self._channel.callRemote(command, **arguments)
        return told.addErrback(lambda _: None)  # it ends without being told

    # -- from the process ---------------------------------------------------------

    def errReceived(self, data: bytes) -> None:
        """
        It prints what it could not log.
        """
        self._errors.dataReceived(data)

    def processEnded(self, reason: Failure) -> None:
        """
        It has ended, and all that it had written was read.
        """
        self.isReady = False
        self._errors.end()
        status: Any = reason.value
        if self._isGivenUp:
            pass  # as was told
        elif self._isKilled:
            _log.info("worker {number} was not waited for", number=self.number)
        elif status.signal is not None:
            _log.error(
                "worker {number} was ended by signal {signal}",
                number=self.number,
                signal=status.signal,
            )
        elif status.exitCode:
            _log.error(
                "worker {number} has ended with status {status}",
                number=self.number,
                status=status.exitCode,
            )
        else:
            _log.info("worker {number} has ended", number=self.number)
        self.ended.callback(None)
        self._settle()

    def lost(self) -> None:
        """
        All that it had told was heard.
        """
        self._isLost = True
        self._settle()

    def _settle(self) -> None:
        """
        Count it no more: its sessions have ended with it, and what it has told before
        that, which may be read later, has been counted.
        """
        if self._isLost and self.ended.called:
            self._account.close()
            self.shares.forget(self.number)


class _Answers(Channel):
    """
    What connects it with us.
    """

    def __init__(self, worker: WorkerProcess, account: WorkersAccount) -> None:
        Channel.__init__(self)
        self._worker = worker
        self._account = account

    @Ready.responder
    def ready(self) -> dict[str, Any]:
        worker = self._worker
        worker.isReady = True
        _log.info(
            "worker {number} serves, as process {pid}",
            number=worker.number,
            pid=worker.transport.pid,
        )
        worker.failures.tellAll(worker)
        worker.serving.callback(None)
        return {}

    @Events.responder
    def events(self, lines: bytes, dropped: int) -> dict[str, Any]:
        number = self._worker.number
        logForwarded(globalLogPublisher, number, lines)
        if dropped:
            _log.warn(
                "{count} events of worker {number} were dropped",
                count=dropped,
                number=number,
            )
        return {}

    @Compare.responder
    def compare(self, sessions: int) -> dict[str, Any]:
        worker = self._worker
        worker.silence = 0.0
        return {"mean": worker.shares.told(worker.number, sessions)}

    @Failed.responder
    def failed(self, failures: bytes) -> dict[str, Any]:
        self._worker.failures.failed(self._worker, failures)
        return {}

    @Admit.responder
    def admit(self, claims: bytes) -> dict[str, Any]:
        return {"refused": self._account.admit(decode(claims))}

    @Release.responder
    def release(self, claims: bytes) -> dict[str, Any]:
        self._account.release(decode(claims))
        return {}

    @Buy.responder
    def buy(self, claim: bytes, amount: int) -> dict[str, Any]:
        (bought,) = decode(claim)
        return {"amount": self._account.buy(bought, amount)}

    @Spend.responder
    def spend(self, amounts: bytes) -> dict[str, Any]:
        spent = {Claim(*claim): count for claim, count in json.loads(amounts)}
        return {"over": encode(list(self._account.spend(spent)))}

    @Done.responder
    def done(self) -> dict[str, Any]:
        return {}

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        It ends, or does not know us any more.
        """
        Channel.connectionLost(self, reason)
        self.transport = None
        self._worker.lost()


class _Errors(LineReceiver):
    """
    The lines that it prints on standard error.

    @ivar last: The last one.
    """

    delimiter = b"\n"

    def __init__(self, number: int) -> None:
        self._number = number
        self.last = ""

    def lineReceived(self, line: bytes) -> None:
        self.last = escape(line.decode(errors="replace"))
        _log.error("worker {number}: {line}", number=self._number, line=self.last)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.lineReceived(line[: self.MAX_LENGTH])

    def end(self) -> None:
        """
        There is no more.
        """
        if rest := self.clearLineBuffer():
            self.lineReceived(rest)


def _ofSystemd() -> int:
    """
    How many sockets we have from systemd.  What C{systemd:} takes and closes in a
    worker stands in their places; it listens at those that we hold, as for any other
    endpoint.
    """
    names = os.environ.get("LISTEN_FDNAMES")
    return len(names.split(":")) if names else 0


def _environment() -> Mapping[str, str]:
    """
    Ours, so that the same modules are found.
    """
    folders = [os.path.abspath(folder) for folder in sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    if count := _ofSystemd():
        environment["LISTEN_FDS"] = str(count)
    return environment
