# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Where the server's logs go: its own, which the runner (C{twistd} or C{twist})
would write by itself, and that of sessions.
"""

from __future__ import annotations

import atexit
import signal
import sys
import time
from types import FrameType
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    textFileLogObserver,
)
from twisted.python.components import Componentized

from twisted_socks5.interfaces import IAccessLog
from twisted_socks5.observe.access import JSONAccessLog, TextAccessLog
from twisted_socks5.observe.destinations import (
    FileDestination,
    JournalDestination,
    StreamDestination,
    SyslogDestination,
    checkFile,
)
from twisted_socks5.observe.events import (
    WritingObserver,
    describeAsJSON,
    describeAsText,
)
from twisted_socks5.observe.flood import Flood
from twisted_socks5.observe.writer import IDestination, Line, LogWriter
from twisted_socks5.service.configuration import Configuration, Said
from twisted_socks5.service.options import SOCKS5Options
from twisted_socks5.settings import LogSettings, LogTarget

_ACCESS_LOGS: dict[str, type[TextAccessLog]] = {
    "text": TextAccessLog,
    "json": JSONAccessLog,
}

_PATIENCE = 1.0
"""
How long, in seconds, all that waits to be written may take when the server ends.
"""


class Logs(Service):
    """
    The logs of a server, and the threads that write them.

    @ivar access: Is told of sessions; L{None} if nobody is to be.
    @ivar flood: Counts refusals that are too many to be written, if any are.
    @ivar writers: What writes, by names for operators: C{"log"} and C{"access"}.
        What leaves no choice to us is not among them.
    """

    def __init__(self, reactor: Any, options: SOCKS5Options) -> None:
        """
        @raise ValueError: A place cannot be written to; the text says why.
        """
        self._reactor = reactor
        self._configuration = options.configuration
        self._settings: LogSettings = options.configuration.settings.log
        self._observer: ILogObserver | None = None
        self._hangup: Any = signal.SIG_DFL
        self.writers: dict[str, LogWriter] = {}
        runner = options.parent
        if runner is not None:  # else whoever runs us has a log of his own
            self._takeOver(runner)
        self.flood = (
            Flood(reactor, self._settings.sample) if self._settings.sample else None
        )
        self.access = self._accessLog(options.configuration.accessLog, runner)

    def _takeOver(self, runner: Any) -> None:
        """
        Write what a runner would write by itself, and wait for.
        """
        target = self._settings.to
        if runner.get("logger"):
            _refuseTwo(self._configuration)
            return
        if target.kind == "runner":
            destination = self._whereItWould(runner)
        else:
            destination = self._open("log.to", target, runner)
        if destination is None:
            return
        choice = self._settings.format
        theirs = runner.get("fileLogObserverFactory")
        makeDescribe = describeAsJSON if choice == "json" else describeAsText
        describe = makeDescribe(destination.isTimed)
        writer = self.writers["log"] = LogWriter(
            destination, lambda count: _required(describe(_dropped(count)))
        )
        if choice == "runner" and theirs not in (None, textFileLogObserver):
            self._observer = theirs(_LineFile(writer))
        else:
            self._observer = WritingObserver(writer, describe)
        if theirs is not None:  # it is twist, which asks nobody else
            runner["fileLogObserverFactory"] = lambda _: self._observer
        atexit.register(self.finish)

    def _whereItWould(self, runner: Any) -> IDestination | None:
        """
        Where a runner would write its log.

        @return: L{None} if it would not, and will say so.
        """
        if "logFile" in runner:  # twist's, which has opened it
            file = runner["logFile"]
            if file in (sys.stdout, sys.stderr):
                return StreamDestination(file.fileno(), file.name.strip("<>"))
            return self._file(Said(file.name, "--log-file"), file.name)
        if runner["syslog"]:
            return SyslogDestination("", runner["prefix"], SyslogDestination.USER)
        name = runner["logfile"] or ("-" if runner["nodaemon"] else "twistd.log")
        if name != "-":
            return self._file(Said(name, "--logfile"), name)
        return self._standardOutput() if runner["nodaemon"] else None

    def _open(self, key: str, target: LogTarget, runner: Any) -> IDestination:
        said = self._configuration.said(key)
        if target.kind == "file":
            return self._file(said, target.path)
        if target.kind == "syslog":
            return SyslogDestination(target.path)
        if target.kind == "journald":
            return JournalDestination(target.path)
        if runner is not None and not runner.get("nodaemon", True):
            raise said.fail("a daemon has none; add --nodaemon", "stdout")
        return self._standardOutput()

    def _standardOutput(self) -> IDestination:
        return StreamDestination(sys.stdout.fileno(), "stdout")

    def _file(self, said: Said, path: str) -> IDestination:
        settings = self._settings
        try:
            return FileDestination(path, settings.rotateBytes, settings.rotateFiles)
        except OSError as error:
            raise said.fail(error.strerror, path) from None

    def _accessLog(self, form: str, runner: Any) -> IAccessLog | None:
        if form == "off":
            return None
        kind = _ACCESS_LOGS[form]
        target = self._settings.accessTo
        if target.kind == "log":
            return kind(flood=self.flood)
        destination = self._open("log.access-to", target, runner)
        access = kind(destination, self.flood)
        assert access.writer is not None
        self.writers["access"] = access.writer
        return access

    # -- while the server runs --------------------------------------------------------

    def install(self, application: Componentized) -> None:
        """
        Have C{twistd} log through us.
        """
        if self._observer is not None:
            application.setComponent(ILogObserver, self._observer)

    def startService(self) -> None:
        """
        Begin to write: from here on nobody forks.
        """
        Service.startService(self)
        for writer in self.writers.values():
            writer.start()
        # After whoever else takes them, so that they are told, too.
        self._reactor.callWhenRunning(self._reactor.callLater, 0, self._takeSignals)
        self._reactor.addSystemEventTrigger("after", "shutdown", self.finish)

    def _takeSignals(self) -> None:
        self._hangup = signal.getsignal(signal.SIGHUP)
        signal.signal(signal.SIGHUP, self._hungUp)
        if "log" in self.writers and signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL:
            rotate = self.writers["log"].rotate  # as twistd does
            signal.signal(signal.SIGUSR1, lambda *_: rotate())

    def _hungUp(self, number: int, frame: FrameType | None) -> None:
        self.reopen()
        if callable(self._hangup):
            self._hangup(number, frame)

    def dropped(self) -> int:
        """
        How many lines were dropped so far.
        """
        return sum(writer.dropped for writer in self.writers.values())

    def reopen(self) -> None:
        """
        Open files again that may have been moved away.
        """
        for writer in self.writers.values():
            writer.reopen()

    def finish(self) -> None:
        """
        Write what waits, for a second at most.
        """
        if self.flood is not None:
            self.flood.tell()
        deadline = time.monotonic() + _PATIENCE
        for writer in self.writers.values():
            writer.finish(deadline)


def checkLogs(configuration: Configuration, runner: Any) -> None:
    """
    See whether the files of logs could be opened, without making any.

    @param runner: The options of C{twistd} or C{twist}, if there are any.
    @raise ValueError: One could not be.
    """
    settings = configuration.settings.log
    if runner is not None and runner.get("logger"):
        _refuseTwo(configuration)
    files = [
        (configuration.said(key), target.path)
        for key, target in (
            ("log.to", settings.to),
            ("log.access-to", settings.accessTo),
        )
        if target.kind == "file"
    ]
    name = None if runner is None else runner.get("logfile")
    if name and name != "-" and settings.to.kind == "runner":
        files.append((Said(name, "--logfile"), name))
    for said, path in files:
        try:
            checkFile(path)
        except OSError as error:
            raise said.fail(error.strerror, path) from None


def _refuseTwo(configuration: Configuration) -> None:
    """
    See that nothing is said of a log that C{twistd --logger} writes.

    @raise ValueError: Something is.
    """
    target = configuration.settings.log.to
    if target.kind != "runner":
        said = configuration.said("log.to")
        raise said.fail("--logger writes the log already", str(target))


class LoggedService(MultiService):
    """
    The service that a runner is given, which has its log written by us.

    @ivar server: What serves, or has others serve.
    """

    def __init__(self, logs: Logs, server: Any) -> None:
        MultiService.__init__(self)
        self.server = server
        self._logs = logs
        logs.setServiceParent(self)
        server.setServiceParent(self)

    def setServiceParent(self, parent: Any) -> None:
        """
        Become a part of an application, whose log is ours from now on.
        """
        if isinstance(parent, Componentized):
            self._logs.install(parent)
        MultiService.setServiceParent(self, parent)


class _LineFile:
    """
    What an observer that writes to a file is given instead.
    """

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def write(self, text: str) -> int:
        self._writer.put(Line(text.rstrip("\n")))
        return len(text)

    def flush(self) -> None:
        """
        The thread does.
        """


def _dropped(count: int) -> LogEvent:
    return {
        "log_format": "{dropped} lines of this log were dropped: it could not be written",
        "log_level": LogLevel.warn,
        "log_namespace": "twisted_socks5",
        "log_time": time.time(),
        "dropped": count,
    }


def _required(line: Line | None) -> Line:
    assert line is not None
    return line
