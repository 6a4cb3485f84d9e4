# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
How much there may be for whom: sessions, new ones a second, bytes a second, bytes a
day and a month.
"""

from twisted_socks5.limits.admission import Admission
from twisted_socks5.limits.ledger import LocalLedger

__all__ = ["Admission", "LocalLedger"]
