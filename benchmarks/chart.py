# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Figures as a picture: bars, in SVG.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from benchmarks.results import Results
from benchmarks.table import number
from benchmarks.works import WORKS, Work

_WIDTH = 760
_PANELS = 2
_MARGIN = 16
_GAP = 24
_ROW = 18
_NAME = 140
_VALUE = 50
_HEAD = 42

# Light or dark as the reader prefers; on a ground of its own, so that it can be read on
# any page.
_STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #222 }
  .ground { fill: #fff }
  .title { font-weight: 600 }
  .unit { fill: #666 }
  .bar { fill: #a3aab5 }
  .ours { fill: #2563c9 }
  .value { font-variant-numeric: tabular-nums }
  @media (prefers-color-scheme: dark) {
    text { fill: #e4e4e4 }
    .ground { fill: #17191c }
    .unit { fill: #a0a0a0 }
    .bar { fill: #69707c }
    .ours { fill: #6ea3f5 }
  }
"""


def _bars(results: Results, work: Work) -> list[tuple[str, float]]:
    bars = []
    for server in results.servers:
        figures = results.median(server, work.name)
        if figures is not None:
            value = figures.rate if work.leadsWithRate else figures.cost
            bars.append((server, value))
    return bars


def _panel(work: Work, bars: list[tuple[str, float]], width: int) -> Iterator[str]:
    unit = work.rate if work.leadsWithRate else work.cost
    better = "more" if work.leadsWithRate else "less"
    most = max(value for _, value in bars) or 1
    yield f'<text class="title" y="12">{work.name}: {escape(work.title)}</text>'
    yield f'<text class="unit" y="28">{escape(unit)}; {better} is better</text>'
    for row, (name, value) in enumerate(bars):
        y = _HEAD + row * _ROW
        length = max((width - _NAME - _VALUE) * value / most, 1)
        # The servers of this repository come first, and stand out.
        kind = "ours" if name in ("twisted_socks5", "with access log") else "bar"
        yield f'<text x="{_NAME - 8}" y="{y + 10}" text-anchor="end">{escape(name)}</text>'
        yield f'<rect class="{kind}" x="{_NAME}" y="{y}" width="{length:.1f}" height="12"/>'
        yield (
            f'<text class="value" x="{_NAME + length + 6:.1f}" y="{y + 10}">'
            f"{number(value)}</text>"
        )


def chart(results: Results) -> str:
    """
    A panel for each work, with a bar for each server that does it.
    """
    panels = [(work, bars) for work in WORKS.values() if (bars := _bars(results, work))]
    width = (_WIDTH - 2 * _MARGIN - (_PANELS - 1) * _GAP) // _PANELS
    body: list[str] = []
    top = _MARGIN
    for start in range(0, len(panels), _PANELS):
        line = panels[start : start + _PANELS]
        for column, (work, bars) in enumerate(line):
            left = _MARGIN + column * (width + _GAP)
            body.append(f'<g transform="translate({left} {top})">')
            body += _panel(work, bars, width)
            body.append("</g>")
        top += _HEAD + _ROW * max(len(bars) for _, bars in line) + _MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}"'
            f' width="{_WIDTH}" height="{top}" role="img"'
            ' aria-label="What each server takes for each load">',
            f"<style>{_STYLE}</style>",
            f'<rect class="ground" width="{_WIDTH}" height="{top}"/>',
            *body,
            "</svg>\n",
        ]
    )
