# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A transport whose bytes a layer protects.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.python.failure import Failure

from twisted_socks5.interfaces import IStreamLayer
from twisted_socks5.observe.defects import logDefect


class LayeredTransport:
    """
    A transport that sends everything through a layer.  All else is the
    transport's own affair.

    Where the layer fails, the connection is cut: without it nothing may be sent,
    and what came after would not be understood.
    """

    def __init__(self, transport: Any, layer: IStreamLayer) -> None:
        self._transport = transport
        self._layer = layer
        self._isCut = False

    def write(self, data: bytes) -> None:
        """
        Send bytes, protected.
        """
        if self._isCut:
            return
        try:
            protected = self._layer.wrap(data)
            if not isinstance(protected, bytes):
                raise TypeError(f"not bytes: {type(protected).__name__}")
        except Exception:
            self._isCut = True
            logDefect(self._layer, "wrap", Failure(), withText=False)
            self._transport.abortConnection()
        else:
            self._transport.write(protected)

    def writeSequence(self, pieces: Iterable[bytes]) -> None:
        """
        Send bytes, protected.
        """
        self.write(b"".join(pieces))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
