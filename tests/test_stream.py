# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A peer's bytes and their reader, where a layer has something against the end.
"""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport

from tests.clientmemory import errorOf
from tests.test_layer import Strict, flip
from twisted_socks5.errors import StreamEnded
from twisted_socks5.stream import ByteStream


@pytest.mark.parametrize("isWaiting", [True, False])
def test_theReaderIsToldOfAnEndThatComesTooEarly(isWaiting: bool) -> None:
    stream = ByteStream(StringTransport())
    stream.setLayer(Strict())
    stream.dataReceived(flip(b"ab"))

    def read() -> Deferred[bytes]:
        return Deferred.fromCoroutine(stream.readExactly(3))

    reading = read() if isWaiting else None
    with pytest.raises(LookupError, match="too early"):
        stream.readConnectionLost()
    error = errorOf(reading or read())
    assert isinstance(error, StreamEnded)
    assert isinstance(error.__cause__, LookupError)
