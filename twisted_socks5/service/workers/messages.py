# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What the supervisor and its workers tell each other (AMP).
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

from twisted.protocols.amp import Command, Descriptor, Integer, String, Unicode

PART = 60000
"""
How many bytes of a text go into one message: AMP's values have 65535 at most.
"""


class Ready(Command):
    """
    To the supervisor: the worker serves clients.
    """

    arguments: ClassVar[Any] = []
    response: ClassVar[Any] = []


class Events(Command):
    """
    To the supervisor: what the worker has to log.

    C{lines} are events in JSON, one a line; C{dropped} is how many there was no room
    for since the last time.
    """

    arguments: ClassVar[Any] = [(b"lines", String()), (b"dropped", Integer())]
    response: ClassVar[Any] = []


class Drain(Command):
    """
    To a worker: accept nobody any more, let the sessions finish for the grace time,
    and end.  The answer comes when nobody is accepted any more.
    """

    arguments: ClassVar[Any] = []
    response: ClassVar[Any] = []


class Hurry(Command):
    """
    To a worker: end now.
    """

    arguments: ClassVar[Any] = []
    response: ClassVar[Any] = []


class Offer(Command):
    """
    To a worker: C{descriptor} is a socket that clients connect to, which was bound for
    what C{key} says.  It is taken or dropped by the next L{Reload}.
    """

    arguments: ClassVar[Any] = [(b"key", Unicode()), (b"descriptor", Descriptor())]
    response: ClassVar[Any] = []


class Reload(Command):
    """
    To a worker: read again what is read again at SIGHUP.  The answer comes when that is
    in force, or was refused.
    """

    arguments: ClassVar[Any] = []
    response: ClassVar[Any] = []


class Gather(Command):
    """
    To a worker: tell one part of what there is to know of a subject, as JSON.  The
    first one (0) has it put together, for the others too.
    """

    arguments: ClassVar[Any] = [(b"subject", Unicode()), (b"part", Integer())]
    response: ClassVar[Any] = [(b"text", String()), (b"parts", Integer())]


class Admit(Command):
    """
    To the supervisor: somebody claims what there is a limit of.  C{refused} is the
    place of the first claim that is too many; -1 is none of them.
    """

    arguments: ClassVar[Any] = [(b"claims", String())]
    response: ClassVar[Any] = [(b"refused", Integer())]


class Release(Command):
    """
    To the supervisor: what was claimed is over.
    """

    arguments: ClassVar[Any] = [(b"claims", String())]
    response: ClassVar[Any] = []


class Buy(Command):
    """
    To the supervisor: bytes of a bandwidth are needed.
    """

    arguments: ClassVar[Any] = [(b"claim", String()), (b"amount", Integer())]
    response: ClassVar[Any] = [(b"amount", Integer())]


class Spend(Command):
    """
    To the supervisor: bytes of quotas were used.  C{over} are those of which nothing
    is left.
    """

    arguments: ClassVar[Any] = [(b"amounts", String())]
    response: ClassVar[Any] = [(b"over", String())]


class Failed(Command):
    """
    To the supervisor: logins have failed; and to a worker: they have, in others.
    """

    arguments: ClassVar[Any] = [(b"failures", String())]
    response: ClassVar[Any] = []


class Compare(Command):
    """
    To the supervisor: how many sessions the worker has.  C{mean} is how many the
    workers have that serve, in the mean.
    """

    arguments: ClassVar[Any] = [(b"sessions", Integer())]
    response: ClassVar[Any] = [(b"mean", Integer())]


class Done(Command):
    """
    To the supervisor: the worker has nothing more to tell.
    """

    arguments: ClassVar[Any] = []
    response: ClassVar[Any] = []


class Told:
    """
    Something that is told in parts.
    """

    def __init__(self, value: object) -> None:
        text = json.dumps(value, separators=(",", ":")).encode()
        self._parts = [text[at : at + PART] for at in range(0, len(text), PART)]

    def part(self, number: int) -> dict[str, Any]:
        """
        The answer to L{Gather}; past the end there is nothing.
        """
        text = b"".join(self._parts[number : number + 1])
        return {"text": text, "parts": len(self._parts)}
