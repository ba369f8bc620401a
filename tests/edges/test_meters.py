"""The metrics: their names, their form, their table in the documentation, and what they cost a start."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from support.lab import REPO

from rchd.edges.exposition import samples_of, text_of
from rchd.edges.meters import BY_NAME, METRICS, Meters

DOC = REPO / "docs" / "operations.md"


def test_names_are_in_the_manner_of_the_field() -> None:
    assert len(BY_NAME) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"rch_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") is (metric.kind == "counter")
        assert metric.help.endswith(".")
        assert bool(metric.buckets) is (metric.kind == "histogram")
        assert list(metric.buckets) == sorted(set(metric.buckets))
        if metric.kind == "histogram":
            assert metric.name.endswith("_seconds")


def test_the_documentation_lists_exactly_these() -> None:
    rows = re.findall(r"^\| `(rch_\w+)` \| (\w+) \| ([^|]*) \| (.+) \|$", DOC.read_text(), re.MULTILINE)
    told = [(name, kind, labels.strip(), text) for name, kind, labels, text in rows]
    assert told == [
        (each.name, each.kind, ", ".join(f"`{label}`" for label in each.labels), each.help)
        for each in METRICS
    ]


def test_a_histogram_is_told_as_the_librarys_own_would_be() -> None:
    metric = BY_NAME["rch_stage_duration_seconds"]
    meters, registry = Meters(), CollectorRegistry()
    theirs = Histogram(
        metric.name, metric.help, metric.labels, buckets=metric.buckets, registry=registry
    ).labels("job")
    for value in (0.0, 0.05, 0.051, 7.5, 1e9):
        meters.observe(metric.name, value, "job")
        theirs.observe(value)
    wanted = [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]
    ours = [line for line in text_of(meters).splitlines() if metric.name in line]
    assert ours == wanted


def test_every_family_is_told_before_anything_has_happened() -> None:
    text = text_of(Meters())
    for metric in METRICS:
        assert f"# TYPE {metric.name} {metric.kind}\n" in text
        assert f"# HELP {metric.name} " in text
    assert "\nrch_gc_runs_total 0.0\n" in text
    assert "\nprocess_" in text


def test_a_label_may_hold_anything() -> None:
    meters = Meters()
    meters.add("rch_rpc_total", 'a"b\\c\nd', "ok", by=2)
    (found,) = [each for each in samples_of(text_of(meters)) if each["name"] == "rch_rpc_total"]
    assert found == {
        "name": "rch_rpc_total",
        "labels": {"method": 'a"b\\c\nd', "outcome": "ok"},
        "value": 2.0,
    }


@pytest.mark.spec("12")
def test_a_start_does_not_load_the_library() -> None:
    code = "import sys, rchd.app; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
