"""The live view: one line that is rewritten, and a line for each stage that ended."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fake_daemon import RUN_ID, run_view, step_view
from support.run_folder import RunFolder

from rch.contract.records import TestFailure
from rchctl import board as board_module
from rchctl.board import Board, shown
from rchctl.cells import fitted, width_of
from rchctl.console import Console
from rchctl.context import Context
from rchctl.findings import closing
from rchctl.parser import VerbParser
from rchctl.progress import Progress
from rchctl.report import usual

JOB = "job-build-0000"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class Terminal:
    """A pseudo-terminal of so many columns; what is written to it is kept."""

    def __init__(self, columns: int = 80) -> None:
        self.master, self.slave = pty.openpty()
        os.set_blocking(self.master, False)
        self.resize(columns)

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def take(self) -> str:
        """What was written since the last time."""
        found = b""
        while True:
            try:
                found += os.read(self.master, 1 << 16)
            except BlockingIOError:
                return found.decode().replace("\r\n", "\n")

    def lines(self) -> list[str]:
        """The lines that stay, and the one that is there now."""
        pieces = self.take().replace("\r\x1b[K", "\x00").split("\n")
        return [piece.rpartition("\x00")[2] for piece in pieces if piece.rpartition("\x00")[2]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(board_module, "time", made)
    return made


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    os.close(made.master)
    os.close(made.slave)


@pytest.fixture
def board(clock: Clock, terminal: Terminal) -> Board:
    assert clock.now
    return Board(Console({"TERM": "xterm"}, out=terminal.slave, err=terminal.slave))


def running(**changes: Any) -> dict[str, Any]:
    steps = [step_view(0, "build", "RUNNING"), step_view(1, "test")]
    return run_view(**{"state": "RUNNING", "phase": "following", "steps": steps, **changes})


def log(board: Board, path: Path, text: bytes) -> None:
    begin = path.stat().st_size if path.exists() else 0
    with path.open("ab") as file:
        file.write(text)
    board.log({"job_id": JOB, "path": str(path), "offset": begin, "length": len(text)})


def test_each_stage_that_ends_leaves_a_line_with_its_time(
    board: Board, clock: Clock, terminal: Terminal, tmp_path: Path
) -> None:
    board.stage({"stage": "bundle", "done": 10, "total": 10, "unit": "bytes", "detail": "2 files"})
    clock.now += 0.5
    board.accepted(run_view())
    board.run(run_view())
    clock.now += 3
    board.run(running(phase="uploading", steps=[step_view(0, "build")]))
    board.stage({"stage": "upload", "done": 5, "total": 10, "unit": "bytes"})
    clock.now += 2
    board.run(running())
    log(board, tmp_path / "log", b"[1/3] Compiling App Main.swift\n")
    clock.now += 4
    board.tick()
    assert terminal.lines() == [
        "rchctl: bundle 10 B 2 files in 500 ms",
        f"rchctl: run {RUN_ID}",
        "rchctl: queue 3.0 s",
        "rchctl: upload 10 B in 2.0 s",
        "build 1/3 Compiling App Main.swift  4 s",
    ]
    log(board, tmp_path / "log", b"[3/3] Linking App\n")
    done = [step_view(0, "build", "SUCCEEDED"), step_view(1, "test")]
    board.run(running(state="SUCCEEDED", exit_code=0, steps=done))
    assert terminal.lines() == ["rchctl: build 3/3 in 4.0 s"]


def test_a_brief_stage_of_which_nothing_is_to_be_said_leaves_none(board: Board, terminal: Terminal) -> None:
    board.run(run_view())
    board.run(running())
    assert terminal.lines() == ["build"]


def test_tests_are_counted_as_the_worker_tells_and_those_left_by_the_last_run(
    board: Board, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usual, "usual_tests", lambda _run, _action: 5)
    steps = [step_view(0, "build", "SUCCEEDED"), step_view(1, "test", "RUNNING")]
    board.run(running(steps=steps))
    for outcome in ("passed", "failed", "passed"):
        board.job({"job_id": "job-test-0001", "type": "test", "data": {"outcome": outcome}})
    board.job({"job_id": "another", "type": "test", "data": {"outcome": "failed"}})
    assert terminal.lines() == ["test 2 passed, 1 failed, ~2 left"]
    board.run(running(phase="fetching", steps=steps))
    assert terminal.lines()[0].startswith("rchctl: test 2 passed, 1 failed in ")


def test_a_run_in_line_says_its_place_and_when_it_may_begin(
    board: Board, clock: Clock, terminal: Terminal
) -> None:
    me = run_view(waiting="behind 1 in the queue, first 0198")
    before = run_view("0198aaaa", created_at="2026-01-02T03:04:04.000Z")
    past = run_view("0198past", state="SUCCEEDED", duration_ms=90_000)
    board.asks(lambda: [me, before, past])
    board.run(me)
    assert terminal.lines() == ["queue behind 1 in the queue, first 0198"]
    clock.now += 2
    board.tick()
    told = terminal.lines()[-1].rstrip()
    assert told == "queue number 2 of 2, starts in ~1 min 30 s: behind 1 in the queue, first 0198"


def test_hostile_words_of_a_tool_do_not_steer(board: Board, terminal: Terminal, tmp_path: Path) -> None:
    board.run(running())
    terminal.take()
    log(board, tmp_path / "log", b"[1/3] Compiling \x1b]0;owned\x07\x1b[2J\xe2\x80\xaemain\n")
    assert terminal.take() == "\r\x1b[Kbuild 1/3 Compiling main"


def test_a_log_that_cannot_be_read_costs_the_count_alone(board: Board, terminal: Terminal) -> None:
    board.run(running())
    board.log({"job_id": JOB, "path": "/nowhere/log", "offset": 0, "length": 10})
    board.log({"job_id": JOB, "path": None, "offset": "x"})
    assert terminal.lines() == ["build"]


def test_a_line_that_wraps_since_the_terminal_was_narrowed_is_taken_away_whole(terminal: Terminal) -> None:
    console = Console({"TERM": "xterm"}, out=terminal.slave, err=terminal.slave)
    console.status("x" * 60)
    terminal.resize(25)
    terminal.take()
    console.status("y" * 60)
    assert terminal.take() == "\x1b[2A\r\x1b[J" + "y" * 24
    console.clear_status()
    assert terminal.take() == "\r\x1b[K"


@pytest.mark.parametrize(
    ("text", "columns", "wanted"), [("漢字漢字", 5, "漢字"), ("e\u0301e\u0301", 1, "e\u0301")]
)
def test_a_line_is_as_wide_as_the_terminal_shows_it(text: str, columns: int, wanted: str) -> None:
    assert fitted(text, columns) == wanted
    assert width_of(wanted) <= columns


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"TERM": "xterm"}])
def test_where_no_line_can_be_rewritten_lines_stay(
    env: dict[str, str], tmp_path: Path, terminal: Terminal
) -> None:
    fd = terminal.slave if env["TERM"] == "dumb" else os.open(tmp_path / "err", os.O_WRONLY | os.O_CREAT)
    made = shown(Console(env, out=fd, err=fd), enabled=True)
    assert type(made) is Progress


def test_a_failed_run_names_at_most_ten_tests_with_local_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [
        TestFailure(
            name=f"test{at}",
            suite="SumTests",
            message="1 is not 2",
            path="Tests/SumTests.swift",
            line=1,
        )
        for at in range(12)
    ]
    folder = RunFolder(
        tmp_path / "runs", status="failed", failures=failures, root=str(tmp_path / "src")
    ).write()
    run = run_view(folder.run_id, state="FAILED", run_dir=str(folder.path), root=folder.root, exit_code=50)
    (tmp_path / "src" / "Tests").mkdir(parents=True)
    (tmp_path / "src" / "Tests" / "SumTests.swift").write_text("//\n")
    monkeypatch.chdir(tmp_path / "src")
    args = VerbParser("verify", "verify", 80).read([])
    context = Context("verify", args, Console({}, out=1, err=2), {})
    told = closing(run, context).splitlines()
    assert told[0] == "failed tests:"
    assert told[1] == "  ✗ Tests/SumTests.swift:1: SumTests.test0: 1 is not 2"
    assert told[11] == "  and 2 more: rchctl report latest"
    assert told[12].startswith("verdict: ")
    assert closing(run, context, quiet=True).startswith("verdict: ")
    monkeypatch.chdir(tmp_path / "runs")
    assert closing(run, context).splitlines()[1].startswith(f"  ✗ {tmp_path}/src/Tests/SumTests.swift:1: ")
