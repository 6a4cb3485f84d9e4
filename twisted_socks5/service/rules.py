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

from twisted.application.service import MultiService
from twisted.logger import Logger

from twisted_socks5.interfaces import IConnectPolicy, IRoute
from twisted_socks5.policy import Guard, RulePolicy, Ruleset
from twisted_socks5.policy.rulesfile import RulesFile, loadRules
from twisted_socks5.server.factory import SOCKS5ServerFactory
from twisted_socks5.service.routes import RouteMaker

_log = Logger(namespace="twisted_socks5")


def policyOf(
    loaded: RulesFile, seconds: Callable[[], float], guard: IConnectPolicy
) -> RulePolicy:
    """
    A file's rules, with a guard in front.  Its routes are the server's own, until
    the policy is told others.

    @param seconds: The time, in seconds of the epoch.
    @raise ValueError: The policy in front is no guard.
    """
    if not isinstance(guard, Guard):
        raise ValueError(
            "--rules: only the guard can stand in front of rules; leave --policy out, "
            "or name guard"
        )
    return RulePolicy(
        loaded.ruleset, seconds, guard, dict.fromkeys(loaded.routes), loaded.timezone
    )


def takeRules(
    policy: RulePolicy, loaded: RulesFile, own: IRoute, maker: RouteMaker
) -> None:
    """
    Have a policy go by a file's rules.

    @param own: The server's own way out.
    @param maker: Makes those that the file names.
    @raise ValueError: It cannot go out as the file says; the old rules stay.
    """
    routes, blind = maker.make(loaded.routes)
    if not own.resolvesNames:
        blind.add("")
    policy.replace(Ruleset(loaded.ruleset, blind), routes, loaded.timezone)


class RulesReload(MultiService):
    """
    Reads the file again at SIGHUP, for new sessions and for those that live.
    """

    def __init__(
        self,
        reactor: Any,
        path: str,
        loaded: RulesFile,
        policy: RulePolicy,
        factory: SOCKS5ServerFactory,
    ) -> None:
        """
        @param path: The file, which is the same wherever the process goes.
        @param loaded: What it has said.
        @param policy: Who goes by it.
        @param factory: Whose sessions are judged, and whose route is the server's own.
        """
        MultiService.__init__(self)
        self._reactor = reactor
        self._path = os.path.abspath(path)
        self._policy = policy
        self._factory = factory
        self._before: Any = signal.SIG_DFL
        self._maker = RouteMaker(reactor, factory.route, factory.timeouts.connect)
        self._maker.setServiceParent(self)
        takeRules(policy, loaded, factory.route, self._maker)

    def startService(self) -> None:
        """
        Take the signal, after the reactor has taken its own.
        """
        MultiService.startService(self)
        self._reactor.callWhenRunning(self._takeSignal)

    def _takeSignal(self) -> None:
        self._before = signal.signal(
            signal.SIGHUP, lambda *_: self._reactor.callFromThread(self.reload)
        )

    def stopService(self) -> Any:
        """
        Leave the signal to others.
        """
        signal.signal(signal.SIGHUP, self._before)
        return MultiService.stopService(self)

    def reload(self) -> None:
        """
        Read the file.  If it is not as expected, the old rules stay in force.
        """
        try:
            loaded = loadRules(self._path)
            takeRules(self._policy, loaded, self._factory.route, self._maker)
        except ValueError as error:
            _log.error("the old rules stay in force: {problem}", problem=str(error))
            return
        revising = self._factory.reviseSessions()
        revising.addCallback(lambda _: _log.info("rules were loaded"))
