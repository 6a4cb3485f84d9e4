# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Run as a program: a server in an application of somebody else's, on the reactor
and with the relay that the command line names, and in one of these ways:

  - C{plain}.
  - C{wrapped}: behind a wrapper that has a say in the bytes.
  - C{layered}: all that follows the authentication goes through a layer.
  - C{talkative}: the authentication sends more than the kernel takes at once.

C{SIGUSR1} pauses what comes
from both sides of all tunnels, and the next one lets it go on.  When the reactor
has stopped it tells how many TCP sockets are still open.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any

from twisted.application.reactors import installReactor
from twisted.protocols.policies import ThrottlingFactory
from zope.interface import implementer

from tests.test_layer import Flipping
from twisted_socks5 import (
    Authenticated,
    Identity,
    NoAuthentication,
    SOCKS5ServerFactory,
    Timeouts,
)
from twisted_socks5.interfaces import IAuthenticator, IExchange
from twisted_socks5.relay import AutomaticRelay, PortableRelay

FLOOD = bytes(16 * 1024 * 1024)

RELAYS: dict[str, Any] = {"auto": AutomaticRelay, "portable": PortableRelay}


@implementer(IAuthenticator)
class Layering:
    method = 0x80
    strength = 1
    failureReply = b""

    def isAvailable(self, exchange: IExchange) -> bool:
        return True

    def authenticate(self, exchange: IExchange) -> Authenticated:
        return Authenticated(Identity(), layer=Flipping())


class Talkative(Layering):
    def authenticate(self, exchange: IExchange) -> Authenticated:
        exchange.write(FLOOD)
        return Authenticated(Identity())


AUTHENTICATORS = {"layered": Layering, "talkative": Talkative}


def openSockets() -> int:
    """
    How many TCP sockets this process has.
    """
    count = 0
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        try:
            with socket.socket(fileno=os.dup(descriptor)) as one:
                count += one.family == socket.AF_INET
        except OSError:  # something else
            continue
    return count


def main() -> None:
    reactorName, relayName, way = sys.argv[1:]
    reactor: Any = installReactor(reactorName)
    factory = SOCKS5ServerFactory(
        reactor,
        [AUTHENTICATORS.get(way, NoAuthentication)()],
        relay=RELAYS[relayName](reactor, Timeouts()),
    )
    isPaused = False

    def toggle() -> None:
        nonlocal isPaused
        isPaused = not isPaused
        for session in factory.registry:
            assert session.tunnel is not None
            for flow in (session.tunnel.fromClient, session.tunnel.fromDestination):
                flow.pauseProducing() if isPaused else flow.resumeProducing()
        print("paused" if isPaused else "resumed", flush=True)

    signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(toggle))
    listening = ThrottlingFactory(factory) if way == "wrapped" else factory
    port = reactor.listenTCP(0, listening, interface="127.0.0.1")
    print(port.getHost().port, flush=True)
    reactor.run()
    print(f"{openSockets()} left open", flush=True)


if __name__ == "__main__":
    main()
