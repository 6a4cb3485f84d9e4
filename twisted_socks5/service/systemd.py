# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Telling systemd how the server does (C{sd_notify(3)}), where it wants to know.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, MutableMapping
from types import FrameType
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

_log = Logger(namespace="twisted_socks5")


class Notifier(Service):
    """
    Says when the server serves, when it reads its configuration again, when it
    stops, and, from the reactor's loop, that it is alive.
    """

    def __init__(
        self,
        reactor: Any,
        address: str,
        watchdog: float,
        whenServing: Callable[[], Deferred[None]],
    ) -> None:
        """
        @param address: Where systemd listens; with C{@} in front, no file but an
            abstract one.
        @param watchdog: How long, in seconds, systemd waits for a sign of life; 0 is
            for ever.
        @param whenServing: Waits until the server serves.
        """
        self._reactor = reactor
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog = watchdog
        self._whenServing = whenServing
        self._alive = LoopingCall(self.tell, "WATCHDOG=1")
        self._alive.clock = reactor
        self._before: Any = None

    @classmethod
    def fromEnvironment(
        cls,
        reactor: Any,
        environment: MutableMapping[str, str],
        whenServing: Callable[[], Deferred[None]],
    ) -> Notifier | None:
        """
        One that says what systemd wants to know.  Our children are not to say it too,
        so it is taken out of the environment.

        @return: L{None} if systemd wants to know nothing.
        """
        address = environment.pop("NOTIFY_SOCKET", "")
        microseconds = environment.pop("WATCHDOG_USEC", "0")
        process = environment.pop("WATCHDOG_PID", str(os.getpid()))
        if not address.startswith(("/", "@")):
            return None
        isForUs = process == str(os.getpid()) and microseconds.isdecimal()
        watchdog = int(microseconds) / 1e6 if isForUs else 0.0
        return cls(reactor, address, watchdog, whenServing)

    def startService(self) -> None:
        """
        Begin to tell.
        """
        Service.startService(self)
        self._whenServing().addCallback(lambda _: self.tell("READY=1"))
        self._reactor.callWhenRunning(self._begin)
        self._reactor.addSystemEventTrigger(
            "before", "shutdown", self.tell, "STOPPING=1"
        )

    def _begin(self) -> None:
        if self._watchdog:
            self._alive.start(self._watchdog / 2)
        before = signal.getsignal(signal.SIGHUP)
        if callable(before):
            self._before = before
            signal.signal(signal.SIGHUP, self._reloads)

    def _reloads(self, number: int, frame: FrameType | None) -> None:
        """
        Whoever has the signal has the reactor call what is to be done, and so do we:
        behind it.
        """
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.tell(f"RELOADING=1\nMONOTONIC_USEC={now}")
        self._before(number, frame)
        self._reactor.callFromThread(self.tell, "READY=1")

    def stopService(self) -> None:
        """
        Tell no more.
        """
        Service.stopService(self)
        if self._alive.running:
            self._alive.stop()
        if self._before is not None:
            signal.signal(signal.SIGHUP, self._before)

    def tell(self, state: str) -> None:
        """
        Tell something.
        """
        try:
            with socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
            ) as telling:
                telling.sendto(state.encode(), self._address)
        except OSError as error:
            _log.warn("systemd was not told: {problem}", problem=error.strerror)
