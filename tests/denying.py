# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A policy for tests, that a started server finds as it finds anybody's plugin:
C{--policy denying:WHAT:...}.
"""

from __future__ import annotations

from typing import Any

from twisted.plugin import IPlugin
from zope.interface import implementer

from twisted_socks5.addresses import Address
from twisted_socks5.interfaces import IConnectPolicy, IPolicyFactory, IRequest
from twisted_socks5.policy import Decision
from twisted_socks5.wire import Command


@implementer(IConnectPolicy)
class Denying:
    """
    Denies commands and addresses by their names; with C{loopback}, whatever is
    not on this host.
    """

    def __init__(self, *denied: str) -> None:
        self._denied = denied

    def decide(self, request: IRequest) -> Decision:
        return self._judge(Command(request.command).name)

    def checkAddress(self, request: IRequest, address: Address) -> Decision:
        assert address.ip is not None
        if "loopback" in self._denied and not address.ip.is_loopback:
            return Decision.deny()
        return self._judge(str(address.ip))

    def _judge(self, what: str) -> Decision:
        return Decision.deny() if what in self._denied else Decision.allow()


@implementer(IPlugin, IPolicyFactory)
class DenyingFactory:
    name = "denying"
    help = "Denies what it is told to."
    argumentHelp = "WHAT:..."

    def generate(self, reactor: Any, *args: str, **kwargs: str) -> Denying:
        return Denying(*args)


denying = DenyingFactory()
