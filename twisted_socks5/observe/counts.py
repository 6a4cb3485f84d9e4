# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What a server counts, in plain numbers: whether anybody looks at them, and how they
are shown, is for others to say.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

from twisted_socks5.authenticators import Identity
from twisted_socks5.interfaces import IDatagramTraffic, ISession
from twisted_socks5.observe.escape import escape
from twisted_socks5.wire import Command

SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
    *(0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""
The upper bounds of the ranges that durations are counted in.
"""

Snapshot = dict[str, Any]
"""
All numbers at one moment: dictionaries and lists of numbers, which can be sent as
JSON and L{added<total>} to those of other processes.
"""

MAX_USERS = 1000
"""
How many users are counted one by one; all further ones are counted together.
"""

_OTHER = "other"
_COMMANDS = {int(command): command.name for command in Command}
_MOST_ASSIGNED_REPLY = 0x08


class Histogram:
    """
    How many durations there were in each range.
    """

    def __init__(self) -> None:
        self._counts = [0] * (len(SECONDS) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """
        Count one.
        """
        self._counts[bisect_left(SECONDS, seconds)] += 1
        self._sum += seconds

    def snapshot(self) -> Snapshot:
        """
        How many in each range, the last one above all bounds; and how long together.
        """
        return {"counts": list(self._counts), "sum": self._sum}


class _Carried:
    """
    What sessions have carried.
    """

    def __init__(self) -> None:
        self.bytes = {"up": 0, "down": 0}
        self.datagrams = {"up": 0, "down": 0}
        self.dropped: Counter[str] = Counter()

    def copy(self) -> _Carried:
        """
        The same, to count on from.
        """
        copied = _Carried()
        copied.bytes |= self.bytes
        copied.datagrams |= self.datagrams
        copied.dropped |= self.dropped
        return copied

    def add(self, session: ISession) -> None:
        """
        Add what a session has carried until now.
        """
        traffic = session.traffic
        if traffic is None:
            return
        self.bytes["up"] += traffic.bytesUp
        self.bytes["down"] += traffic.bytesDown
        if IDatagramTraffic.providedBy(traffic):
            self.datagrams["up"] += traffic.datagramsUp
            self.datagrams["down"] += traffic.datagramsDown
            self.dropped.update(traffic.drops)


class _Users:
    """
    What each user has carried.
    """

    def __init__(self) -> None:
        self.bytes: dict[str, dict[str, int]] = {}

    def add(self, session: ISession) -> None:
        """
        Add what a session has carried until now.
        """
        if session.identity is None:
            return
        name = _nameOf(session.identity)
        if name not in self.bytes and len(self.bytes) >= MAX_USERS:
            name = _OTHER
        carried = self.bytes.setdefault(name, {"up": 0, "down": 0})
        carried["up"] += session.bytesUp
        carried["down"] += session.bytesDown

    def copy(self) -> _Users:
        """
        The same, to count on from.
        """
        copied = _Users()
        copied.bytes = {name: dict(each) for name, each in self.bytes.items()}
        return copied


class Counts:
    """
    The counts of one server in one process.  All but C{sessions} only grow.

    @ivar connecting: How long it took to connect to destinations, by outcome.
    @ivar resolving: How long it took to look names up, by outcome.
    @ivar lag: By how much the reactor was late.
    """

    def __init__(
        self,
        live: Iterable[ISession],
        states: Iterable[str],
        commands: Callable[[], Container[int]],
    ) -> None:
        """
        @param live: The sessions that live; they are gone through for each
            snapshot.
        @param states: How far sessions can have come.
        @param commands: Tells the CMD octets that are served now.
        """
        self._live = live
        self._states = [str(state) for state in states]
        self._commands = commands
        self._ended: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._authentications: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._carried = _Carried()
        self._users: _Users | None = None
        self._others: dict[str, Callable[[], Any]] = {}
        self.connecting: defaultdict[str, Histogram] = defaultdict(Histogram)
        self.resolving: defaultdict[str, Histogram] = defaultdict(Histogram)
        self.lag = Histogram()

    def countUsers(self) -> None:
        """
        Count what each user carries, from now on.
        """
        self._users = _Users()

    def read(self, name: str, count: Callable[[], Any]) -> None:
        """
        Take another number into snapshots, which is counted elsewhere.

        @param name: C{"limitsHit"}, numbers by the key of a limit;
            C{"turnedAway"}, clients that there were no descriptors for; or
            C{"linesDropped"}, lines that did not get into a log.
        @param count: Tells it, as often as it is asked.
        """
        self._others[name] = count

    def authenticated(self, method: int, outcome: str) -> None:
        """
        A client has tried to get in.

        @param method: The METHOD octet; FF if there was no method.
        @param outcome: What came of it.
        """
        self._authentications[f"{method:02x}"][outcome] += 1

    def connected(self, outcome: str, seconds: float) -> None:
        """
        A route has connected to a destination, or has failed to.
        """
        self.connecting[outcome].add(seconds)

    def resolved(self, outcome: str, seconds: float) -> None:
        """
        A name was looked up.
        """
        self.resolving[outcome].add(seconds)

    def sessionEnded(self, session: ISession) -> None:
        """
        A session is over, and lives no more.
        """
        self._ended[self._commandOf(session)][_replyOf(session)] += 1
        self._carried.add(session)
        if self._users is not None:
            self._users.add(session)

    def snapshot(self) -> Snapshot:
        """
        All of them, with what the sessions that live have carried so far.
        """
        states = dict.fromkeys(self._states, 0)
        carried = self._carried.copy()
        users = None if self._users is None else self._users.copy()
        for session in self._live:
            states[str(session.state)] += 1
            carried.add(session)
            if users is not None:
                users.add(session)
        return {
            "workers": 1,
            "sessions": states,
            "ended": {command: dict(each) for command, each in self._ended.items()},
            "authentications": {
                method: dict(each) for method, each in self._authentications.items()
            },
            "bytes": carried.bytes,
            "datagrams": carried.datagrams,
            "dropped": dict(carried.dropped),
            "connecting": _snapshots(self.connecting),
            "resolving": _snapshots(self.resolving),
            "lag": self.lag.snapshot(),
            "users": {} if users is None else users.bytes,
            **{name: _plain(count()) for name, count in self._others.items()},
        }

    def _commandOf(self, session: ISession) -> str:
        # What clients make up must not make the numbers more and more.
        command = session.command
        if command is None:
            return "none"
        if command not in self._commands():
            return _OTHER
        return _COMMANDS.get(command) or f"{command:02x}"


def total(snapshots: Iterable[Snapshot]) -> Snapshot:
    """
    The numbers of several processes together.
    """
    result: Snapshot = {}
    for snapshot in snapshots:
        result = _sum(result, snapshot)
    return result


def _sum(one: Any, another: Any) -> Any:
    if isinstance(another, dict):
        added = dict(one)
        for key, value in another.items():
            added[key] = _sum(added[key], value) if key in added else value
        return added
    if isinstance(another, list):
        return [_sum(*pair) for pair in zip(one, another, strict=True)]
    return one + another


def _snapshots(histograms: Mapping[str, Histogram]) -> Snapshot:
    return {outcome: each.snapshot() for outcome, each in histograms.items()}


def _plain(count: Any) -> Any:
    return dict(count) if isinstance(count, Mapping) else count


def _replyOf(session: ISession) -> str:
    if session.reply is None:
        return "none"
    return f"{session.reply:02x}" if session.reply <= _MOST_ASSIGNED_REPLY else _OTHER


def _nameOf(identity: Identity) -> str:
    return "" if identity.isAnonymous else escape(identity.name)
