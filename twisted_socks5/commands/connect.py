# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
CONNECT (RFC 1928, section 4): a connection to a destination.
"""

from __future__ import annotations

from zope.interface import implementer

from twisted_socks5.errors import SUCCEEDED
from twisted_socks5.interfaces import ICommand, ICommandSession, IRequest
from twisted_socks5.outcome import outcomeOf
from twisted_socks5.wire import Command


@implementer(ICommand)
class Connect:
    """
    Connects to the destination, tells the client once that has accepted, and
    joins the two.
    """

    code = int(Command.CONNECT)

    async def run(self, session: ICommandSession, request: IRequest) -> None:
        """
        Serve one request.

        @raise ReplyError: The destination cannot be reached.
        """
        outbound = await outcomeOf(
            session.route.connect(request.destination, session.check)
        )
        await session.approve(outbound)
        session.sendReply(SUCCEEDED, outbound.local)
        session.relay(outbound)
