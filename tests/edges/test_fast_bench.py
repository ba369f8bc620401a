"""The benchmarks of the fast path run from beginning to end: whatever they use is still there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import sshd

BENCH = Path(__file__).parents[2] / "benchmarks" / "bench.py"

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(not sshd.available, reason="OpenSSH's sshd is not installed"),
    pytest.mark.skipif(shutil.which("rsync") is None, reason="no rsync"),
    pytest.mark.skipif(shutil.which("zstd") is None, reason="no zstd"),
]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder whose name is short: sockets will stand in it."""
    with tempfile.TemporaryDirectory(prefix="rch-") as name:
        yield Path(name)


def quick(place: Path, *names: str) -> dict[str, dict[str, Any]]:
    """The figures by their names; all that they make is below `place`."""
    done = subprocess.run(
        [sys.executable, str(BENCH), *names, "--quick", "--json"],
        env={"PATH": os.environ["PATH"], "TMPDIR": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["missing"] == {}
    return {figure["name"].partition(",")[0]: figure for figure in told["figures"]}


OF_A_SOURCE = ("bundle", "change"), ("unchanged", "upload")
OF_THE_LINE = {
    ("status", "memory"): {"status", "memory of rchd", "memory of the largest worker process"},
    ("ssh", "tail", "sync"): {"ssh", "tail", "sync"},
    ("client",): {"client"},
}
LONG = pytest.mark.faults_long  # the first of each pair loads all modules and uses most of what they share


@pytest.mark.timeout(300)
@pytest.mark.parametrize("names", [OF_A_SOURCE[0], pytest.param(OF_A_SOURCE[1], marks=LONG)], ids=" ".join)
def test_the_benchmarks_of_a_source_on_its_way_run(place: Path, names: tuple[str, ...]) -> None:
    found = quick(place, *names)
    assert set(found) == set(names)
    assert all(figure["ours"] > 0 and figure["theirs"] > 0 for figure in found.values())
    assert list(place.iterdir()) == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "names",
    [
        ("status", "memory"),
        pytest.param(("ssh", "tail", "sync"), marks=LONG),
        pytest.param(("client",), marks=LONG),
    ],
    ids=" ".join,
)
def test_the_benchmarks_of_the_line_run(place: Path, names: tuple[str, ...]) -> None:
    found = quick(place, *names)
    assert set(found) == OF_THE_LINE[names]
    assert all(figure["ours"] > 0 for figure in found.values())
    assert list(place.iterdir()) == []
