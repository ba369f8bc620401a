"""Threads that use the same records for the first time, all at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.playbook import Playbook, accepted

from rchd.edges.core_rows import encode_run

# Each thread is cut off as often as can be, so that they meet in the middle of a type.
_RACE = """
import sys, threading
from pathlib import Path
import msgspec
import rchd.app
from rchd.core.model import Run
from rchd.edges import known_types

assert known_types.build() > 100
doc = Path(sys.argv[1]).read_bytes()
sys.setswitchinterval(1e-6)
together = threading.Barrier(4)
def use():
    together.wait()
    msgspec.json.decode(doc, type=Run)
threads = [threading.Thread(target=use) for _ in range(4)]
for each in threads: each.start()
for each in threads: each.join()
"""


@pytest.mark.fault("H1")
@pytest.mark.parametrize("number", range(4))
def test_threads_that_use_a_record_for_the_first_time_at_once_do_no_harm(
    tmp_path: Path, number: int
) -> None:
    doc = tmp_path / f"run-{number}.json"
    doc.write_bytes(encode_run(Playbook().accept(accepted("run-00000001"))))
    argv = [sys.executable, "-c", _RACE, str(doc)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
