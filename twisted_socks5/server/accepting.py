# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Accepting clients only while there are descriptors left to serve them with.

A process that runs out of descriptors can neither accept, nor connect, nor look
names up; and Twisted's own port, which finds that out from the kernel, logs
several lines for each client that waits.  So we look first.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IListeningPort, IReadDescriptor
from twisted.internet.tcp import Port
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_socks5.server.backlog import SHORTAGE, Backlog

_log = Logger(namespace="twisted_socks5")

_HEADROOM = 8
"""
How many descriptors are left to look-ups, datagrams, logs and pipes.
"""

_EACH = 2
"""
How many descriptors a client takes: its own connection, and that to its
destination.
"""

_AT_MOST = 8
_OTHERS = 256
"""
More descriptors than a session takes, with pipes or ports for datagrams; and more than
all else together.
"""

_NO_IDEA = 1 << 40

_MOST_OWED = 32
"""
For how many of those who have not asked for anything yet the second descriptor
is kept.  More than so many seldom ask all at once.
"""

_PAUSE = 0.1
"""
How long, in seconds, until we look again whether there is room.
"""

_COURTESY = 0.002
"""
How long, in seconds, a client waits for another process to accept it, before this
one does, which has more than its share.
"""

_LEFT_TO_OTHERS = 10
"""
How often it is looked again before those are turned away whom no other process has
accepted.
"""

_TURNED_AWAY_AT_ONCE = 200
"""
How many clients a listener turns away before others get their turn.
"""

_BETWEEN_LINES = 1.0
"""
How often, in seconds, it is told that there is no room.
"""


def freeDescriptors(some: int, most: int) -> int:
    """
    How many more descriptors this process could open.

    @param some: A descriptor that is open.
    @param most: Where to stop counting.
    """
    opened: list[int] = []
    try:
        for _ in range(most):
            opened.append(os.dup(some))
    except OSError:
        pass
    for each in opened:
        os.close(each)
    return len(opened)


