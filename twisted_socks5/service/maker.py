# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What C{twistd} and C{twist} look for when they are told C{socks5}.
"""

from __future__ import annotations

from twisted.application.service import IService

from twisted_socks5.service.options import SOCKS5Options
from twisted_socks5.service.server import makeService as _makeService
from twisted_socks5.service.workers.supervisor import makeSupervisor

Options = SOCKS5Options


def makeService(options: SOCKS5Options) -> IService:
    """
    Make the service on the reactor that the runner has chosen.
    """
    from twisted.internet import reactor

    if options.configuration.workers > 1:
        return makeSupervisor(reactor, options)
    return _makeService(reactor, options)


__all__ = ["Options", "makeService"]
