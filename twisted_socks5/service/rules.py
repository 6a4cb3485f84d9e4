# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The file that C{--rules} names, as the policy of a server.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted_socks5.interfaces import IConnectPolicy, IRoute
from twisted_socks5.policy import Guard, RulePolicy, Ruleset
from twisted_socks5.policy.rulesfile import RulesFile
from twisted_socks5.service.routes import RouteMaker


def policyOf(
    loaded: RulesFile, seconds: Callable[[], float], guard: IConnectPolicy
) -> RulePolicy:
    """
    What is to go by a file's rules, with a guard in front.  It denies everything until
    it L{takes them<takeRules>}.

    @param seconds: The time, in seconds of the epoch.
    @raise ValueError: The policy in front is no guard.
    """
    if not isinstance(guard, Guard):
        raise ValueError(
            "--rules: only the guard can stand in front of rules; leave --policy out, "
            "or name guard"
        )
    return RulePolicy(Ruleset(), seconds, guard, timezone=loaded.timezone)


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
