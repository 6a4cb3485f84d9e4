# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Counts in Prometheus' text format.  It needs prometheus-client: the extra
C{metrics}.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from twisted_socks5 import __version__
from twisted_socks5.observe.counts import SECONDS, Snapshot

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""
What the text is: as no name is beyond ASCII, the format that all know.
"""


class Metrics(Collector):
    """
    Renders one snapshot after the other.
    """

    def __init__(self) -> None:
        self._snapshot: Snapshot = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self, snapshot: Snapshot) -> bytes:
        """
        The text for a snapshot, or for the sum of several.
        """
        self._snapshot = snapshot
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """
        Nothing: there is nothing to collect yet.
        """
        return []

    def collect(self) -> Iterator[Metric]:
        """
        All metrics of the snapshot.
        """
        take = self._snapshot.get
        yield InfoMetricFamily("socks5_build", "What runs.", {"version": __version__})
        yield GaugeMetricFamily(
            "socks5_workers", "Processes that serve clients.", take("workers", 0)
        )
        yield _gauges(
            "socks5_sessions",
            "Sessions that live, by how far they have come.",
            ("state",),
            take("sessions", {}),
        )
        yield _counters(
            "socks5_sessions_ended",
            "Sessions that are over, by command and reply (REP).",
            ("command", "reply"),
            take("ended", {}),
        )
        yield _counters(
            "socks5_authentications",
            "Clients that have tried to get in, by METHOD octet and outcome.",
            ("method", "outcome"),
            take("authentications", {}),
        )
        yield _counters(
            "socks5_bytes",
            "Payload bytes: up from clients, down to them.",
            ("direction",),
            take("bytes", {}),
        )
        yield _counters(
            "socks5_datagrams",
            "Datagrams that were passed on.",
            ("direction",),
            take("datagrams", {}),
        )
        yield _counters(
            "socks5_datagrams_dropped",
            "Datagrams that were not passed on, by reason.",
            ("reason",),
            take("dropped", {}),
        )
        yield _histograms(
            "socks5_connect_seconds",
            "How long it took to connect to a destination, its look-up included.",
            take("connecting", {}),
        )
        yield _histograms(
            "socks5_resolve_seconds",
            "How long it took to look a name up.",
            take("resolving", {}),
        )
        yield _counters(
            "socks5_limits_hit",
            "Clients that were refused because of a limit.",
            ("limit",),
            take("limitsHit", {}),
        )
        yield CounterMetricFamily(
            "socks5_clients_turned_away",
            "Clients that there were no descriptors for.",
            take("turnedAway", 0),
        )
        yield CounterMetricFamily(
            "socks5_workers_killed",
            "Workers that did nothing any more.",
            take("workersKilled", 0),
        )
        yield CounterMetricFamily(
            "socks5_log_lines_dropped",
            "Lines that did not get into a log.",
            take("linesDropped", 0),
        )
        lag = HistogramMetricFamily(
            "socks5_reactor_lag_seconds", "By how much the reactor was late."
        )
        if "lag" in self._snapshot:
            _addHistogram(lag, (), self._snapshot["lag"])
        yield lag
        if take("users"):
            yield _counters(
                "socks5_user_bytes",
                "Payload bytes of each user.",
                ("user", "direction"),
                take("users", {}),
            )


def _gauges(name: str, text: str, labels: tuple[str, ...], numbers: Any) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, number in _flat(numbers, len(labels)):
        family.add_metric(values, number)
    return family


def _counters(name: str, text: str, labels: tuple[str, ...], numbers: Any) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, number in _flat(numbers, len(labels)):
        family.add_metric(values, number)
    return family


def _histograms(name: str, text: str, histograms: Any) -> Metric:
    family = HistogramMetricFamily(name, text, labels=("outcome",))
    for outcome, histogram in histograms.items():
        _addHistogram(family, (outcome,), histogram)
    return family


def _addHistogram(
    family: HistogramMetricFamily, labels: tuple[str, ...], histogram: Any
) -> None:
    bounds = [*(str(bound) for bound in SECONDS), "+Inf"]
    upTo = accumulate(histogram["counts"])
    family.add_metric(
        labels, list(zip(bounds, upTo, strict=True)), sum_value=histogram["sum"]
    )


def _flat(numbers: Any, depth: int) -> Iterator[tuple[tuple[str, ...], float]]:
    """
    The numbers in a dictionary of dictionaries, with the keys to get there.
    """
    for key, value in numbers.items():
        if depth == 1:
            yield (key,), value
        else:
            for keys, number in _flat(value, depth - 1):
                yield (key, *keys), number
