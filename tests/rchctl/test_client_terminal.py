"""Terminals: what may reach one, how wide it is, colours, and the one line that updates."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cli import Cli
from support.fake_daemon import RUN_ID, FakeDaemon, step_view

from rchctl.terminal import LogFilter, neutral, one_line

HOSTILE = "a\x1b]0;owned\x07b\x1b[2Jc\x9b31md\x07e\x1bPq#0\x1b\\f\u202eg\r"


class Screen:
    """A pseudo-terminal around a client."""

    def __init__(self, cli: Cli, *args: str, columns: int = 80) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rchctl", *args],
            env={"TERM": "xterm", **cli.environment},
            cwd=cli.home,
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self.text = ""

    def read_until(self, wanted: str) -> None:
        """Wait for `wanted` on the screen."""
        while wanted not in self.text:
            assert self._more(), self.text

    def end(self) -> str:
        """All that was written."""
        while self._more():
            pass
        self.process.wait(20)
        os.close(self.master)
        return self.text.replace("\r\n", "\n")

    def _more(self) -> bool:
        ready, _, _ = select.select([self.master], [], [], 20)
        try:
            data = os.read(self.master, 1 << 16) if ready else b""
        except OSError:  # the other end is closed
            return False
        self.text += data.decode()
        return bool(data)


def test_escapes_and_controls_are_taken_out() -> None:
    assert neutral(HOSTILE) == "abcdefg\n"
    assert one_line("two\nlines\tand\x1b[1m more\x00") == "two lines and more"


STEERING = st.text(alphabet=st.sampled_from("ab\x1b[]0;m\x07\\P\x9b\x9d\x9c\r\n\t\x00é\u202e"), max_size=40)


@given(STEERING)
def test_nothing_that_steers_a_terminal_is_left(text: str) -> None:
    left = neutral(text)
    assert not set(left) & set("\x1b\x07\x9b\x9d\r\x00\u202e")


@given(STEERING | st.text(max_size=60), st.integers(1, 5))
def test_a_log_in_pieces_reads_as_in_one(text: str, step: int) -> None:
    data = text.encode()
    pieces = LogFilter()
    shown = "".join(pieces.feed(data[at : at + step]) for at in range(0, len(data), step))
    assert shown + pieces.feed(b"", last=True) == neutral(text)


@pytest.mark.parametrize("opening", ["\x90", "\x9d", "\x9b", "\r", "\x1b]", "\x1b[", "\x1b ", "\x1b"])
def test_text_of_nothing_but_beginnings_costs_no_more_than_its_length(opening: str) -> None:
    text = opening * 300_000  # hours, where each beginning is looked at to the end of the text
    assert set(neutral(text)) <= {"\n", " "}
    assert set(LogFilter().feed((text + "x").encode(), last=True)) <= {"\n", " ", "x"}


def test_a_sequence_that_is_cut_is_still_taken_out() -> None:
    log = LogFilter()
    assert log.feed(b"a\x1b]0;ti") + log.feed(b"tle\x07b\r") + log.feed(b"\nc") == "ab\nc"


def test_names_and_messages_cannot_steer_even_a_pipe(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.change(
        state="FAILED",
        exit_code=50,
        failure_kind="SWIFTPM",
        human_summary=f"first\n{HOSTILE}",
        project=HOSTILE,
    )
    for args in (("status", "latest"), ("list",), ("wait", "latest")):
        result = cli(*args)
        assert not set(result.stdout) & set("\x1b\x07\x9b\r\u202e"), args


def test_json_is_ascii_and_holds_the_very_text(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.change(project=HOSTILE)
    out = cli("status", "latest", "--json").stdout
    assert out.isascii()
    assert "\\u001b]0;owned" in out


def test_a_log_on_a_terminal_loses_its_escapes(cli: Cli, daemon: FakeDaemon, tmp_path: Path) -> None:
    live = tmp_path / "live.log"
    live.write_bytes(b"one\x1b]0;owned\x07\nred \x1b[31mtext\x1b[0m\n")
    daemon.change(steps=[step_view(0, "build", "RUNNING", log_path=str(live))])
    assert Screen(cli, "tail", "latest").end() == "one\nred text\n"
    assert "\x1b[31m" in cli("tail", "latest").stdout


def test_progress_is_one_line_that_goes_away(cli: Cli, daemon: FakeDaemon) -> None:
    screen = Screen(cli, "verify", columns=30)
    daemon.wait_for_watcher()
    daemon.change(state="QUEUED", waiting="studio is busy: " + "x" * 60)
    daemon.tell("stage", data={"stage": "upload", "done": 2, "total": 5, "unit": "bytes"})
    screen.read_until("upload 40%")
    daemon.change(state="SUCCEEDED", exit_code=0)
    text = screen.end()
    assert "\r\x1b[Kqueued: studio is busy: xxxxxx" not in text.replace(
        "\r\x1b[Kqueued: studio is busy: xxxxx", ""
    )
    assert "\r\x1b[Kupload 40%\r\x1b[K" in text
    assert "verdict: \x1b[32mSUCCEEDED\x1b[0m\n" in text


def test_a_long_stage_shows_its_size_its_rate_and_what_is_left(cli: Cli, daemon: FakeDaemon) -> None:
    screen = Screen(cli, "verify")
    daemon.wait_for_watcher()
    news = {"stage": "upload", "done": 18_000_000, "total": 45_000_000, "unit": "bytes"}
    daemon.tell("stage", data={**news, "rate": 3_200_000, "left_seconds": 8.4})
    screen.read_until("upload 40% of 45.0 MB, 3.2 MB/s, 8.4 s left")
    daemon.tell("stage", data={**news, "done": 45_000_000, "rate": 3_100_000, "left_seconds": 0})
    screen.read_until("upload 100% of 45.0 MB, 3.1 MB/s")
    daemon.change(state="SUCCEEDED", exit_code=0)
    text = screen.end()
    left = [line for line in text.split("\n") if "rchctl: upload" in line]
    assert len(left) == 1, "what is rewritten leaves one line behind"
    assert "upload 45.0 MB in " in left[0]


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_colour_where_none_is_wanted(cli: Cli, daemon: FakeDaemon, name: str, value: str) -> None:
    daemon.change(state="FAILED", exit_code=50)
    cli.env[name] = value
    assert "verdict: FAILED\n" in Screen(cli, "wait", "latest").end()


def test_a_dumb_terminal_gets_plain_lines(cli: Cli, daemon: FakeDaemon) -> None:
    cli.env["TERM"] = "dumb"
    screen = Screen(cli, "verify")
    daemon.wait_for_watcher()
    daemon.change(state="SUCCEEDED", exit_code=0)
    text = screen.end()
    assert text.startswith(f"rchctl: run {RUN_ID}\n")
    assert "\x1b" not in text


def test_a_table_is_cut_to_the_terminal_and_whole_in_a_pipe(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.change(project="p" * 90)
    lines = Screen(cli, "list", columns=70).end().splitlines()
    assert max(map(len, lines)) == 70
    assert lines[1].endswith("pp…  queued")
    assert "p" * 90 in cli("list").stdout


@pytest.mark.parametrize(
    ("columns", "head"),
    [(30, "RUN            STATE      EXIT"), (24, "RUN            STATE"), (20, "RUN            STATE")],
)
def test_a_narrow_list_gives_the_beginning_of_an_id_and_the_state(
    cli: Cli, daemon: FakeDaemon, columns: int, head: str
) -> None:
    daemon.change(state="SUCCEEDED", exit_code=0)
    lines = Screen(cli, "list", columns=columns).end().splitlines()
    assert lines[0] == head
    run_id, state, *_ = lines[1].split()
    assert run_id == RUN_ID[:13]
    assert state == ("SUCC…" if columns == 20 else "SUCCEEDED")
    assert max(map(len, lines)) <= columns


WAITS: dict[str, Any] = {
    "waiting": "behind 3 in the queue, first 0198c2f0-0000-7000-8000-000000000001",
    "servable": "no",
    "servable_why": "studio: no swift >=9",
}
WHY = "queued: no worker can ever serve it (studio: no swift >=9); behind 3 in the queue, first 0198c2f0-"


@pytest.mark.spec("3.4")
def test_a_list_says_where_a_run_stands_why_it_waits_and_whether_anybody_could_serve_it(
    cli: Cli, daemon: FakeDaemon
) -> None:
    daemon.change(**WAITS)
    head, line = cli("list").stdout.splitlines()
    assert head.split() == [
        "RUN",
        "STATE",
        "EXIT",
        "CREATED",
        "TOOK",
        "WORKER",
        "PROJECT",
        "POSITION",
        "NOW",
    ]
    assert WHY in line
    assert WHY in cli("status").stdout
    one = cli("status", "latest").stdout
    assert one.startswith(f"QUEUED: {WHY}")
    assert "\n  servable   no, by no worker: studio: no swift >=9\n" in one
    told = json.loads(cli("list", "--json").stdout)["data"]["runs"][0]
    assert WAITS.items() <= told.items()


@pytest.mark.parametrize(
    ("columns", "heads"),
    [
        (100, "RUN STATE EXIT CREATED TOOK WORKER PROJECT POSITION NOW"),
        (78, "RUN STATE EXIT WORKER PROJECT NOW"),
        (50, "RUN STATE EXIT NOW"),
        (40, "RUN STATE NOW"),
        (25, "RUN STATE"),
    ],
)
def test_a_narrow_list_keeps_the_reason_longest(
    cli: Cli, daemon: FakeDaemon, columns: int, heads: str
) -> None:
    daemon.change(**WAITS)
    lines = Screen(cli, "list", columns=columns).end().splitlines()
    assert lines[0].split() == heads.split()
    assert max(map(len, lines)) <= columns
    if "NOW" in heads:
        assert lines[1].endswith("…")
        assert "queued: no wor" in lines[1]


def test_ctrl_c_on_a_terminal_cancels(cli: Cli, daemon: FakeDaemon) -> None:
    screen = Screen(cli, "verify")
    daemon.wait_for_watcher()
    screen.process.send_signal(2)
    assert "cancelling the run" in screen.end()
    assert screen.process.returncode == 80
