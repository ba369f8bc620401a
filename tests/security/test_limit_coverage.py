"""`docs/limits.md` says what the code says, and names tests that are there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
SCRIPT = REPO / "scripts" / "limit-coverage"
TRIED = "`tests/test_some.py::test_it`"


def coverage(root: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(SCRIPT), str(root)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def repository(root: Path, row: str) -> Path:
    for folder in ("docs", "tests", "rch"):
        (root / folder).mkdir()
    (root / "docs" / "limits.md").write_text(f"| limit | value | unit |\n|---|---|---|\n{row}\n")
    (root / "tests" / "test_some.py").write_text("def test_it() -> None: ...\n")
    (root / "rch" / "one.py").write_text(
        "from rch.two import FAR\nNEAR = 1 << 20\nTWICE = 2 * FAR\nALL = 2**53 - 1\n"
    )
    (root / "rch" / "two.py").write_text(
        "FAR = 7\nShort = Annotated[str, Meta(max_length=NEAR)]\nNEAR = 5\n"
        "class Table:\n    key: Annotated[int, Meta(ge=0, le=9)] = 1\n    names: tuple[Short, ...] = ()\n"
    )
    return root


def test_the_document_of_this_repository_holds() -> None:
    done = coverage(REPO)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "row",
    [
        f"| a | 1 | MiB | `rch/one.py:NEAR` | refused | {TRIED} | {TRIED} |",
        "| a | 1,048,576 | - | `rch/one.py:NEAR` | refused |",
        "| a | 2^20 | - | `rch/one.py:NEAR` | refused |",
        "| a | 14 | - | `rch/one.py:TWICE` | refused |",
        "| a | 9,007,199,254,740,991 | - | `rch/one.py:ALL` | refused |",
        "| a | 9 | - | `rch/two.py:Table.key` | refused |",
        "| a | 5 | - | `rch/two.py:Table.names` | refused |",
    ],
)
def test_what_holds_is_counted(tmp_path: Path, row: str) -> None:
    done = coverage(repository(tmp_path, row))
    assert done.returncode == 0, done.stderr
    assert "1 limits and times" in done.stdout


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("| a | 2 | MiB | `rch/one.py:NEAR` | refused |", "is 1.04858e+06, not 2 MiB"),
        ("| a | 1 | MiB | `rch/one.py:GONE` | refused |", "sets nothing"),
        ("| a | 1 | MiB | `rch/gone.py:NEAR` | refused |", "sets nothing"),
        ("| a | 10 | - | `rch/two.py:Table.key` | refused |", "is 9, not 10"),
        (f"| a | 1 | MiB | `rch/one.py:NEAR` | refused | {TRIED} | - |", "no test beyond the limit"),
        (
            f"| a | 1 | MiB | `rch/one.py:NEAR` | refused | {TRIED} | `tests/test_some.py::test_other` |",
            "tests/test_some.py::test_other is not there",
        ),
        ("", "there is no table"),
    ],
)
def test_what_does_not_hold_is_named(tmp_path: Path, row: str, said: str) -> None:
    done = coverage(repository(tmp_path, row))
    assert done.returncode == 1
    assert said in done.stderr


@pytest.mark.parametrize("made", ["MAX_AGE = 7", "MOST = 3 << 2", "MOST_OF_ALL: int = 5"])
def test_a_limit_that_no_row_names_is_told(tmp_path: Path, made: str) -> None:
    root = repository(tmp_path, f"| a | 1 | MiB | `rch/one.py:NEAR` | refused | {TRIED} | {TRIED} |")
    (root / "rch" / "new.py").write_text(f"{made}\nMAX_WORDS = ('a', 'b')\n")
    done = coverage(root)
    assert done.returncode == 1
    named = made.partition(" ")[0].rstrip(":")
    assert done.stderr.splitlines() == [f"docs/limits.md: no row speaks of `rch/new.py:{named}`"]
