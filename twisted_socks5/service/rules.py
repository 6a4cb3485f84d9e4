# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The file that C{--rules} names, as the policy of a server.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger

from twisted_socks5.interfaces import IConnectPolicy
from twisted_socks5.policy import Guard, RulePolicy
from twisted_socks5.policy.rulesfile import loadRules
from twisted_socks5.server.factory import SOCKS5ServerFactory

_log = Logger(namespace="twisted_socks5")


def withRules(
    seconds: Callable[[], float], path: str, guard: IConnectPolicy
) -> RulePolicy:
    """
    Rules, with a guard in front.

    @param seconds: The time, in seconds of the epoch.
    @raise ValueError: The policy in front is no guard, or the file is not as
        expected.
    """
    if not isinstance(guard, Guard):
        raise ValueError(
            "--rules: only the guard can stand in front of rules; leave --policy out, "
            "or name guard"
        )
    loaded = loadRules(path)
    return RulePolicy(
        loaded.ruleset,
        seconds,
        guard,
        dict.fromkeys(loaded.routes),
        loaded.timezone,
    )


class RulesReload(Service):
    """
    Reads the file again at SIGHUP, for new sessions and for those that live.
    """

    def __init__(
        self, reactor: Any, path: str, policy: RulePolicy, factory: SOCKS5ServerFactory
    ) -> None:
        """
        @param path: The file, which is the same wherever the process goes.
        """
        self._reactor = reactor
        self._path = os.path.abspath(path)
        self._policy = policy
        self._factory = factory
        self._before: Any = signal.SIG_DFL

    def startService(self) -> None:
        """
        Take the signal, after the reactor has taken its own.
        """
        Service.startService(self)
        self._reactor.callWhenRunning(self._takeSignal)

    def _takeSignal(self) -> None:
        self._before = signal.signal(
            signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload)
        )

    def stopService(self) -> None:
        """
        Leave the signal to others.
        """
        Service.stopService(self)
        signal.signal(signal.SIGHUP, self._before)

    def reload(self) -> None:
        """
        Read the file.  If it is not as expected, the old rules stay in force.
        """
        try:
            loaded = loadRules(self._path)
        except ValueError as error:
            _log.error("the old rules stay in force: {problem}", problem=str(error))
            return
        self._policy.replace(
            loaded.ruleset, dict.fromkeys(loaded.routes), loaded.timezone
        )
        revising = self._factory.reviseSessions()
        revising.addCallback(lambda _: _log.info("rules were loaded"))
