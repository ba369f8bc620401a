"""What of a log was shown is not shown again, and nothing is left out (fault S5)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rchctl.console import Console
from rchctl.logs import Logs

JOB = "job-build-0000"


class Shown:
    """Logs into a pipe that is read back."""

    def __init__(self, path: Path) -> None:
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        self._path = path
        self.logs = Logs(Console({}, write, write))

    def event(self) -> str:
        size = self._path.stat().st_size
        self.logs.event({"job_id": JOB, "path": str(self._path), "offset": 0, "length": size}, None)
        return self.text()

    def run(self) -> dict[str, Any]:
        return {"steps": [{"job_id": JOB, "action": "build", "log_path": str(self._path)}]}

    def text(self) -> str:
        try:
            return os.read(self._read, 1 << 16).decode()
        except BlockingIOError:
            return ""


@pytest.fixture
def live(tmp_path: Path) -> Path:
    path = tmp_path / "live.log"
    path.write_text("one\ntwo\n")
    return path


@pytest.mark.fault("S5")
def test_a_log_that_is_written_anew_with_the_same_text_goes_on(live: Path) -> None:
    shown = Shown(live)
    assert shown.event() == "one\ntwo\n"
    live.write_text("one\n")
    assert shown.event() == ""
    live.write_text("one\ntwo\nthree\n")
    assert shown.event() == "three\n"


def test_a_new_attempt_s_log_is_shown_from_its_beginning(live: Path) -> None:
    shown = Shown(live)
    shown.event()
    live.write_text("uno\ndos\ntres\n")
    assert shown.event() == "uno\ndos\ntres\n"


def test_a_shorter_log_at_the_end_is_another_one(live: Path) -> None:
    shown = Shown(live)
    shown.event()
    live.write_text("1\n")
    shown.logs.finish(shown.run())
    assert shown.text() == "1\n"


def test_an_event_tells_how_far_to_read(live: Path) -> None:
    shown = Shown(live)
    shown.logs.event({"job_id": JOB, "path": str(live), "offset": 0, "length": 4}, None)
    assert shown.text() == "one\n"
    shown.logs.event({"job_id": JOB, "path": str(live), "offset": 0, "length": 2}, None)
    assert shown.text() == ""
    shown.logs.finish(shown.run())
    assert shown.text() == "two\n"


def test_a_log_that_is_not_there_yet_is_no_trouble(tmp_path: Path) -> None:
    shown = Shown(tmp_path / "later.log")
    shown.logs.catch_up(shown.run())
    (tmp_path / "later.log").write_text("now\n")
    shown.logs.finish(shown.run())
    assert shown.text() == "now\n"


def test_a_log_that_cannot_be_read_is_said_once(tmp_path: Path) -> None:
    shown = Shown(tmp_path)
    shown.logs.catch_up(shown.run())
    shown.logs.catch_up(shown.run())
    assert shown.text().count("the log cannot be read") == 1
