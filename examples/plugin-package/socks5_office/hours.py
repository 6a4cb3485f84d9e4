# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A policy for which it matters how late it is.
"""

from __future__ import annotations

import re
import time

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from twisted_socks5 import Decision, Guard
from twisted_socks5.addresses import Address
from twisted_socks5.interfaces import IConnectPolicy, IRequest


@implementer(IConnectPolicy)
class OfficeHours:
    """
    Denies everything out of hours, and leaves the rest to the guard.
    """

    name = "hours"

    def __init__(self, reactor: IReactorTime, hours: str) -> None:
        """
        @param hours: C{FIRST-END}, whole hours in the server's time zone:
            C{9-17} is from 9:00 until 17:00, C{22-6} is at night.
        @raise ValueError: It is something else.
        """
        found = re.fullmatch(r"(\d\d?)-(\d\d?)", hours, re.ASCII)
        if not found or not all(int(hour) <= 24 for hour in found.groups()):
            raise ValueError(f"{hours}: expected FIRST-END, such as 9-17")
        self._reactor = reactor
        self._first, self._end = int(found[1]), int(found[2])
        self._guard = Guard()

    def isOpen(self) -> bool:
        hour = time.localtime(self._reactor.seconds()).tm_hour
        if self._first <= self._end:
            return self._first <= hour < self._end
        return hour >= self._first or hour < self._end

    def decide(self, request: IRequest) -> Decision:
        if not self.isOpen():
            return Decision.deny(reason="hours: closed")
        return self._guard.decide(request)

    def checkAddress(self, request: IRequest, address: Address) -> Decision:
        return self._guard.checkAddress(request, address)
