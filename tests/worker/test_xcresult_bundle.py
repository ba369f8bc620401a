from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from support.xcresults import Tool, build_of, case, data, make_bundle, make_database, report_of, summary_of

from worker_agent.results.places import Places
from worker_agent.results.tool import run_tool
from worker_agent.results.xcresult import BUILD, SUMMARY, TESTS, Bundle, read_bundle

PLACES = Places(Path("/job/tree"))
ENV = {"PATH": os.environ.get("PATH", "")}
TOLD = report_of(case("testA()"))
TOOL = Tool({TESTS: data(TOLD), SUMMARY: data(summary_of(TOLD)), BUILD: data(build_of())})


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_a_bundle_is_read_in_all_its_parts(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "r.xcresult")
    make_database(path, {"SumTests/testA()": "Success"})
    found = read_bundle(path, TOOL, PLACES, tested=True)
    assert (found.unread, len(found.cases)) == (None, 1)
    assert found.summary is not None
    assert found.summary.total == 1
    assert found.build is not None
    assert found.build.problem is None
    assert found.database is not None
    assert found.database.passed == 1
    built = read_bundle(path, TOOL, PLACES, tested=False)
    assert (built.tests, built.summary, built.database) == (None, None, None)


@pytest.mark.spec("9")
def test_a_bundle_that_is_not_whole_is_a_problem(tmp_path: Path) -> None:
    def told(path: Path) -> str | None:
        return read_bundle(path, TOOL, PLACES, tested=True).problem

    assert told(tmp_path / "none.xcresult") == "was not written"
    (tmp_path / "file.xcresult").touch()
    assert told(tmp_path / "file.xcresult") == "is no result bundle"
    (tmp_path / "cut.xcresult").mkdir()
    assert told(tmp_path / "cut.xcresult") == "was not written to its end"
    later = make_bundle(tmp_path / "later.xcresult", major=4)
    assert told(later) == "has storage version 4, of which only 3 is read"
    (later / "Info.plist").write_bytes(b"bplist00" + b"\xff" * 100)
    assert str(told(later)).startswith("has an Info.plist that cannot be read")
    (later / "Info.plist").write_bytes(b" " * (2 << 20))
    assert told(later) == "has an Info.plist that is no small file"
    (later / "Info.plist").unlink()
    os.mkfifo(later / "Info.plist")
    assert told(later) == "has an Info.plist that is no small file"
    (tmp_path / "link.xcresult").symlink_to(later)
    assert told(tmp_path / "link.xcresult") == "is no result bundle"


@pytest.mark.spec("9")
def test_a_part_that_the_tool_cannot_read_is_a_problem_of_that_part(tmp_path: Path) -> None:
    path = make_bundle(tmp_path / "r.xcresult")
    silent = read_bundle(path, Tool({}), PLACES, tested=True)
    assert silent.unread == "tests: xcresulttool ended with 64: unknown subcommand"
    half = read_bundle(path, Tool({TESTS: data(TOLD), SUMMARY: b"{"}), PLACES, tested=True)
    assert str(half.unread).startswith("summary: is cut short")
    older = read_bundle(
        path, Tool({TESTS: data(TOLD), SUMMARY: data(summary_of(TOLD))}), PLACES, tested=True
    )
    assert older.unread is None
    assert Bundle().unread is None


def test_a_tool_s_output_is_taken_whole() -> None:
    told = run_tool(python("import sys; sys.stderr.write('w' * 100000); print('x' * 300000)"), ENV)
    assert (len(told.data), told.problem) == (300_001, None)


def test_a_tool_that_fails_says_what_it_said() -> None:
    told = run_tool(
        python("import sys; print('half'); sys.stderr.write('no such bundle'); sys.exit(3)"), ENV
    )
    assert (told.data, told.problem) == (b"half\n", "ended with 3: no such bundle")
    assert str(run_tool(("/nowhere/xcrun",), ENV).problem).startswith("could not start")
    assert str(run_tool(("xcrun\x00",), ENV).problem).startswith("could not start")


@pytest.mark.fault("W2")
def test_a_tool_that_hangs_or_never_stops_is_ended_with_its_children(tmp_path: Path) -> None:
    began = time.monotonic()
    shell = ("/bin/sh", "-c", f'sleep 600 & echo $! > "{tmp_path}/pid"; sleep 600')
    told = run_tool(shell, ENV, seconds=1.5)
    assert told.problem == "took longer than 1.5 s"
    endless = run_tool(python("while True: print('x' * 1000)"), ENV, max_bytes=100_000)
    assert (len(endless.data), endless.problem) == (100_000, "wrote more than 100000 bytes")
    assert time.monotonic() - began < 20
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 60
    while _lives(pid) and time.monotonic() < deadline:
        os.sched_yield()
    assert not _lives(pid)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
