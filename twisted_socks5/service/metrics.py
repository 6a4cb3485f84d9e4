# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What C{--metrics} asks for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import ModuleType
from typing import Any

from twisted.application.service import IService
from twisted.internet.protocol import Factory

from twisted_socks5.addresses import Address
from twisted_socks5.observe.counts import Counts, Snapshot
from twisted_socks5.observe.lag import ReactorLag
from twisted_socks5.service.configuration import Configuration, Said
from twisted_socks5.service.endpoints import describe, listenAt

_INTERFACE = Said("127.0.0.1", "--metrics")


def statusEndpoint(texts: Mapping[str, Said]) -> Said | None:
    """
    Where metrics are asked for; L{None} if they are not.

    @param texts: What was said, by the names of options.
    @raise ValueError: It is no endpoint.
    """
    said = texts.get("metrics")
    return None if said is None else describe(said, _INTERFACE)


def checkStatus(looking: Any, configuration: Configuration) -> None:
    """
    See whether metrics could be served where they are asked for.

    @param looking: Looks in the reactor's stead, rather than listen.
    @raise ValueError: They could not.
    """
    endpoint = statusEndpoint(configuration.texts)
    if endpoint is not None:
        _status(endpoint)
        listenAt(looking, endpoint, Factory())


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
    endpoint = statusEndpoint(configuration.texts)
    if endpoint is None:
        return []
    status = _status(endpoint)
    factory = status.statusFactory(status.StatusPages(snapshot, isReady))
    port, _ = listenAt(reactor, endpoint, factory)
    service = status.StatusService(port)
    listens(service.address)
    return [service]
