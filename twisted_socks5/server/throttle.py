# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Slowing down who guesses passwords, and refusing who goes on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv6Network
from itertools import islice
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twisted_socks5.addresses import Address, unmapped
from twisted_socks5.errors import AuthenticationFailed
from twisted_socks5.observe.escape import escape, pairs
from twisted_socks5.settings import Throttling

_log = Logger(namespace="twisted_socks5.throttle")

_Key = tuple[str, str]

Failures = Iterable[tuple[_Key, int]]
"""
How often each has failed.
"""


@attrs.define
class _Record:
    """
    What is known of an address or a user.

    @ivar failures: How often it has failed.
    @ivar last: When it did so last, in the reactor's seconds.
    @ivar busy: How many attempts are being checked now.
    @ivar waiting: The attempts that wait until fewer are, each with whose it is.
    """

    failures: int = 0
    last: float = 0.0
    busy: int = 0
    waiting: dict[Deferred[None], _Key] = attrs.field(factory=dict)


class Throttle:
    """
    Counts the failures of each client address and for each user name.  Success
    counts for nothing: neither is anybody let in for an address that was good
    once, nor does who has an account get to guess at others'.

    @ivar report: Is told of each failure, if other processes count them too; then it
        is for somebody else to log what they lead to.
    @ivar settings: What failures lead to.
    """

    def __init__(self, reactor: Any, settings: Throttling) -> None:
        self._reactor = reactor
        self.settings = settings
        self.report: Callable[[Failures], None] | None = None
        self._records: OrderedDict[_Key, _Record] = OrderedDict()

    def attempt(self, client: Address, name: bytes) -> Attempt:
        """
        A client is about to be checked.

        @param name: Whom it claims to be.
        """
        keys = [("user", escape(name))]
        if client.ip is not None:  # all clients of a UNIX socket are one
            keys.insert(0, ("client", _networkOf(client)))
        return Attempt(self, keys)

    async def begin(self, key: _Key, whose: _Key) -> None:
        """
        Wait for leave to check an attempt.  At once there are never more than
        may still fail before they are slowed, so that many at once learn no more
        than one after the other.

        @param key: The address or the name that is looked at.
        @param whose: The address that the attempt comes from.
        @raise AuthenticationFailed: Too many have failed.
        """
        settings = self.settings
        record = self._recordOf(key)
        while True:
            if settings.refuseAfter and record.failures >= settings.refuseAfter:
                raise AuthenticationFailed(f"throttled: {key[0]} has failed too often")
            if not settings.slowAfter:
                break
            if record.busy < max(settings.slowAfter - record.failures, 1):
                break
            waiting: Deferred[None] = Deferred(record.waiting.__delitem__)
            record.waiting[waiting] = whose
            await waiting
        self._records[key] = record
        record.busy += 1

    async def slow(self, keys: list[_Key]) -> None:
        """
        Wait, if one of these has failed often.
        """
        after = self.settings.slowAfter
        if after and any(self._records[key].failures >= after for key in keys):
            await deferLater(self._reactor, self.settings.delay)

    def end(self, key: _Key, hasFailed: bool) -> None:
        """
        An attempt that had leave has been checked, or has gone away.  Next is who
        has failed least, so that those who guess a name do not keep its owner
        waiting, who comes from elsewhere.
        """
        record = self._records[key]
        record.busy -= 1
        if hasFailed:
            self._fail(key, record, 1)
            if self.report is not None:
                self.report([(key, 1)])
        if not record.failures and not record.busy:
            del self._records[key]
        for waiting, _ in sorted(
            record.waiting.items(), key=lambda one: self._recordOf(one[1]).failures
        ):
            if not waiting.called:  # one that went on may have ended another
                del record.waiting[waiting]
                waiting.callback(None)

    def failed(self, key: _Key, count: int) -> None:
        """
        An address or a name has failed in another process.
        """
        record = self._records[key] = self._recordOf(key)
        self._fail(key, record, count)

    def failures(self) -> Iterator[tuple[_Key, int]]:
        """
        How often each has failed of whom that is known.
        """
        for key in list(self._records):
            if count := self._recordOf(key).failures:
                yield key, count

    def _fail(self, key: _Key, record: _Record, count: int) -> None:
        settings = self.settings
        before = record.failures
        record.failures += count
        record.last = self._reactor.seconds()
        self._records.move_to_end(key)
        if self.report is None:
            if before < settings.slowAfter <= record.failures:
                self._tell("slowed", key, record)
            if before < settings.refuseAfter <= record.failures:
                self._tell("refused", key, record)
        surplus = max(0, len(self._records) - settings.entries)
        for oldest in list(islice(self._records, surplus)):
            if not self._records[oldest].busy:
                del self._records[oldest]

    def _tell(self, state: str, key: _Key, record: _Record) -> None:
        kind, name = key
        shown = {
            "throttle": state,
            kind: name,
            "failures": record.failures,
            "seconds": f"{self.settings.memory:g}",
        }
        _log.warn(
            "{line}",
            line=pairs(shown),
            throttle=state,
            kind=kind,
            name=name,
            failures=record.failures,
            seconds=self.settings.memory,
        )

    def _recordOf(self, key: _Key) -> _Record:
        """
        What is known now: who has not failed for a while has not failed.
        """
        record = self._records.get(key)
        if record is None:
            return _Record()
        if self._reactor.seconds() - record.last >= self.settings.memory:
            record.failures = 0
        return record


class Attempt:
    """
    One client that is checked.
    """

    def __init__(self, throttle: Throttle, keys: list[_Key]) -> None:
        self._throttle = throttle
        self._keys = keys
        self._begun: list[_Key] = []

    async def begin(self) -> None:
        """
        Wait for leave to check it.

        @raise AuthenticationFailed: There have been too many failures.
        """
        for key in self._keys:
            await self._throttle.begin(key, self._keys[0])
            self._begun.append(key)
        await self._throttle.slow(self._keys)

    def end(self, hasFailed: bool) -> None:
        """
        It was checked, or has gone away; or it had no leave, which counts for
        nothing.
        """
        hasFailed = hasFailed and self._begun == self._keys
        while self._begun:  # the address first, whose failures say who is next
            self._throttle.end(self._begun.pop(0), hasFailed)


def _networkOf(client: Address) -> str:
    """
    A client's IPv4 address, or the IPv6 network that it has for itself.
    """
    assert client.ip is not None
    ip = unmapped(client.ip)
    return str(ip) if ip.version == 4 else str(IPv6Network((int(ip) >> 64 << 64, 64)))
