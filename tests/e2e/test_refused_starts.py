"""A daemon that must not start on its database: whoever calls is told which file, why, and what to do."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.lab import Lab, lab

from rch.files.paths import host_paths

pytestmark = pytest.mark.spec("4")


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


@pytest.fixture
def database(user: Lab) -> Path:
    """A database with a run in it, and no daemon."""
    assert user.json("verify", cwd=user.project())["exit_code"] == 0
    user.stop()
    return host_paths(user.env).database


def refusal(user: Lab) -> tuple[str, str]:
    """The message and the hint of a call that had to start the daemon; the same for people."""
    told = user.json("status")
    message, hint = str(told["error"]["message"]), str(told["error"]["hint"])
    assert (told["exit_code"], told["error"]["kind"]) == (4, "DAEMON")
    shown = user.rchctl("status")
    assert (shown.returncode, shown.stdout) == (4, "")
    assert shown.stderr.endswith(f"rchctl: {message}\n  hint: {hint}\n")
    return message, hint


@pytest.mark.fault("H8")
def test_a_database_of_a_newer_program_is_named_and_left_as_it_is(user: Lab, database: Path) -> None:
    with closing(sqlite3.connect(database)) as con:
        con.execute("PRAGMA user_version = 99")
    before = database.read_bytes()
    message, hint = refusal(user)
    assert message.startswith(f"the daemon did not start: {database}: has schema version 99")
    assert "the newer rchd" in hint
    assert "rchctl check" in hint
    assert user.json("check")["exit_code"] == 4
    assert database.read_bytes() == before


@pytest.mark.fault("H9")
@pytest.mark.parametrize("left", [pytest.param(0, marks=pytest.mark.faults_long), 5000])
def test_a_database_that_was_cut_is_named_and_can_be_made_anew(
    user: Lab, database: Path, left: int
) -> None:
    os.truncate(database, left)
    message, hint = refusal(user)
    assert message.startswith(f"the daemon did not start: {database}: is ")
    assert "rchctl check" in hint
    assert "rchd --rebuild" in hint
    assert user.json("check")["exit_code"] == 4
    rebuild = [sys.executable, "-m", "rchd", "--rebuild"]
    subprocess.run(rebuild, env=user.env, check=True, capture_output=True)
    assert [run["state"] for run in user.json("list")["data"]["runs"]] == ["SUCCEEDED"]


@pytest.mark.fault("H9")
def test_a_database_that_is_gone_is_not_begun_anew_over_the_runs_that_it_knew(
    user: Lab, database: Path
) -> None:
    for part in ("", "-wal", "-shm"):
        database.with_name(database.name + part).unlink(missing_ok=True)
    message, hint = refusal(user)
    assert f"{database}: is missing, and 1 runs that it knew lie in" in message
    assert "rchd --rebuild" in hint
    rebuild = [sys.executable, "-m", "rchd", "--rebuild"]
    subprocess.run(rebuild, env=user.env, capture_output=True, timeout=60, check=True)
    assert len(user.json("list")["data"]["runs"]) == 1
