# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The file that C{--rules} names, as the policy of a server.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted_socks5.interfaces import IConnectPolicy
from twisted_socks5.policy import Guard, RulePolicy
from twisted_socks5.policy.rulesfile import loadRules


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
