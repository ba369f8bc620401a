"""Every section of the contract has a test that bears it, and every test of the pure rooms a section."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
SCRIPT = REPO / "scripts" / "spec-coverage"
TWO = "| 1 | Scope |\n| 3.2 | Frames |"
MODULE = 'pytestmark = [pytest.mark.fault("H1"), pytest.mark.spec("1", "3.2")]\ndef test_one(): ...\n'


def coverage(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(SCRIPT), *words, str(root)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def repository(root: Path, rows: str, text: str) -> Path:
    (root / "docs").mkdir()
    (root / "tests" / "core").mkdir(parents=True)
    (root / "docs" / "testing.md").write_text(f"| section | title |\n|---|---|\n{rows}\n")
    (root / "tests" / "core" / "test_some.py").write_text(text)
    return root


@pytest.mark.spec("13")
def test_the_sections_of_this_repository_all_have_tests() -> None:
    done = coverage(REPO)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 16


@pytest.mark.parametrize(
    "text",
    [
        MODULE,
        '@pytest.mark.spec("1")\n@pytest.mark.spec("3.2")\nasync def test_one(): ...\n',
        '@pytest.mark.spec("1")\nclass TestX:\n    @pytest.mark.spec("3.2")\n    def test_one(s): ...\n',
        'pytestmark = pytest.mark.spec("1", "3.2")\nTestIt = pytest.mark.timeout(9)(World.TestCase)\n',
    ],
)
def test_a_section_is_borne_by_test_class_module_and_machine(tmp_path: Path, text: str) -> None:
    done = coverage(repository(tmp_path, TWO, text))
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["1", "1"], ["3.2", "1"]]
    assert len(coverage(tmp_path, "--list", "3.2").stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("rows", "text", "said"),
    [
        (f"{TWO}\n| 4 | Life |", MODULE, "section 4 (Life) has no test"),
        ("| 1 | Scope |", MODULE, "test_some.py::test_one: section 3.2 is not in the table"),
        (TWO, f"{MODULE.replace('pytestmark', 'marks')}", "test_some.py::test_one: bears no section"),
        ("", MODULE, "there is no table of sections"),
        (
            TWO,
            f"def helper(): pytest.mark.spec('1')\n{MODULE.replace('1', '2')}",
            "section 1 (Scope) has no",
        ),
    ],
)
def test_what_has_nothing_to_stand_on_is_named(tmp_path: Path, rows: str, text: str, said: str) -> None:
    done = coverage(repository(tmp_path, rows, text))
    assert done.returncode == 1
    assert said in done.stderr
