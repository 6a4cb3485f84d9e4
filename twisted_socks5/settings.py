# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Deadlines and limits: one definition, with their defaults, for the code, the
command line and the reference.
"""

from __future__ import annotations

from typing import Any

import attrs


def _nonNegative(instance: object, field: attrs.Attribute[Any], value: float) -> None:
    if not 0 <= value < float("inf"):
        raise ValueError(f"must be 0 or more, not {value}")


def _positive(instance: object, field: attrs.Attribute[Any], value: float) -> None:
    if not 0 < value < float("inf"):
        raise ValueError(f"must be more than 0, not {value}")


@attrs.frozen
class Timeouts:
    """
    Deadlines, in seconds.

    @ivar handshake: From accepting a client to its complete request, however
        the bytes come.
    @ivar policy: For each question to the policy.
    @ivar resolve: For looking a name up.
    @ivar connect: For connecting, all addresses of a name together.
    @ivar idle: For a tunnel in which nothing moves; 0 is never.
    @ivar halfClosed: For a tunnel in which one side has closed its direction,
        and the other is silent.
    @ivar writeStall: For a side that takes nothing of what waits for it.
    """

    handshake: float = attrs.field(default=30.0, validator=_positive)
    policy: float = attrs.field(default=10.0, validator=_positive)
    resolve: float = attrs.field(default=10.0, validator=_positive)
    connect: float = attrs.field(default=30.0, validator=_positive)
    idle: float = attrs.field(default=0.0, validator=_nonNegative)
    halfClosed: float = attrs.field(default=300.0, validator=_positive)
    writeStall: float = attrs.field(default=300.0, validator=_positive)


@attrs.frozen
class Limits:
    """
    How much of what there may be at once; 0 is without limit.

    @ivar sessions: Sessions in all.
    @ivar sessionsPerClient: Sessions of one client address.
    """

    sessions: int = attrs.field(default=0, validator=_nonNegative)
    sessionsPerClient: int = attrs.field(default=0, validator=_nonNegative)
