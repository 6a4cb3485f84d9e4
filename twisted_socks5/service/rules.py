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

from twisted_socks5.errors import CommandNotSupported
from twisted_socks5.interfaces import IConnectPolicy, IRoute
from twisted_socks5.policy import Guard, RulePolicy, Ruleset
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


def routesOf(loaded: RulesFile, own: IRoute) -> dict[str, IRoute | None]:
    """
    The ways out of a file.

    @param own: The server's own.
    @return: By their names; L{None} is the server's own, from an address that the
        rule has.
    @raise ValueError: The server's own cannot go out from an address.
    """
    routes: dict[str, IRoute | None] = {}
    for name, settings in loaded.routes.items():
        addresses = [loaded.routes[one].egress for one in settings.first]
        try:
            ways = [
                own.boundTo(egress.address)
                for egress in addresses
                if isinstance(egress, FromAddress)
            ]
        except CommandNotSupported as error:
            raise ValueError(f"route {name}: {error}") from None
        routes[name] = FailoverRoute(ways) if ways else None
    return routes


def takeRules(policy: RulePolicy, loaded: RulesFile, own: IRoute) -> None:
    """
    Have a policy go by a file's rules.

    @param own: The server's own way out, which all of a file's are made of: if it
        does not look names up here, none of them does.
    @raise ValueError: It cannot go out as the file says; the old rules stay.
    """
    routes = routesOf(loaded, own)
    ruleset = loaded.ruleset
    if not own.resolvesNames:
        ruleset = Ruleset(ruleset, {"", *routes})
    policy.replace(ruleset, routes, loaded.timezone)


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
        @param factory: Whose sessions are judged, and whose route is the server's own.
        """
        self._reactor = reactor
        self._path = os.path.abspath(path)
        self._policy = policy
        self._factory = factory
        self._before: Any = signal.SIG_DFL
        takeRules(policy, loaded, factory.route)

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
            takeRules(self._policy, loaded, self._factory.route)
        except ValueError as error:
            _log.error("the old rules stay in force: {problem}", problem=str(error))
            return
        revising = self._factory.reviseSessions()
        revising.addCallback(lambda _: _log.info("rules were loaded"))
