# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What C{twistd} and C{twist} look for when they are told C{socks5}.
"""

from __future__ import annotations

import os

from twisted.application.service import IService

from twisted_socks5.service.options import SOCKS5Options
from twisted_socks5.service.server import makeService as _makeService
from twisted_socks5.service.systemd import Notifier
from twisted_socks5.service.workers.supervisor import makeSupervisor

Options = SOCKS5Options


def makeService(options: SOCKS5Options) -> IService:
    """
    Make the service on the reactor that the runner has chosen.
    """
    from twisted.internet import reactor

    many = options.configuration.workers > 1
    service = (makeSupervisor if many else _makeService)(reactor, options)
    notifier = Notifier.fromEnvironment(reactor, os.environ, service.server.whenServing)
    if notifier is not None:
        notifier.setServiceParent(service.server)
    return service


__all__ = ["Options", "makeService"]
