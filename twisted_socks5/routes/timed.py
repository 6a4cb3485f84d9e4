# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
How long it takes to look names up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_socks5.addresses import IPAddress
from twisted_socks5.interfaces import IInterfaceResolver, IResolver


@implementer(IInterfaceResolver)
class TimedResolver:
    """
    Has another one look names up.
    """

    def __init__(
        self, resolver: IResolver, took: Callable[[str, float], object]
    ) -> None:
        """
        @param took: Is told how long it took, in seconds, and before that, whether
            it has C{"succeeded"}, C{"failed"}, or was C{"abandoned"}, as it is
            after C{timeout.resolve}.
        """
        self._resolver = resolver
        self._took = took

    def by(self, interface: str) -> IResolver:
        """
        The same by a network interface, if the other one can do that.
        """
        if IInterfaceResolver.providedBy(self._resolver):
            return TimedResolver(self._resolver.by(interface), self._took)
        return self

    def resolve(self, name: str) -> Deferred[Sequence[IPAddress]]:
        """
        All addresses of a name.
        """
        began = monotonic()
        resolve: Callable[[str], Any] = self._resolver.resolve
        looking: Deferred[Sequence[IPAddress]] = maybeDeferred(resolve, name)

        def finished(result: Any) -> Any:
            outcome = "succeeded"
            if isinstance(result, Failure):
                isAbandoned = result.check(CancelledError) is not None
                outcome = "abandoned" if isAbandoned else "failed"
            self._took(outcome, monotonic() - began)
            return result

        return looking.addBoth(finished)
