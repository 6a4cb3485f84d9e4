# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Reading the configuration again, in a server that goes on meanwhile.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, TypeAlias

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, fail, maybeDeferred, succeed
from twisted.logger import Logger

from twisted_socks5.observe.escape import onOneLine
from twisted_socks5.service.configuration import Configuration

_log = Logger(namespace="twisted_socks5")

Commit: TypeAlias = Callable[[], object]
"""
Has what was prepared be in force.  It may answer with a Deferred.
"""

Prepare: TypeAlias = Callable[[Configuration], Commit]
"""
Makes what a configuration asks for, and changes nothing yet.  It raises
C{ValueError} if that cannot be made.
"""


class Reload(Service):
    """
    Reads the configuration again at SIGHUP, and when it is told to: its files, with
    the rules, accounts and certificates that they name.  Either all of it is in
    force then, or, if something is wrong with it, nothing has changed.
    """

    def __init__(self, reactor: Any, configure: Callable[[], Configuration]) -> None:
        """
        @param configure: Reads the configuration; raises C{ValueError} if something
            is wrong with it.
        """
        self._reactor = reactor
        self._configure = configure
        self._preparations: list[Prepare] = []
        self._before: Any = signal.SIG_DFL
        self._isOver = False
        self._waiting: list[Deferred[None]] = []

    def add(self, prepare: Prepare) -> None:
        """
        Have something take part.  All are prepared first, in the order in which
        they were added, then all are in force.
        """
        self._preparations.append(prepare)

    def prepare(self) -> list[Commit]:
        """
        Read the configuration, and have everything prepared for it.

        @raise ValueError: Something is wrong with it.
        """
        configuration = self._configure()
        return [prepare(configuration) for prepare in self._preparations]

    def reload(self) -> Deferred[None]:
        """
        Read the configuration.

        @return: Fires when it is in force, and the sessions that are denied now
            have ended.  Fails with C{ValueError} if something is wrong with it, and
            with what was raised if something broke: the old one stays in force, as the
            log tells.
        """
        try:
            commits = self.prepare()
        except ValueError as error:
            tellWhatIsWrong(error)
            return fail(error)
        except Exception as error:
            _log.failure("preparing failed; the old configuration stays in force")
            return fail(error)
        done = DeferredList(
            [maybeDeferred(commit) for commit in commits], consumeErrors=True
        )
        return done.addCallback(self._tell)

    def _tell(self, outcomes: list[tuple[bool, Any]]) -> None:
        for isDone, outcome in outcomes:
            if not isDone:
                _log.failure("a part of the configuration is not in force", outcome)
        _log.info("the configuration was loaded")

    # -- the signal ---------------------------------------------------------------

    def startService(self) -> None:
        """
        Take the signal, after the reactor has taken its own.
        """
        Service.startService(self)
        self._reactor.callWhenRunning(self._takeSignal)

    def _takeSignal(self) -> None:
        self._before = signal.signal(
            signal.SIGHUP, lambda *_: self._reactor.callFromThread(self._signalled)
        )

    def end(self) -> None:
        """
        The server stops: what it would become is of no interest.
        """
        self._isOver = True

    def whenObeyed(self) -> Deferred[None]:
        """
        Wait until the next signal has had its effect, whatever that is.
        """
        self._waiting.append(Deferred())
        return self._waiting[-1]

    def _signalled(self) -> None:
        obeyed: Deferred[None] = succeed(None) if self._isOver else self.reload()
        obeyed.addErrback(lambda _: None)  # the log has told
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            obeyed.addCallback(each.callback)

    def stopService(self) -> None:
        """
        Leave the signal to others.
        """
        Service.stopService(self)
        signal.signal(signal.SIGHUP, self._before)


def tellWhatIsWrong(error: ValueError) -> None:
    """
    Have the log say why nothing was loaded.
    """
    problem = onOneLine(" ".join(str(error).split()))
    _log.error("the old configuration stays in force: {problem}", problem=problem)
