# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Several ways out, of which the first that works is taken.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twisted_socks5.addresses import Address, IPAddress
from twisted_socks5.errors import (
    CommandNotSupported,
    ConnectionNotAllowed,
    ConnectionRefused,
    GeneralFailure,
    HostUnreachable,
    NameNotFound,
    NetworkUnreachable,
    TimedOut,
)
from twisted_socks5.interfaces import IOutbound, IRoute, IWatchedOutbound
from twisted_socks5.routes.failover import FailoverRoute
from twisted_socks5.routes.leastused import LeastUsedRoute
from twisted_socks5.routes.throughproxy import ThroughProxy

TARGET = Address("example.org", 443)


@implementer(IRoute)
class Way:
    """
    Answers with its name, or fails.
    """

    def __init__(self, answer: Any, resolvesNames: bool = True) -> None:
        self.answer = answer
        self.resolvesNames = resolvesNames
        self.asked: list[Any] = []

    def boundTo(self, address: IPAddress) -> IRoute:
        return Way(f"{self.answer} from {address}", self.resolvesNames)

    async def connect(self, target: Address, check: Any) -> Any:
        return self._answer(target, check)

    def listen(self, expected: Address, check: Any) -> Any:
        return self._answer(expected, check)

    def datagrams(self, check: Any) -> Any:
        return self._answer(None, check)

    def _answer(self, *arguments: Any) -> Any:
        self.asked.append(arguments)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def check(address: Address, asked: Address | None = None) -> None: ...


def outcome(ways: list[Way], method: str) -> Any:
    route: Any = FailoverRoute(ways)
    assert verifyObject(IRoute, route)
    arguments = (check,) if method == "datagrams" else (TARGET, check)
    found: list[Any] = []
    opening = Deferred.fromCoroutine(getattr(route, method)(*arguments))
    opening.addBoth(found.append)
    return getattr(found[0], "value", found[0])


METHODS = pytest.mark.parametrize("method", ["connect", "listen", "datagrams"])


@implementer(IStreamClientEndpoint)
class Nowhere:
    """
    Never connects.
    """

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        return Deferred()


@METHODS
def test_cancelling(method: str) -> None:
    """
    A way that was given up has not failed: none is tried after it.
    """
    reactor: Any = Clock()
    next = Way("next")
    route: Any = FailoverRoute([ThroughProxy(reactor, Nowhere()), next])
    arguments = (check,) if method == "datagrams" else (TARGET, check)
    opening = Deferred.fromCoroutine(getattr(route, method)(*arguments))
    opening.cancel()
    found: list[Any] = []
    opening.addErrback(lambda failure: found.append(failure.type))
    assert (found, next.asked) == ([CancelledError], [])
    assert reactor.getDelayedCalls() == []


@METHODS
@pytest.mark.parametrize(
    "error",
    [
        NetworkUnreachable,
        HostUnreachable,
        TimedOut,
        GeneralFailure,
        CommandNotSupported,
    ],
)
def test_theNextOne(method: str, error: type[Exception]) -> None:
    ways = [Way(error("a")), Way(GeneralFailure("b")), Way("good"), Way("unused")]
    assert outcome(ways, method) == "good"
    assert ways[2].asked == [(None if method == "datagrams" else TARGET, check)]
    assert not ways[3].asked
    first = error("first")
    assert outcome([Way(first), Way(GeneralFailure("last"))], method) is first


@METHODS
@pytest.mark.parametrize(
    "error", [ConnectionRefused, ConnectionNotAllowed, NameNotFound, ZeroDivisionError]
)
def test_noOtherWayWouldHelp(method: str, error: type[Exception]) -> None:
    problem, other = error("a"), Way("other")
    assert outcome([Way(problem), other], method) is problem
    assert not other.asked


def test_names() -> None:
    here, elsewhere = Way(""), Way("", resolvesNames=False)
    assert FailoverRoute([here, here]).resolvesNames
    assert not FailoverRoute([here, elsewhere]).resolvesNames


def test_boundTo() -> None:
    ways = [Way("one"), Way("two")]
    bound: Any = FailoverRoute(ways).boundTo(ip_address("192.0.2.1"))
    found: list[Any] = []
    opening = Deferred.fromCoroutine(bound.connect(TARGET, check))
    opening.addBoth(found.append)
    assert found == ["one from 192.0.2.1"]


def test_theLeastUsedIsTriedFirst() -> None:
    """
    And the next if that fails, which is no use of it.
    """
    ways = [Way(GeneralFailure("a")), Way(Outbound()), Way(Outbound())]
    route: Any = LeastUsedRoute(ways)
    assert verifyObject(IRoute, route)
    assert verifyObject(IRoute, route.boundTo(ip_address("192.0.2.1")))
    assert route.resolvesNames
    opened: list[Any] = []
    for expected in ([0, 1, 0], [0, 1, 1], [0, 2, 1]):
        Deferred.fromCoroutine(route.connect(TARGET, check)).addCallback(opened.append)
        assert route.uses == expected
    first, _, third = opened
    assert verifyObject(IWatchedOutbound, first)
    first.ended()
    first.ended()
    assert route.uses == [0, 1, 1]
    third.abort()
    assert third.peer == TARGET
    assert route.uses == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        opened[1].attach(None)
    assert route.uses == [0, 0, 0]
    assert not LeastUsedRoute([*ways, Way("", resolvesNames=False)]).resolvesNames


@implementer(IOutbound)
class Outbound:
    """
    A connection that is lost when somebody wants it.
    """

    local = peer = TARGET
    isOpen = True

    def attach(self, protocol: Any) -> Any:
        raise ZeroDivisionError

    def detachSocket(self) -> None: ...

    def abort(self) -> None:
        self.isOpen = False
