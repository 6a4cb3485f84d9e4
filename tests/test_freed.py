# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What is freed as soon as a connection is over, without the garbage collector.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from tests.conversation import GREET, connectTo
from tests.loopback import Echo, Peer, Place, factoryOf, inReactor


@pytest.mark.parametrize("isServed", [True, False])
@inReactor
async def test_sessionsAreFreedAtOnce(place: Place, isServed: bool) -> None:
    """
    Of one that is over nothing is left.
    """
    echo = await place.listen(factoryOf(Echo))
    factory: Any = await place.proxy()
    sent, answered = b"\x05", 0
    if isServed:
        sent, answered = GREET + connectTo(echo) + b"hello", 17
    gc.collect()
    gc.disable()
    try:
        client: Any = await place.to(factory.port).connect(factoryOf(Peer))
        client.transport.write(sent)
        await place.until(lambda: len(factory.registry))
        (session,) = factory.registry
        served = weakref.ref(session._protocol)
        del session
        await place.until(lambda: len(client.received) == answered)
        client.transport.loseConnection()
        await place.until(lambda: not len(factory.registry))
        await place.until(lambda: served() is None)
    finally:
        gc.enable()
