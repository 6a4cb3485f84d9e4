# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Figures as text: a simple table of reStructuredText.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.results import Results
from benchmarks.works import WORKS, Figures, Work

NOTHING = "-"


def number(value: float) -> str:
    """
    A figure, in three digits or a whole number.
    """
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _cell(work: Work, figures: Figures | None) -> str:
    if figures is None:
        return NOTHING
    cost, rate = number(figures.cost), number(figures.rate)
    return f"{rate} ({cost})" if work.leadsWithRate else f"{cost} ({rate})"


def _units(work: Work) -> str:
    if work.leadsWithRate:
        return f"{work.rate} ({work.cost})"
    return f"{work.cost} ({work.rate})"


def table(results: Results) -> str:
    """
    A row for each server, a column for each work: what it costs the server, and in
    brackets how fast it went; C{ping} the other way round.
    """
    works = [work for work in WORKS.values() if work.name in results.works]
    # A row whose first column is empty would continue the one above it.
    rows = [
        ["\\", *(work.name for work in works)],
        ["server", *(_units(work) for work in works)],
    ]
    for server in results.servers:
        cells = (_cell(work, results.median(server, work.name)) for work in works)
        rows.append([server, *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([rule, *lines[:2], rule, *lines[2:], rule])


def notes(results: Results) -> Iterator[str]:
    """
    What there is to say beside the table, a line each.
    """
    yield results.command
    yield results.machine
    yield "; ".join(f"{name} {version}" for name, version in results.servers.items())
    for name, reason in results.skipped.items():
        yield f"{name}: skipped, {reason}"
    for server, works in results.errors.items():
        for work, errors in works.items():
            rounds = len(errors) + len(results.runs.get(server, {}).get(work, ()))
            yield f"{server}: {work} failed {len(errors)} of {rounds} times: {errors[0]}"
    for server in results.servers:
        for work in WORKS:
            figures = results.median(server, work)
            if figures is not None and figures.failed:
                yield f"{server}: {work}: {figures.failed:,} in all got no answer"
