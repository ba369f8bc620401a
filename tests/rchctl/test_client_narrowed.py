"""Runs that are no full gate, on screen: simulated ones, narrowed ones, and what runs again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.cli import Cli
from support.fake_daemon import RUN_ID, FakeDaemon, step_view
from support.trees import make

from rch.contract.errors import Failure, Kind
from rchctl.console import SIMULATED, Console

PASSED: dict[str, Any] = {"state": "SUCCEEDED", "exit_code": 0, "human_summary": "2 tests passed"}
LINE = "this is not the full gate"


def unmarked(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(SIMULATED)]


@pytest.mark.spec("9")
@pytest.mark.parametrize("end", [PASSED, {"state": "FAILED", "exit_code": 50}, {"state": "CANCELLED"}])
def test_each_line_of_a_simulation_is_marked_and_no_end_of_it_is_a_verdict(
    cli: Cli, daemon: FakeDaemon, tmp_path: Path, end: dict[str, Any]
) -> None:
    live = tmp_path / "live.log"
    steps = [step_view(0, "build", "RUNNING", log_path=str(live))]
    process = cli.start("verify", "--simulate")
    assert daemon.wait_for("runs.submit")["simulate"] is True
    daemon.wait_for_watcher()
    daemon.change(state="RUNNING", phase="following", simulated=True, worker="w", steps=steps)
    daemon.log(live, "job-build-0000", b"one\ntw")
    daemon.log(live, "job-build-0000", b"o\n\nthree\n")
    daemon.change(**end)
    out, err = process.communicate(timeout=60)
    assert (unmarked(out), unmarked(err)) == ([], [])
    assert out.startswith("simulated: one\nsimulated: two\nsimulated: \nsimulated: three\n")
    word = {"SUCCEEDED": "passed"}.get(end["state"], end["state"].lower())
    assert f"simulated: SIMULATED: {word} (stand-in tools, no verdict)" in out
    assert "verdict:" not in out
    assert process.returncode == end.get("exit_code", 80)


@pytest.mark.spec("9")
@pytest.mark.parametrize("verb", ["wait", "status", "tail", "artifacts", "cancel"])
def test_who_looks_at_a_simulation_sees_the_mark_on_every_line(
    cli: Cli, daemon: FakeDaemon, tmp_path: Path, verb: str
) -> None:
    (tmp_path / "run_index.json").write_text(
        json.dumps({"schema_id": "rch-xcode/run_index@1", "schema_version": "1.0", "steps": []})
    )
    log = tmp_path / "live.log"
    log.write_bytes(b"one\ntwo")
    steps = [step_view(0, "build", "SUCCEEDED", log_path=str(log))]
    daemon.change(**PASSED, simulated=True, run_dir=str(tmp_path), steps=steps)
    done = cli(verb, "latest")
    assert (done.stdout + done.stderr) != ""
    assert (unmarked(done.stdout), unmarked(done.stderr)) == ([], [])
    assert "SUCCEEDED" not in done.stdout


@pytest.mark.spec("9")
def test_json_says_it_in_a_member_and_has_no_mark(cli: Cli, daemon: FakeDaemon) -> None:
    process = cli.start("verify", "--simulate", "--json")
    daemon.wait_for_watcher()
    daemon.change(**PASSED, simulated=True)
    out, _ = process.communicate(timeout=60)
    assert json.loads(out)["data"]["simulated"] is True


@pytest.mark.spec("9")
def test_what_a_script_reads_of_a_simulation_is_whole_and_the_mark_stands_beside_it(
    cli: Cli, daemon: FakeDaemon
) -> None:
    daemon.change(simulated=True)
    done = cli("submit", "--simulate")
    assert done.stdout == f"{RUN_ID}\n"
    assert done.stderr == "simulated: rchctl: a simulation: its tools are stand-ins\n"


@pytest.mark.spec("9")
def test_lists_tell_a_simulated_and_a_narrowed_success_from_one(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.change(**PASSED, simulated=True)
    listed = cli("list").stdout
    assert "SIMULATED: passed" in listed
    assert "SUCCEEDED" not in listed
    daemon.change(simulated=False, scope=["--filter=A"])
    assert "SUCCEEDED (narrowed)" in cli("list").stdout


@pytest.mark.spec("9")
def test_a_mark_never_stands_in_the_middle_of_a_line(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        console = Console({}, out.fileno(), err.fileno())
        console.mark = SIMULATED
        for piece in (b"a", b"b\n", b"\n", b"c"):
            console.out_bytes(piece)
            console.err_bytes(piece)
        console.note("said")
    assert (tmp_path / "out").read_text() == "simulated: ab\nsimulated: \nsimulated: c"
    assert "".join(unmarked((tmp_path / "err").read_text())) == ""


# --- narrowed -------------------------------------------------------------------------------


@pytest.mark.spec("9")
def test_a_narrowed_success_says_what_it_is_not(cli: Cli, daemon: FakeDaemon) -> None:
    process = cli.start("verify", "--filter", "A", "--filter=B", "--skip", "C")
    asked = daemon.wait_for("runs.submit")["narrowing"]
    assert asked == {"filters": ["A", "B"], "skips": ["C"]}
    daemon.wait_for_watcher()
    daemon.change(**PASSED, scope=["--filter=A", "--filter=B", "--skip=C", "--skip=D"])
    out, _ = process.communicate(timeout=60)
    assert "verdict: SUCCEEDED (narrowed)\n" in out
    assert f"  narrowed   --filter=A, --filter=B, --skip=C and 1 more: {LINE}\n" in out
    daemon.change(state="RUNNING", exit_code=None)
    assert (
        f"  narrowed   --filter=A, --filter=B, --skip=C and 1 more: {LINE}\n"
        in cli("status", "latest").stdout
    )


@pytest.mark.spec("6")
def test_the_flags_of_xcodebuild_go_as_they_are(cli: Cli, daemon: FakeDaemon) -> None:
    cli("submit", "--only-testing", "App/Sum", "--skip-testing", "App/Slow")
    asked = daemon.wait_for("runs.submit")["narrowing"]
    assert asked == {"only_testing": ["App/Sum"], "skip_testing": ["App/Slow"]}


def test_a_command_line_as_it_stands_takes_no_flags_that_narrow_it(cli: Cli, tmp_path: Path) -> None:
    make(tmp_path, {"Package.swift": ""})
    done = cli("exec", "--filter", "A", "--", "swift", "test")
    assert done.returncode == 2
    assert "write the command after --" in done.stderr


# --- again ----------------------------------------------------------------------------------


@pytest.mark.spec("12")
def test_a_rerun_names_the_run_by_its_id_and_ends_with_the_new_one(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.on("runs.rerun", lambda _params, _connection: daemon.runs[RUN_ID])
    process = cli.start("rerun", "--failed", "latest")
    asked = daemon.wait_for("runs.rerun")
    assert (asked["run"], asked["failed"]) == (RUN_ID, True)
    assert asked["client_token"]
    daemon.wait_for_watcher()
    daemon.change(state="FAILED", exit_code=50, failure_kind="SWIFTPM", failure_subkind="TESTS_FAILED")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 50
    assert f"run        {RUN_ID}" in out
    assert daemon.count("runs.submit") == 0


@pytest.mark.spec("12")
def test_a_rerun_that_is_refused_says_what_to_type(cli: Cli, daemon: FakeDaemon) -> None:
    hint = f"type rchctl rerun {RUN_ID} to run all of it again"
    daemon.on("runs.rerun", Failure(Kind.USAGE, "rerun --failed: no test failed in run x", hint=hint))
    done = cli("rerun", "--failed", "latest")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"rchctl: rerun --failed: no test failed in run x\n  hint: {hint}\n")


def test_a_terminal_shows_the_mark_on_its_updating_line(tmp_path: Path) -> None:
    leader, follower = os.openpty()
    try:
        with (tmp_path / "out").open("wb") as out:
            console = Console({"COLUMNS": "40"}, out.fileno(), follower)
            console.mark = SIMULATED
            console.status("x" * 100)
        shown = os.read(leader, 1000).decode()
    finally:
        os.close(leader)
        os.close(follower)
    assert shown.removeprefix("\r\x1b[K") == SIMULATED + "x" * (39 - len(SIMULATED))
