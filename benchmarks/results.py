# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What was measured, on which machine.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.failed import Failed
from benchmarks.works import Figures


@dataclass
class Results:
    """
    All runs of all works.

    @ivar command: What was asked for.
    @ivar machine: Where, in one line.
    @ivar servers: The versions of those that were measured, by name.
    @ivar skipped: Those that were not, with the reason, by name.
    @ivar runs: For each server and work, the figures of each round that went well.
    @ivar errors: And what went wrong in the others.
    """

    command: str
    machine: str
    servers: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    runs: dict[str, dict[str, list[Figures]]] = field(default_factory=dict)
    errors: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def add(self, server: str, work: str, outcome: Figures | str) -> None:
        """
        Take down how a run went.
        """
        if isinstance(outcome, Figures):
            self.runs.setdefault(server, {}).setdefault(work, []).append(outcome)
        else:
            self.errors.setdefault(server, {}).setdefault(work, []).append(outcome)

    def median(self, server: str, work: str) -> Figures | None:
        """
        The median of each figure, if any round went well.
        """
        runs = self.runs.get(server, {}).get(work)
        if not runs:
            return None
        return Figures(
            median(run.cost for run in runs),
            median(run.rate for run in runs),
            sum(run.failed for run in runs),
        )

    @property
    def works(self) -> set[str]:
        """
        The works that there are figures of.
        """
        return {work for runs in self.runs.values() for work in runs}

    def save(self, path: Path) -> None:
        """
        Write everything as JSON.
        """
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """
        Read what was saved.

        @raise Failed: It is something else.
        """
        try:
            saved: dict[str, Any] = json.loads(path.read_text())
            results = cls(**saved)
            results.runs = {
                server: {
                    work: [Figures(**run) for run in runs]
                    for work, runs in works.items()
                }
                for server, works in saved["runs"].items()
            }
        except OSError as error:
            raise Failed(f"{path}: {error.strerror}") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise Failed(f"{path}: no figures that --json has saved") from None
        return results


def describeMachine(python: str) -> str:
    """
    This machine, in one line.

    @param python: The version of the Python that runs servers.
    """
    try:
        text = Path("/proc/cpuinfo").read_text()
        models = [
            line.partition(":")[2].strip()
            for line in text.splitlines()
            if line.startswith("model name")
        ]
    except OSError:
        models = []
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} cores ({models[0] if models else platform.machine()}), "
        f"Linux {platform.release()}, {python}, "
        f"load average {os.getloadavg()[0]:.1f} before"
    )
