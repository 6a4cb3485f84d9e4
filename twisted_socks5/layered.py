# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A transport whose bytes a layer protects.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted_socks5.interfaces import IStreamLayer


class LayeredTransport:
    """
    A transport that sends everything through a layer.  All else is the
    transport's own affair.
    """

    def __init__(self, transport: Any, layer: IStreamLayer) -> None:
        self._transport = transport
        self._layer = layer

    def write(self, data: bytes) -> None:
        """
        Send bytes, protected.
        """
        self._transport.write(self._layer.wrap(data))

    def writeSequence(self, pieces: Iterable[bytes]) -> None:
        """
        Send bytes, protected.
        """
        self.write(b"".join(pieces))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