class Accepting:
    """
    What the listening ports of one process have in common: whether there is
    room for more clients.  While there is none, those that come are turned away at
    once, without anything being read from them, and the ports are looked at ten
    times a second.

    @ivar isAhead: Tells whether other processes that accept from the same ports
        have fewer clients.
    @ivar isOpen: Whether there are ports, and they are not to be closed.
    @ivar isShared: Whether other processes accept from the same ports.  Then those
        who come are left to them, and only those are turned away, once a second, who
        wait still.
    @ivar isShort: Whether there is no room.
    @ivar turnedAway: How many clients were turned away so far.
    """

    def __init__(
        self,
        reactor: Any,
        handshaking: Callable[[], int],
        sessions: Callable[[], int] | None = None,
    ) -> None:
        """
        @param reactor: What the ports are read by.
        @param handshaking: Tells how many of those who were accepted have not
            asked for anything yet.
        @param sessions: Tells how many clients there are; without it, it is tried each
            time whether there is room.
        """
        self._sessions = sessions or (lambda: _NO_IDEA)
        self.isAhead: Callable[[], bool] = lambda: False
        self.isOpen = False
        self.isShared = False
        self.isShort = False
        self.turnedAway = 0
        self._reactor = reactor
        self._handshaking = handshaking
        self._doors: list[_Door] = []
        self._spare: int | None = None
        self._looking: IDelayedCall | None = None
        self._looks = 0
        self._shortage = ""
        self._told = 0
        self._toldAt = -_BETWEEN_LINES

    def watch(self, port: IListeningPort) -> None:
        """
        Read a port in the reactor's stead.  Ports of other packages, of which
        nothing is known, are left to it.
        """
        self.isOpen = True
        if isinstance(port, Port):
            self._reserve()
            port.stopReading()
            self._doors.append(_Door(self, port))
            if not self.isShort:
                self._reactor.addReader(self._doors[-1])

    def forget(self, port: IListeningPort) -> None:
        """
        A port is about to be closed, and is read no more.
        """
        for door in self._doors:
            if door.port is port:
                self._reactor.removeReader(door)
        self._doors = [door for door in self._doors if door.port is not port]

    def stop(self) -> None:
        """
        The ports are about to be closed, and are read no more.
        """
        self.isOpen = False
        for door in self._doors:
            self._reactor.removeReader(door)
        self._doors = []
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        self._release()

    def room(self, some: int, most: int) -> int:
        """
        How many clients there is room for.

        @param some: A descriptor that is open.
        @param most: Where to stop counting.
        """
        kept = _HEADROOM + min(self._handshaking(), _MOST_OWED)
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit - _OTHERS - _AT_MOST * self._sessions() > kept + _EACH * most:
            return most  # without having to try
        return (freeDescriptors(some, kept + _EACH * most) - kept) // _EACH

    def letOthers(self, door: _Door) -> None:
        """
        Leave those who wait to other processes, and accept who is left then.
        """
        self._reactor.removeReader(door)
        self._reactor.callLater(_COURTESY, self._returnTo, door)

    def _returnTo(self, door: _Door) -> None:
        if door in self._doors and not self.isShort:
            door.letIn()
            if door in self._doors and not self.isShort:
                self._reactor.addReader(door)

    def isFull(self, shortage: str = "") -> None:
        """
        There is no room for another client.

        @param shortage: What there is too little of; by default, descriptors.
        """
        self.isShort = True
        self._shortage = shortage
        for door in self._living():
            self._reactor.removeReader(door)
        self._looks = 0
        if not self.isShared:
            self._turnAway()
        if self._looking is None:
            self._looking = self._reactor.callLater(_PAUSE, self._look)

    def _look(self) -> None:
        self._looking = None
        if self.isShort:
            doors = self._living()
            if doors and self.room(doors[0].fileno(), 1) > 0:
                self.isShort = False
                for door in doors:
                    self._reactor.addReader(door)
            else:
                self._looks += 1
                if not self.isShared or self._looks % _LEFT_TO_OTHERS == 0:
                    self._turnAway()
        self._tell()
        if self.isShort or self._shortage or self._told < self.turnedAway:
            self._looking = self._reactor.callLater(_PAUSE, self._look)

    def _living(self) -> list[_Door]:
        """
        Those whose ports were not closed meanwhile.
        """
        self._doors = [door for door in self._doors if door.isOpen]
        return self._doors

    def _turnAway(self) -> None:
        """
        Close the connections that wait to be accepted.  If there is not even the
        one descriptor that this takes, then there is the one that was kept for it.
        """
        self._release()
        for door in self._living():
            self.turnedAway += door.turnAway()
        self._reserve()
        self._tell()

    def _tell(self) -> None:
        now, count = self._reactor.seconds(), self.turnedAway - self._told
        if not (count or self._shortage) or now - self._toldAt < _BETWEEN_LINES:
            return
        _log.warn(
            "{shortage}: {count} clients turned away",
            shortage=self._shortage or SHORTAGE,
            count=count,
        )
        self._told, self._toldAt, self._shortage = self.turnedAway, now, ""

    def _reserve(self) -> None:
        if self._spare is None:
            try:
                self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                pass  # the next time

    def _release(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None


@implementer(IReadDescriptor)
class _Door:
    """
    Stands in front of a listening port.
    """

    def __init__(self, accepting: Accepting, port: Port) -> None:
        self._accepting = accepting
        self.port: Any = port
        self._backlog: Any = Backlog(self.port.socket)
        self.port.socket = self._backlog

    @property
    def isOpen(self) -> bool:
        """
        Whether the port listens, and is not about to be closed.
        """
        return bool(self.port.connected and not self.port.disconnecting)

    def fileno(self) -> int:
        """
        The port's descriptor.
        """
        descriptor: int = self.port.fileno()
        return descriptor

    def logPrefix(self) -> str:
        """
        What the reactor calls us.
        """
        return "accepting"

    def doRead(self) -> None:
        """
        Clients wait.
        """
        if self._accepting.isAhead():
            self._accepting.letOthers(self)
        else:
            self.letIn()

    def letIn(self) -> None:
        """
        Accept those who wait and for whom there is room.
        """
        if not self.isOpen:
            return
        port = self.port
        room = self._accepting.room(port.fileno(), port.numberAccepts)
        if room <= 0:
            self._accepting.isFull()
            return
        port.numberAccepts = min(port.numberAccepts, room)
        port.doRead()
        if self._backlog.shortage:
            self._accepting.isFull(self._backlog.shortage)

    def turnAway(self) -> int:
        """
        Close connections that wait.

        @return: How many.
        """
        for count in range(_TURNED_AWAY_AT_ONCE):
            try:
                client, _ = self._backlog.accept()
            except OSError:
                return count
            client.close()
        return _TURNED_AWAY_AT_ONCE

    def connectionLost(self, reason: Failure) -> None:
        """
        The reactor tells the port of its own end by us.
        """
        self.port.connectionLost(reason)
