"""What the daemon counts of itself: plain numbers, cheap enough for every call.

`METRICS` is the one table of names (docs/operations.md holds the same, by a test). The library that
words them is loaded when somebody asks first (`exposition.py`): it would cost every start its import.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

_QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
_LONG = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)


class Metric(NamedTuple):
    """A metric: its `kind` is `counter`, `gauge` or `histogram`; units are base units."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


METRICS = (
    Metric("rch_build_info", "gauge", "Version of the daemon; always 1.", ("version",)),
    Metric("rch_start_time_seconds", "gauge", "When the daemon started, in seconds since the epoch."),
    Metric("rch_runs", "gauge", "Runs that are not over.", ("state",)),
    Metric(
        "rch_runs_total",
        "counter",
        "Runs that ended, by their end and the failure's kind (none: no failure).",
        ("state", "kind"),
    ),
    Metric("rch_run_duration_seconds", "histogram", "A run from acceptance to end.", ("state",), _LONG),
    Metric(
        "rch_run_queue_seconds", "histogram", "How long a run waited until a worker took it.", (), _LONG
    ),
    Metric(
        "rch_stage_duration_seconds", "histogram", "A stage of a run, all of its steps.", ("stage",), _LONG
    ),
    Metric("rch_jobs_cached_total", "counter", "Steps that the result of an earlier job answered."),
    Metric("rch_source_bytes_total", "counter", "Compressed bytes of the sources that ended runs named."),
    Metric(
        "rch_transfer_bytes_total",
        "counter",
        "Bytes to workers (upload) and from them (fetch), as the progress of the stage told.",
        ("direction",),
    ),
    Metric(
        "rch_worker_call_duration_seconds",
        "histogram",
        "A call to a worker, by what it asked; a tail, which waits for news, is not counted.",
        ("call",),
        _LONG,
    ),
    Metric(
        "rch_worker_call_failures_total",
        "counter",
        "Calls that a worker refused, or whose line was cut.",
        ("call", "kind"),
    ),
    Metric("rch_workers", "gauge", "Workers of the inventory of which a report is known."),
    Metric("rch_workers_aside", "gauge", "Workers that are set aside and given no new run."),
    Metric("rch_connections", "gauge", "Clients that are connected to the socket."),
    Metric(
        "rch_rpc_total",
        "counter",
        "Calls of the socket by method and outcome (ok, or the refusal's kind).",
        ("method", "outcome"),
    ),
    Metric("rch_rpc_duration_seconds", "histogram", "A call of the socket.", ("method",), _QUICK),
    Metric("rch_loop_lag_seconds", "histogram", "How late the event loop was for a timer.", (), _QUICK),
    Metric(
        "rch_commit_duration_seconds",
        "histogram",
        "A commit of the state, its fsync included; the count is the number of commits.",
        (),
        _QUICK,
    ),
    Metric("rch_commit_failures_total", "counter", "Commits that found no space, and were tried again."),
    Metric("rch_state_held", "gauge", "1 while the state cannot be written and nothing goes on."),
    Metric("rch_draining", "gauge", "1 while the daemon takes no runs."),
    Metric("rch_gc_runs_total", "counter", "Runs whose records and artifacts were removed."),
    Metric("rch_gc_bytes_total", "counter", "Bytes of artifacts that were removed."),
)
BY_NAME = {metric.name: metric for metric in METRICS}


class Histogram:
    """How often a value was in each bucket, and their sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count `value`; a bound belongs to the bucket below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Meters:
    """All numbers, by metric and label values. Used from the loop's thread alone."""

    def __init__(self) -> None:
        self.numbers: dict[str, dict[tuple[str, ...], float]] = {}
        self.histograms: dict[str, dict[tuple[str, ...], Histogram]] = {}
        for metric in METRICS:
            if metric.kind == "histogram":
                self.histograms[metric.name] = {} if metric.labels else {(): Histogram(metric.buckets)}
            else:
                # What has no label begins at 0: a counter that appears late hides its first step.
                self.numbers[metric.name] = {} if metric.labels else {(): 0.0}

    def add(self, name: str, *labels: str, by: float = 1.0) -> None:
        """Raise a counter."""
        values = self.numbers[name]
        values[labels] = values.get(labels, 0.0) + by

    def set(self, name: str, value: float, *labels: str) -> None:
        """Say what a gauge shows now."""
        self.numbers[name][labels] = value

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Count a value in a histogram."""
        kept = self.histograms[name]
        if (found := kept.get(labels)) is None:
            found = kept[labels] = Histogram(BY_NAME[name].buckets)
        found.observe(value)
