# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The best relay for each tunnel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from twisted_socks5.interfaces import IOutbound, IRelay, ITunnel
from twisted_socks5.relay.fast import FastRelay, canWatch
from twisted_socks5.relay.portable import PortableRelay
from twisted_socks5.settings import Timeouts

if TYPE_CHECKING:
    from twisted.internet.tcp import Connection

    from twisted_socks5.limits.bandwidth import Meters
    from twisted_socks5.stream import ByteStream


@implementer(IRelay)
class AutomaticRelay:
    """
    Joins plain TCP sockets on Linux by the
    L{FastRelay<twisted_socks5.relay.fast.FastRelay>}, and all else by the
    L{PortableRelay<twisted_socks5.relay.portable.PortableRelay>}.
    """

    def __init__(self, reactor: Any, timeouts: Timeouts) -> None:
        self._portable = PortableRelay(reactor, timeouts)
        self._fast = FastRelay(reactor, timeouts) if canWatch(reactor) else None

    def join(
        self,
        transport: Any,
        stream: ByteStream,
        outbound: IOutbound,
        ended: Callable[[str], None],
        plain: Connection | None = None,
        meters: Meters | None = None,
    ) -> ITunnel:
        """
        Carry bytes both ways until both sides have closed.
        """
        if self._fast is not None and plain is not None:
            destination = outbound.detachSocket()
            if destination is not None:
                return self._fast.join(plain, stream, destination, ended, meters)
        return self._portable.join(transport, stream, outbound, ended, None, meters)
