# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The ruleset (RFC 1928, section 6): who may go where.
"""

from twisted_socks5.policy.decision import Decision
from twisted_socks5.policy.guard import Guard
from twisted_socks5.policy.ruled import RulePolicy
from twisted_socks5.policy.rules import Rule, Ruleset

__all__ = ["Decision", "Guard", "Rule", "RulePolicy", "Ruleset"]
