# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Listening where the operator says, before anything else is done.

The reactor accepts nobody before it runs, so an address in use or a privilege
that is missing ends the program at once, with one line.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from twisted_socks5.addresses import addressOf
from twisted_socks5.authenticators import NoAuthentication
from twisted_socks5.server.factory import SOCKS5ServerFactory
from twisted_socks5.service.configuration import ListenerSettings
from twisted_socks5.service.endpoints import ExchangeableTLS, listenAt
from twisted_socks5.service.prepared import Prepared

_log = Logger(namespace="twisted_socks5")


class Listener:
    """
    One place where clients can connect.

    @ivar address: Where it is.
    @ivar settings: What was said of it.
    @ivar factory: What serves them.
    @ivar port: What listens.
    @ivar tls: Its keys and certificates, if it has any.
    """

    def __init__(
        self,
        settings: ListenerSettings,
        factory: SOCKS5ServerFactory,
        port: IListeningPort,
        tls: ExchangeableTLS | None,
    ) -> None:
        self.settings = settings
        self.factory = factory
        self.port = port
        self.tls = tls
        # A port that has been closed, as by another process, cannot tell any more.
        self.address = addressOf(port.getHost())

    @classmethod
    def open(
        cls, reactor: Any, settings: ListenerSettings, factory: SOCKS5ServerFactory
    ) -> Listener:
        """
        Listen.

        @raise ValueError: It cannot be done, or would let anybody in; the text
            says why.
        """
        port, tls = listenAt(reactor, settings.endpoint, factory)
        try:
            listener = cls(settings, factory, port, tls)
            listener.refuseToBeOpen(settings, factory)
        except ValueError:
            port.stopListening()
            raise
        return listener

    @property
    def description(self) -> str:
        """
        The endpoint, as it was said, or where that was.
        """
        return self.settings.endpoint.shown

    @property
    def isReachable(self) -> bool:
        """
        Whether it can be got to from other machines.  A balancer that tells
        of its clients by a PROXY header has them elsewhere.
        """
        address = self.address
        return self.settings.endpoint.text.startswith("haproxy:") or not (
            address.ip is None or address.ip.is_loopback
        )

    def tell(self) -> None:
        """
        Say where clients can connect.
        """
        _log.info(
            "SOCKS5 at {address} ({endpoint})",
            address=str(self.address),
            endpoint=self.description,
        )

    def refuseToBeOpen(
        self, settings: ListenerSettings, factory: SOCKS5ServerFactory
    ) -> None:
        """
        See that who comes from elsewhere must say who it is, unless it was said
        that anybody may come.

        @param settings: What is to be said of it.
        @param factory: What is to serve it.
        @raise ValueError: Anybody may come.
        """
        access, endpoint = settings.access, settings.endpoint
        if access.isOpen or not self.isReachable:
            return
        if not any(isinstance(one, NoAuthentication) for one in factory.authenticators):
            return
        dashes = "--" if endpoint.isOnCommandLine else ""
        closed = (
            f"leave {dashes}authenticator none out"
            if access.authenticator
            else f"add {dashes}auth to ask for a password"
        )
        raise endpoint.fail(
            f"anybody could use this proxy from other machines; {closed}, or add "
            f"{'--open' if dashes else 'open = true'} to let everybody in",
            endpoint.text,
        )


def listen(reactor: Any, prepared: Prepared) -> list[Listener]:
    """
    Listen at all of the endpoints, or at none.

    @raise ValueError: One of them cannot be listened at, or would let anybody in;
        the text says why.
    """
    listeners: list[Listener] = []
    try:
        for settings, factory in prepared.served:
            listeners.append(Listener.open(reactor, settings, factory))
    except ValueError:
        for listener in listeners:
            listener.port.stopListening()
        raise
    for listener in listeners:
        prepared.factory.ownListeners.add(listener.address)
    return listeners
