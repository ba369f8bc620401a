"""The benchmarks in short, with bounds that only a regression by several times breaks: ratios first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "benchmarks" / "bench.py"


def bench(*args: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, str(BENCH), *args, "--json"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    table: dict[str, float] = json.loads(done.stdout)
    return table


@pytest.mark.faults_long
@pytest.mark.fault("H15")
def test_a_crowd_that_watches_costs_little() -> None:
    table = bench("watchers", "--watchers", "50", "--submits", "3", "--rounds", "1")
    assert table["ratio: processor per run"] < 6
    assert table["50 watch: memory that came, MB"] < 100


@pytest.mark.faults_long
@pytest.mark.timeout(900)
@pytest.mark.fault("H15")
def test_two_hundred_clients_that_watch_slow_neither_submit_nor_dispatch_much() -> None:
    table = bench("watchers", "--rounds", "3", "--submits", "20")
    assert table["ratio: processor per run"] < 10
    assert table["ratio: submit p50"] < 10
    assert table["ratio: dispatch p50"] < 15
    assert table["200 watch: most memory, MB"] < 400


@pytest.mark.faults_long
@pytest.mark.timeout(900)
@pytest.mark.fault("H2")
@pytest.mark.fault("H15")
def test_a_daemon_with_ten_thousand_queued_runs_is_back_soon() -> None:
    table = bench("start", "--rounds", "3")
    assert table["10000 runs: health answers, s of processor"] < 5
    assert table["processor per run, µs"] < 400
    assert table["memory per run, kB"] < 80


@pytest.mark.faults_long
@pytest.mark.timeout(300)
@pytest.mark.fault("C1")
def test_five_hundred_idle_and_five_hundred_slow_connections_delay_a_good_one_little() -> None:
    table = bench("idle", "--rounds", "3")
    assert table["ratio: call p99"] < 10
