# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What C{--metrics} asks for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

from twisted.application.service import IService

from twisted_socks5.addresses import Address
from twisted_socks5.observe.counts import Counts, Snapshot
from twisted_socks5.observe.lag import ReactorLag
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


def countAsAsked(
    reactor: Any, configuration: Configuration, counts: Counts
) -> list[IService]:
    """
    Count what is counted only if metrics are asked for.

    @return: What is to be started with the server.
    """
    if "metrics" not in configuration.texts:
        return []
    if configuration.settings.count.perUser == "yes":
        counts.countUsers()
    return [ReactorLag(reactor, counts.lag)]


def serveStatus(
    reactor: Any,
    configuration: Configuration,
    listens: Callable[[Address], object],
    snapshot: Callable[[], Snapshot | Awaitable[Snapshot]],
    isReady: Callable[[], bool],
) -> list[IService]:
    """
    Listen where metrics are asked for, if they are.

    @param listens: Is told where, so that clients of the proxy do not get there.
    @param snapshot: All numbers, at once or later.
    @param isReady: Whether clients can come.
    @return: What is to be started with the server.
    @raise ValueError: It cannot be done.
    """
    said = configuration.texts.get("metrics")
    if said is None:
        return []
    status = _status(said)
    factory = status.statusFactory(status.StatusPages(snapshot, isReady))
    port, _ = listenAt(reactor, describe(said, _INTERFACE), factory)
    service = status.StatusService(port)
    listens(service.address)
    return [service]
