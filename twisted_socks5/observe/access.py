# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The access log: one event for each session, when it has ended or was refused.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from twisted.logger import Logger, LogLevel, globalLogPublisher
from zope.interface import implementer

from twisted_socks5.errors import SUCCEEDED
from twisted_socks5.interfaces import IAccessLog, IDatagramTraffic, ISession
from twisted_socks5.observe.escape import escape, pairs
from twisted_socks5.observe.events import Stamp
from twisted_socks5.observe.flood import Flood
from twisted_socks5.observe.writer import IDestination, Line, LogWriter
from twisted_socks5.wire import Command

_log = Logger(namespace="twisted_socks5.access")

_COMMANDS = {int(command): command.name for command in Command}


def describeSession(session: ISession) -> dict[str, Any]:
    """
    The fields of a session's event.  What came from a peer is escaped, and
    what is not known is left out.
    """
    fields: dict[str, Any] = {
        "session": session.number,
        "client": str(session.client),
        "listener": str(session.listener),
    }
    if session.identity is not None and not session.identity.isAnonymous:
        fields["user"] = escape(session.identity.name)
    if session.command is not None:
        name = _COMMANDS.get(session.command)
        fields["command"] = name or f"{session.command:02x}"
    if session.target is not None:
        fields["target"] = str(session.target)
    elif session.rawTarget:
        fields["target"] = escape(session.rawTarget)
    if session.dialled is not None:
        fields["dialled"] = str(session.dialled)
    if session.reply is not None:
        fields["reply"] = f"{session.reply:02x}"
    fields["up"] = session.bytesUp
    fields["down"] = session.bytesDown
    if IDatagramTraffic.providedBy(session.traffic):
        fields |= _describeDatagrams(session.traffic)
    fields["seconds"] = round(session.seconds, 3)
    decision = session.decision
    if decision is not None:
        if decision.rule is not None:
            fields["rule"] = decision.rule
        if decision.tags:
            fields["tags"] = escape(",".join(decision.tags))
        if decision.allowed and decision.reason:  # else it is why the session ended
            fields["decision"] = escape(decision.reason)
    fields["reason"] = escape(session.reason)
    return fields


def _describeDatagrams(traffic: IDatagramTraffic) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "datagramsUp": traffic.datagramsUp,
        "datagramsDown": traffic.datagramsDown,
    }
    if traffic.drops:
        fields["dropped"] = ",".join(
            f"{reason}:{count}" for reason, count in sorted(traffic.drops.items())
        )
    if traffic.denial:
        fields["denial"] = escape(traffic.denial)
    return fields


@implementer(IAccessLog)
class TextAccessLog:
    """
    Writes C{key=value} pairs, a text with blanks in double quotes.

    @ivar writer: What writes them, and must be started; L{None} if sessions are
        events of L{twisted.logger}.
    """

    _text = staticmethod(pairs)

    def __init__(
        self, destination: IDestination | None = None, flood: Flood | None = None
    ) -> None:
        """
        @param destination: Where to write; by default sessions are events of
            L{twisted.logger}.
        @param flood: Says which refusals are too many to be written.
        """
        self._destination = destination
        self._flood = flood
        self._stamp = Stamp()
        self.writer: LogWriter | None = None
        self._write = self._publish
        if destination is not None:
            self.writer = LogWriter(
                destination, lambda count: self._line({"dropped": count})
            )
            self._write = self._put
        if flood is not None:
            flood.tellTo(self._write)

    def sessionStarted(self, session: ISession) -> None:
        """
        It is written down when it has ended.
        """

    def sessionEnded(self, session: ISession) -> None:
        """
        Write a session down.
        """
        if (
            self._flood is None
            or session.reply == SUCCEEDED
            or self._flood.admits(session)
        ):
            self._write(describeSession(session))

    def _publish(self, fields: Mapping[str, object]) -> None:
        # What the logger would do, but for its look at the level.
        event: dict[str, Any] = dict(fields)
        event["line"] = self._text(fields)
        event["log_format"] = "{line}"
        event["log_level"] = LogLevel.info
        event["log_logger"] = _log
        event["log_namespace"] = _log.namespace
        event["log_source"] = None
        event["log_time"] = time.time()
        globalLogPublisher(event)

    def _put(self, fields: Mapping[str, object]) -> None:
        assert self.writer is not None
        self.writer.put(self._line(fields))

    def _line(self, fields: Mapping[str, object]) -> Line:
        assert self._destination is not None
        if self._destination.isTimed:
            return Line(self._text(fields), fields=fields)
        return Line(self._text({"time": self._stamp(None), **fields}))


def _compact(fields: Mapping[str, object]) -> str:
    return json.dumps(fields, separators=(",", ":"))


@implementer(IAccessLog)
class JSONAccessLog(TextAccessLog):
    """
    Writes a JSON object.
    """

    _text = staticmethod(_compact)
