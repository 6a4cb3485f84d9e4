# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What this package adds to C{twistd socks5}.  Every C{twistd} that starts reads
this file, so whatever else is needed is imported where it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.plugin import IPlugin
from zope.interface import implementer

from twisted_socks5.interfaces import IAuthenticatorFactory, IPolicyFactory

if TYPE_CHECKING:
    from socks5_office.challenge import ChallengeResponse
    from socks5_office.hours import OfficeHours


@implementer(IPlugin, IAuthenticatorFactory)
class ChallengeResponseFactory:
    name = "challenge"
    help = "Method 80, strength 20: a secret that is proven and not sent."
    argumentHelp = "FILE, with lines NAME:SECRET, the secret in hexadecimal"

    def generate(self, reactor: Any, file: str) -> ChallengeResponse:
        from socks5_office.challenge import ChallengeResponse, readSecrets

        return ChallengeResponse(readSecrets(file))


@implementer(IPlugin, IPolicyFactory)
class OfficeHoursFactory:
    name = "hours"
    help = "Denies everything out of hours; else it is the guard."
    argumentHelp = "FIRST-END, such as 9-17"

    def generate(self, reactor: Any, hours: str) -> OfficeHours:
        from socks5_office.hours import OfficeHours

        return OfficeHours(reactor, hours)


challenge = ChallengeResponseFactory()
hours = OfficeHoursFactory()
