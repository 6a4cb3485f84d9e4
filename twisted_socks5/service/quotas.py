# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Where a server counts, and what it keeps of that.
"""

from __future__ import annotations

from typing import Any

from twisted_socks5.limits import LocalLedger
from twisted_socks5.limits.quotas import Quotas
from twisted_socks5.limits.quotastore import QuotaKeeper, SQLiteQuotaStore
from twisted_socks5.service.configuration import Configuration

_PATIENCE = 5.0
"""
How long, in seconds, after their grace sessions may take to end.
"""


def ledgerOf(
    reactor: Any, configuration: Configuration
) -> tuple[LocalLedger, QuotaKeeper | None]:
    """
    The ledger that a configuration asks for.

    @return: With the service that keeps what was used of quotas, if a file is to.
    @raise ValueError: That file is none.
    """
    quotas = Quotas(reactor.seconds)
    ledger = LocalLedger(reactor.seconds, quotas)
    settings, path = configuration.settings, configuration.settings.quota.file.path
    if not path:
        return ledger, None
    try:
        store = SQLiteQuotaStore(reactor, path)
    except ValueError as error:
        raise configuration.said("quota.file").fail(error, path) from None
    patience = settings.timeout.grace + _PATIENCE
    keeper = QuotaKeeper(reactor, quotas, store, settings.quota.flush, patience)
    return ledger, keeper
