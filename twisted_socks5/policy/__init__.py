# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The ruleset (RFC 1928, section 6): who may go where.
"""

from twisted_socks5.policy.decision import Decision
from twisted_socks5.policy.guard import Guard

__all__ = ["Decision", "Guard"]
