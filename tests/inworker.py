# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A policy for tests that goes wrong, but in workers only: C{--policy inworker:WHAT}.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import cache
from typing import Any

from twisted.application.service import Service
from twisted.plugin import IPlugin
from zope.interface import implementer

from twisted_socks5.addresses import Address
from twisted_socks5.interfaces import IConnectPolicy, IPolicyFactory, IRequest
from twisted_socks5.policy import Decision


def isWorker() -> bool:
    return getattr(sys.modules["__main__"], "__package__", "") == (
        "twisted_socks5.service.workers"
    )


@implementer(IConnectPolicy)
class InWorker(Service):
    """
    Allows everything; with C{starting}, it cannot be started as a service; with
    C{looping}, it never comes to a decision about BIND, nor to anything else.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def startService(self) -> None:
        Service.startService(self)
        if self._what == "starting" and isWorker():
            raise RuntimeError("this cannot be started\nin a worker")

    def decide(self, request: IRequest) -> Decision:
        while self._what == "looping" and request.command == 2:
            pass
        return Decision.allow()

    def checkAddress(self, request: IRequest, address: Address) -> Decision:
        return Decision.allow()


@cache
def _hangUpOnce() -> None:
    os.kill(os.getppid(), signal.SIGHUP)


@implementer(IPlugin, IPolicyFactory)
class InWorkerFactory:
    name = "inworker"
    help = "Goes wrong in workers."
    argumentHelp = "WHAT"

    def generate(self, reactor: Any, *args: str, **kwargs: str) -> InWorker:
        (what,) = args
        if isWorker():
            if what == "making":
                raise ValueError("this cannot be made in a worker")
            if what == "exiting":
                os._exit(3)
            if what == "hanging-up":
                _hangUpOnce()
        return InWorker(what)


inWorker = InWorkerFactory()
