"""`verify`, `run`, `submit` and `wait` against a daemon that the test moves."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.cli import Cli
from support.fake_daemon import RUN_ID, FakeDaemon, step_view

from rch.contract.errors import Failure, Kind

SUCCEEDED: dict[str, Any] = {
    "state": "SUCCEEDED",
    "exit_code": 0,
    "human_summary": "2 tests passed",
    "duration_ms": 1500,
}
FAILED: dict[str, Any] = {
    "state": "FAILED",
    "exit_code": 50,
    "failure_kind": "SWIFTPM",
    "failure_subkind": "TESTS_FAILED",
    "human_summary": "1 of 3 tests failed\nDemoTests.testSum: 3 is not 4",
    "hint": "mend the named tests",
}


def finish(process: subprocess.Popen[str]) -> tuple[str, str, int]:
    out, err = process.communicate(timeout=60)
    return out, err, process.returncode


def verified(cli: Cli, daemon: FakeDaemon, end: dict[str, Any], *args: str) -> tuple[str, str, int]:
    """`verify` of a run that ends so."""
    process = cli.start("verify", *args)
    daemon.wait_for_watcher()
    daemon.change(**end)
    return finish(process)


@pytest.mark.spec("8")
@pytest.mark.parametrize(
    ("code", "kind"), [(0, None), (10, "CLASSIFIER_REJECTED"), (50, "SWIFTPM"), (70, "ARTIFACTS")]
)
def test_verify_exits_with_the_run_s_own_code(
    cli: Cli, daemon: FakeDaemon, code: int, kind: str | None
) -> None:
    state = "FAILED" if code else "SUCCEEDED"
    _, _, returned = verified(cli, daemon, {"state": state, "exit_code": code, "failure_kind": kind})
    assert returned == code


def test_a_failed_run_without_a_hint_gets_the_registry_s(cli: Cli, daemon: FakeDaemon) -> None:
    out, _, _ = verified(cli, daemon, {**FAILED, "failure_subkind": None, "hint": None})
    assert f"  hint: read the first diagnostic: rchctl tail {RUN_ID}\n" in out


def test_a_cancelled_run_says_it_once(cli: Cli, daemon: FakeDaemon) -> None:
    out, _, code = verified(
        cli, daemon, {"state": "CANCELLED", "exit_code": 80, "failure_kind": "CANCELLED"}
    )
    assert (out.splitlines()[0], code) == ("verdict: CANCELLED", 80)


def test_a_failed_run_without_a_code_is_no_success(cli: Cli, daemon: FakeDaemon) -> None:
    _, _, code = verified(cli, daemon, {"state": "FAILED", "exit_code": 0})
    assert code == 1


def test_the_log_goes_to_stdout_and_progress_to_stderr(
    cli: Cli, daemon: FakeDaemon, tmp_path: Path
) -> None:
    live = tmp_path / "live.log"
    steps = [step_view(0, "build", "RUNNING")]
    process = cli.start("verify")
    daemon.wait_for_watcher()
    daemon.change(state="RUNNING", phase="selecting")
    daemon.tell("stage", data={"stage": "upload", "done": 0, "total": 45_000_000, "unit": "bytes"})
    daemon.tell("stage", data={"stage": "upload", "done": 45_000_000, "total": 45_000_000, "unit": "bytes"})
    daemon.change(phase="following", worker="studio", steps=steps)
    daemon.log(live, steps[0]["job_id"], b"[1/2] Compiling \x1b[1mDemo\x1b[0m\n")
    with live.open("ab") as file:
        file.write(b"the rest, of which no event told\n")
    done = {**steps[0], "state": "SUCCEEDED", "log_path": str(live)}
    daemon.change(steps=[done], **SUCCEEDED)
    out, err, code = finish(process)
    assert code == 0
    assert out.startswith(
        "[1/2] Compiling \x1b[1mDemo\x1b[0m\nthe rest, of which no event told\nverdict: SUCCEEDED\n"
    )
    assert err.splitlines() == [
        f"rchctl: run {RUN_ID}",
        "rchctl: queued",
        "rchctl: selecting a worker",
        "rchctl: upload 45.0 MB",
        "rchctl: worker studio",
        "rchctl: build",
    ]


def test_the_verdict_says_what_failed_and_where_to_look(cli: Cli, daemon: FakeDaemon) -> None:
    end = {**FAILED, "worker": "local", "embedded_worker": True, "run_dir": "/artifacts/x"}
    out, _, _ = verified(cli, daemon, end)
    assert out.splitlines() == [
        "verdict: FAILED (SWIFTPM / TESTS_FAILED)",
        "  1 of 3 tests failed",
        "  DemoTests.testSum: 3 is not 4",
        "  hint: mend the named tests",
        f"  run        {RUN_ID}",
        "  worker     local (embedded worker on this machine)",
        "  exit code  50",
        "  artifacts  /artifacts/x",
    ]


@pytest.mark.spec("9")
def test_a_simulated_success_never_reads_as_a_plain_one(cli: Cli, daemon: FakeDaemon) -> None:
    out, _, code = verified(cli, daemon, {**SUCCEEDED, "simulated": True, "worker": "w"})
    assert "SIMULATED: passed (stand-in tools, no verdict)\n" in out
    assert "SUCCEEDED" not in out
    assert "w (simulated)" in out
    assert code == 0


def test_json_is_one_object_and_nothing_else(cli: Cli, daemon: FakeDaemon, tmp_path: Path) -> None:
    live = tmp_path / "live.log"
    process = cli.start("verify", "--json")
    daemon.wait_for_watcher()
    daemon.log(live, "job-build-0000", b"a line of the log\n")
    daemon.change(**FAILED)
    out, err, code = finish(process)
    said = json.loads(out)
    assert out.count("\n") == 1
    assert err == ""
    assert (said["ok"], said["command"], said["exit_code"], code) == (False, "verify", 50, 50)
    assert said["data"]["run_id"] == RUN_ID
    assert said["error"] == {
        "kind": "SWIFTPM",
        "subkind": "TESTS_FAILED",
        "message": FAILED["human_summary"],
        "hint": FAILED["hint"],
        "exit_code": 50,
    }


def test_verbose_json_has_the_log_on_stderr(cli: Cli, daemon: FakeDaemon, tmp_path: Path) -> None:
    process = cli.start("verify", "--json", "--verbose")
    daemon.wait_for_watcher()
    daemon.log(tmp_path / "live.log", "job-build-0000", b"a line of the log\n")
    daemon.change(**SUCCEEDED)
    out, err, _ = finish(process)
    assert json.loads(out)["ok"] is True
    assert "\na line of the log\n" in err


def test_json_of_a_success_has_no_error(cli: Cli, daemon: FakeDaemon) -> None:
    out, _, _ = verified(cli, daemon, SUCCEEDED, "--json")
    said = json.loads(out)
    assert said["ok"] is True
    assert "error" not in said


def test_a_refused_submit_is_an_error_with_a_hint(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.on(
        "runs.submit", Failure(Kind.CONFIG, "unknown key 'schem'", subkind="UNKNOWN_KEY", hint="scheme")
    )
    plain = cli("verify")
    assert plain.returncode == 3
    assert plain.stdout == ""
    assert plain.stderr == "rchctl: unknown key 'schem'\n  hint: scheme\n"
    error = json.loads(cli("verify", "--json").stdout)["error"]
    assert error == {
        "kind": "CONFIG",
        "subkind": "UNKNOWN_KEY",
        "message": "unknown key 'schem'",
        "hint": "scheme",
        "exit_code": 3,
    }


def test_a_newer_daemon_s_kind_keeps_its_exit_code(cli: Cli, daemon: FakeDaemon) -> None:
    class Newer(Failure):
        exit_code = 77  # a code that this registry has not

    daemon.on("runs.get", Newer(Kind.INTERNAL, "something new"))
    assert cli("status", RUN_ID).returncode == 77


def test_quiet_leaves_the_verdict_alone(cli: Cli, daemon: FakeDaemon) -> None:
    out, err, _ = verified(cli, daemon, SUCCEEDED, "--quiet")
    assert out.startswith("verdict: SUCCEEDED\n")
    assert err == ""


def test_warnings_are_said_once_even_when_quiet(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.runs[RUN_ID]["warnings"] = ["LFS pointer: a.png"]
    _, err, _ = verified(cli, daemon, SUCCEEDED, "--quiet")
    assert err == "rchctl: warning: LFS pointer: a.png\n"


def test_what_is_submitted_is_what_the_flags_say(cli: Cli, daemon: FakeDaemon) -> None:
    result = cli(
        "run", "--action", "test", "--action", "build", "--no-queue", "--detach",
        "--set", "timeouts.overall_seconds=600", "--set", "toolchain.xcode_version=16.2",
        "--set", "run.continue_on_failure=true", "--set", 'selection.tags=["ios"]',
    )  # fmt: skip
    params = daemon.wait_for("runs.submit")
    assert len(params.pop("client_token")) == 32
    assert params == {
        "start": str(cli.home),
        "actions": ["test", "build"],
        "queue": False,
        "progress": True,
        "overrides": {
            # The daemon reads a text as the type of its key.
            "timeouts.overall_seconds": "600",
            "toolchain.xcode_version": "16.2",
            "run.continue_on_failure": "true",
            "selection.tags": ["ios"],
        },
    }
    assert result.stdout == f"{RUN_ID}\n"
    assert result.returncode == 0


@pytest.mark.spec("12")
@pytest.mark.parametrize("verb", [["verify"], ["run", "--action", "build"], ["submit"]])
def test_every_verb_that_makes_a_run_says_how_it_stands_to_the_others(
    cli: Cli, daemon: FakeDaemon, verb: list[str]
) -> None:
    daemon.change(**SUCCEEDED)
    cli(*verb, "--priority", "0", "--group", "save", "--supersede", "--origin", "vim",
        "--client-token", "one", "--on-disconnect", "keep")  # fmt: skip
    params = daemon.wait_for("runs.submit")
    assert {name: params[name] for name in params.keys() - {"start", "actions", "overrides"}} == {
        "priority": 0,
        "group": "save",
        "supersede": True,
        "origin": "vim",
        "client_token": "one",
        "on_disconnect": "keep",
        "queue": True,
        "progress": True,
    }


def test_a_run_that_ends_with_its_client_is_tied_to_the_one_that_stays(
    cli: Cli, daemon: FakeDaemon
) -> None:
    process = cli.start("verify", "--on-disconnect", "cancel")
    daemon.wait_for_watcher()
    assert daemon.wait_for("runs.submit")["on_disconnect"] == "cancel"
    assert len(daemon._connections) == 1  # the watch is on the connection that the run is tied to
    daemon.change(**SUCCEEDED)
    assert finish(process)[2] == 0


def test_detach_does_not_wait(cli: Cli, daemon: FakeDaemon) -> None:
    assert cli("verify", "--detach").stdout == f"{RUN_ID}\n"
    assert daemon.count("runs.watch") == 0


def test_submit_prints_the_id_or_the_envelope(cli: Cli, daemon: FakeDaemon) -> None:
    assert daemon.runs
    assert cli("submit").stdout == f"{RUN_ID}\n"
    said = json.loads(cli("submit", "--json").stdout)
    assert (said["ok"], said["data"]["run_id"]) == (True, RUN_ID)


@pytest.mark.parametrize(("end", "code"), [(SUCCEEDED, 0), (FAILED, 50)])
def test_wait_exits_with_the_run_s_code(
    cli: Cli, daemon: FakeDaemon, end: dict[str, Any], code: int
) -> None:
    process = cli.start("wait", "latest")
    daemon.wait_for_watcher()
    daemon.change(**end)
    out, _, returned = finish(process)
    assert returned == code
    assert out.startswith(f"verdict: {end['state']}")


def test_wait_for_a_run_that_is_over_answers_at_once(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.change(**FAILED)
    assert cli("wait", RUN_ID[:12]).returncode == 50


def test_a_gap_is_made_good_by_a_new_snapshot(cli: Cli, daemon: FakeDaemon) -> None:
    process = cli.start("wait", RUN_ID)
    daemon.wait_for_watcher()
    daemon.runs[RUN_ID] |= SUCCEEDED  # nobody is told
    daemon.tell("gap")
    assert finish(process)[2] == 0
    assert daemon.count("runs.watch") == 2


def test_an_older_view_does_not_take_a_run_back(cli: Cli, daemon: FakeDaemon) -> None:
    process = cli.start("wait", RUN_ID)
    daemon.wait_for_watcher()
    stale = dict(daemon.runs[RUN_ID], state="FAILED", exit_code=50)
    daemon.change(state="RUNNING", phase="following")
    daemon.tell("run", run=stale)
    daemon.tell("heartbeat")
    daemon.change(**SUCCEEDED)
    assert finish(process)[2] == 0


def test_a_reader_that_leaves_does_not_cost_the_verdict(
    cli: Cli, daemon: FakeDaemon, tmp_path: Path
) -> None:
    live = tmp_path / "live.log"
    process = cli.start("verify")
    daemon.wait_for_watcher()
    assert process.stdout is not None
    process.stdout.close()
    daemon.log(live, "job-build-0000", b"nobody reads this\n")
    daemon.change(**FAILED)
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    assert process.wait(20) == 50
