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

from twisted_socks5.interfaces import IConnectPolicy, IRoute
from twisted_socks5.policy import Guard, RulePolicy
from twisted_socks5.policy.egress import FromAddress
from twisted_socks5.policy.rulesfile import RulesFile, loadRules
from twisted_socks5.routes.failover import FailoverRoute
from twisted_socks5.server.factory import SOCKS5ServerFactory

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


def routesOf(loaded: RulesFile, direct: IRoute) -> dict[str, IRoute | None]:
    """
    The ways out of a file.

    @param direct: The server's own.
    @return: By their names; L{None} is the server's own, from an address that the
        rule has.
    """
    routes: dict[str, IRoute | None] = {}
    for name, settings in loaded.routes.items():
        addresses = [loaded.routes[one].egress for one in settings.first]
        ways = [
            direct.boundTo(egress.address)
            for egress in addresses
            if isinstance(egress, FromAddress)
        ]
        routes[name] = FailoverRoute(ways) if ways else None
    return routes


class RulesReload(Service):
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
        @param factory: Whose sessions are judged, and whose route is the direct one.
        """
        self._reactor = reactor
        self._path = os.path.abspath(path)
        self._policy = policy
        self._factory = factory
        self._before: Any = signal.SIG_DFL
        self.take(loaded)

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

    def take(self, loaded: RulesFile) -> None:
        """
        Go by a file's rules.
        """
        routes = routesOf(loaded, self._factory.route)
        self._policy.replace(loaded.ruleset, routes, loaded.timezone)

    def reload(self) -> None:
        """
        Read the file.  If it is not as expected, the old rules stay in force.
        """
        try:
            loaded = loadRules(self._path)
        except ValueError as error:
            _log.error("the old rules stay in force: {problem}", problem=str(error))
            return
        self.take(loaded)
        revising = self._factory.reviseSessions()
        revising.addCallback(lambda _: _log.info("rules were loaded"))
