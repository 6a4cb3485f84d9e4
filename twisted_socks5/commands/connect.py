# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
CONNECT (RFC 1928, section 4): a connection to a destination.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from twisted.internet.defer import CancelledError
from zope.interface import implementer

from twisted_socks5.errors import SUCCEEDED
from twisted_socks5.interfaces import (
    ICommand,
    ICommandSession,
    IOutbound,
    IRequest,
)
from twisted_socks5.outcome import outcomeOf
from twisted_socks5.wire import Command


@implementer(ICommand)
class Connect:
    """
    Connects to the destination, tells the client once that has accepted, and
    joins the two.
    """

    code = int(Command.CONNECT)
    _took: Callable[[str, float], object] | None = None  # for subclasses of others

    def __init__(self, took: Callable[[str, float], object] | None = None) -> None:
        """
        @param took: Is told how long connecting took, in seconds, and before that,
            whether it has C{"succeeded"}, C{"failed"}, or was C{"abandoned"}.
        """
        self._took = took

    async def run(self, session: ICommandSession, request: IRequest) -> None:
        """
        Serve one request.

        @raise ReplyError: The destination cannot be reached.
        """
        outbound = await self._connect(session, request)
        await session.approve(outbound)
        session.sendReply(SUCCEEDED, outbound.local)
        session.relay(outbound)

    async def _connect(self, session: ICommandSession, request: IRequest) -> IOutbound:
        began, outcome = monotonic(), "failed"
        try:
            connected = await outcomeOf(
                session.route.connect(request.destination, session.check)
            )
            outcome = "succeeded"
        except CancelledError:
            outcome = "abandoned"
            raise
        finally:
            if self._took is not None:
                self._took(outcome, monotonic() - began)
        return connected
