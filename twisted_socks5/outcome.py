# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What a plugin's method comes to.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

_Result = TypeVar("_Result")


async def outcomeOf(returned: Awaitable[_Result]) -> _Result:
    """
    The result of a method that may return a coroutine or a
    L{Deferred<twisted.internet.defer.Deferred>} that brings it, or, whatever the
    interface's annotation says, just the result.
    """
    if isinstance(returned, Awaitable):
        return await returned
    plain: _Result = returned
    return plain
