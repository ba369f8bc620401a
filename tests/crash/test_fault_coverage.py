"""`docs/reliability.md` claims no fault that no test works through."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
SCRIPT = REPO / "scripts" / "fault-coverage"


def coverage(root: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(SCRIPT), str(root)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def repository(root: Path, rows: str, *marks: str) -> Path:
    (root / "docs").mkdir()
    (root / "tests").mkdir()
    (root / "docs" / "reliability.md").write_text(f"| id | status | tests |\n|---|---|---|\n{rows}\n")
    text = "".join(f'@pytest.mark.fault("{mark}")\n' for mark in marks)
    (root / "tests" / "test_some.py").write_text(text)
    return root


def test_the_document_of_this_repository_holds() -> None:
    done = coverage(REPO)
    assert (done.returncode, done.stderr) == (0, "")


def test_counts_are_printed_and_modesty_is_noted(tmp_path: Path) -> None:
    test = "`tests/test_some.py`"
    rows = f"| Q1 | covered | {test} |\n| Q2 | not yet | |\n| Q3 | partly | {test} |"
    done = coverage(repository(tmp_path, rows, "Q1", "Q2", "Q3"))
    assert done.returncode == 0, done.stderr
    assert "3 faults: 1 covered, 1 partly, 1 not yet" in done.stdout
    assert "note: Q2" in done.stdout


@pytest.mark.parametrize(
    ("rows", "marks", "said"),
    [
        ("| Q1 | covered | `tests/test_some.py` |", ["Q2"], "Q1 names tests/test_some.py, which does not"),
        ("| Q1 | partly | |", [], "no test is named"),
        ("| Q1 | done | `tests/test_some.py` |", ["Q1"], "status 'done'"),
        ("| Q1 | not yet | |", ["Q1", "Q2"], "Q2 is not listed"),
        ("| Q1 | not yet | |\n| Q1 | not yet | |", [], "listed 2 times"),
        ("", [], "no table"),
    ],
)
def test_what_does_not_hold_is_named(tmp_path: Path, rows: str, marks: list[str], said: str) -> None:
    done = coverage(repository(tmp_path, rows, *marks))
    assert done.returncode == 1
    assert said in done.stderr
