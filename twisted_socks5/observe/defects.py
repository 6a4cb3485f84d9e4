# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Reporting defects of plugins: one event each, of one line, with the plugin's
name and never with a secret.
"""

from __future__ import annotations

from traceback import extract_tb

from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_socks5.observe.escape import escape

_log = Logger(namespace="twisted_socks5")


def logDefect(
    plugin: object, method: str, failure: Failure, withText: bool = True
) -> None:
    """
    Log that a plugin did what it must not do, at level C{error}.

    @param plugin: Whose defect it is.
    @param method: The name of the method that failed.
    @param failure: What it raised.
    @param withText: Whether the exception's text may be logged; not where
        secrets are near.
    """
    _log.error(
        "{plugin} failed in {method}: {problem}",
        plugin=getattr(plugin, "name", None) or type(plugin).__name__,
        method=method,
        problem=_describe(failure, withText),
    )


def _describe(failure: Failure, withText: bool) -> str:
    problem = failure.type.__name__ if failure.type is not None else "?"
    if withText and (text := str(failure.value)):
        problem += f" ({escape(text)})"
    frames = extract_tb(failure.getTracebackObject())
    if frames:
        last = frames[-1]
        file = last.filename.rpartition("/")[2]
        problem += f" at {file}:{last.lineno} in {last.name}"
    return problem
