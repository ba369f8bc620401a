"""The limits of what a worker reads of tools and tests: at each it is read, one beyond it is a problem."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.xcresults import case, data, failure, make_bundle, make_database, node, report_of

from worker_agent.results import xcresult_db, xcresult_tests, xunit
from worker_agent.results.buildlog import LogReader
from worker_agent.results.lines import MAX_LINE
from worker_agent.results.tool import run_tool
from worker_agent.results.xcresult_db import read_database
from worker_agent.results.xcresult_tests import parse_tests
from worker_agent.results.xunit import parse_xunit, read_xunit

FEW = 5


def xunit_cases(count: int, _: Path) -> str | None:
    return parse_xunit("x", b"<testsuite>" + b"<testcase/>" * count + b"</testsuite>").problem


def xunit_depth(depth: int, _: Path) -> str | None:
    return parse_xunit("x", b"<testsuite>" * depth + b"</testsuite>" * depth).problem


def xunit_bytes(size: int, folder: Path) -> str | None:
    whole = b"<testsuite></testsuite>"
    (folder / "x.xml").write_bytes(whole + b" " * (size - len(whole)))
    return read_xunit(folder / "x.xml").problem


def xcresult_cases(count: int, _: Path) -> str | None:
    return parse_tests(data(report_of(*(case(f"t{number}()") for number in range(count))))).problem


def xcresult_depth(depth: int, _: Path) -> str | None:
    """Suites in suites, the innermost of them at `depth`."""
    inner = node("Test Suite", "s", "Passed")
    for _level in range(depth - 1):
        inner = node("Test Suite", "s", "Passed", inner)
    return parse_tests(data({"testNodes": [inner], "devices": [], "testPlanConfigurations": []})).problem


def texts_depth(depth: int, _: Path) -> str | None:
    """A failed test whose message stands in arguments in arguments."""
    inner = failure("no")
    for _level in range(depth - 1):
        inner = node("Arguments", "a", "Failed", inner)
    return parse_tests(data(report_of(case("t()", "failed", inner)))).problem


def database_rows(count: int, folder: Path) -> str | None:
    bundle = make_bundle(folder / f"{count}.xcresult")
    make_database(bundle, {f"S/t{number}()": "Success" for number in range(count)})
    read = read_database(bundle)
    return read.problem if read else "is not there"


def output(size: int, _: Path) -> str | None:
    script = f"import sys; sys.stdout.write('x' * {size})"
    return run_tool([sys.executable, "-c", script], {}, max_bytes=1000).problem


Row = tuple[Callable[[int, Path], str | None], int, str]
ROWS: dict[str, Row] = {
    "xunit cases": (xunit_cases, FEW, "holds more than 5 test cases"),
    "xunit depth": (xunit_depth, xunit.MAX_DEPTH, "nests deeper than 32"),
    "xunit bytes": (xunit_bytes, 100, "is over 100 bytes"),
    "xcresult cases": (xcresult_cases, FEW, "holds more than 5 test cases"),
    "xcresult depth": (xcresult_depth, xcresult_tests.MAX_DEPTH, "nests deeper than 48"),
    "xcresult depth of what is said": (texts_depth, xcresult_tests.MAX_DEPTH, "nests deeper than 48"),
    "database rows": (database_rows, FEW, "holds more than 5 results"),
    "a tool's output": (output, 1000, "wrote more than 1000 bytes"),
}


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xunit, "MAX_CASES", FEW)
    monkeypatch.setattr(xunit, "MAX_BYTES", 100)
    monkeypatch.setattr(xcresult_tests, "MAX_CASES", FEW)
    monkeypatch.setattr(xcresult_db, "MAX_ROWS", FEW)


@pytest.mark.spec("9")
@pytest.mark.parametrize("name", ROWS)
def test_results_are_read_at_a_limit_and_are_a_problem_one_beyond(name: str, tmp_path: Path) -> None:
    feed, limit, said = ROWS[name]
    assert feed(limit, tmp_path) is None
    problem = feed(limit + 1, tmp_path)
    assert problem is not None
    assert said in problem


@pytest.mark.spec("9")
def test_a_database_file_is_read_at_its_limit_and_not_one_byte_beyond(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(tmp_path / "r.xcresult")
    size = make_database(bundle, {"S/t()": "Success"}).stat().st_size
    for most, problem in ((size, None), (size - 1, f"is over {size - 1} bytes")):
        monkeypatch.setattr(xcresult_db, "MAX_BYTES", most)
        read = read_database(bundle)
        assert read is not None
        assert read.problem == problem


@pytest.mark.spec("9")
def test_a_line_is_looked_at_up_to_its_limit() -> None:
    """The last word of a line that says what matters stands at the limit, and then one letter behind it."""
    for length, seen in ((MAX_LINE, True), (MAX_LINE + 1, False)):
        reader = LogReader(Path("/t"))
        said = "Exited with signal code 6"
        reader.begin("test")
        reader.feed((" " * (length - len(said)) + said + "\n").encode())
        assert bool(reader.facts().crashes) is seen
