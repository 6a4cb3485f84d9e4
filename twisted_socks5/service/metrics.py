# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What C{--metrics} asks for.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from twisted.application.service import IService

from twisted_socks5.addresses import addressOf
from twisted_socks5.server.factory import SOCKS5ServerFactory
from twisted_socks5.service.configuration import Configuration, Said
from twisted_socks5.service.endpoints import checkEndpoint, describe, listenAt

_INTERFACE = "127.0.0.1"


def checkStatus(reactor: Any, configuration: Configuration) -> None:
    """
    See whether metrics could be served where they are asked for, without listening.

    @raise ValueError: They could not.
    """
    said = configuration.texts.get("metrics")
    if said is not None:
        checkEndpoint(reactor, describe(said, _INTERFACE))
        _status(said)


def _status(said: Said) -> ModuleType:
    try:
        from twisted_socks5.service import status
    except ImportError as error:
        raise said.fail(
            f"{error}; it needs prometheus-client: "
            "pip install 'twisted-socks5[metrics]'"
        ) from None
    return status


def serveStatus(
    reactor: Any, configuration: Configuration, factory: SOCKS5ServerFactory
) -> list[IService]:
    """
    Listen where metrics are asked for, if they are.  Clients of the proxy do not get
    there by it.

    @return: What is to be started with the server.
    @raise ValueError: It cannot be done.
    """
    said = configuration.texts.get("metrics")
    if said is None:
        return []
    status = _status(said)
    if configuration.settings.count.perUser == "yes":
        factory.counts.countUsers()
    pages = status.StatusPages(
        factory.counts.snapshot, lambda: factory.accepting.isOpen
    )
    port, _ = listenAt(reactor, describe(said, _INTERFACE), status.statusFactory(pages))
    factory.ownListeners.add(addressOf(port.getHost()))
    return [status.StatusService(reactor, port, factory.counts.lag)]
