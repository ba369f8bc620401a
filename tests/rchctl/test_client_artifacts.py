"""`artifacts` finds every file through the indices alone; `tail` and the read-only verbs."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.cli import Cli
from support.fake_daemon import RUN_ID, FakeDaemon, run_view, step_view

from rch.contract.errors import Failure, Kind
from rchctl.commands.artifacts import _listing
from rchctl.context import Context
from rchctl.indices import items

JOB = "job-build-0000"


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


@pytest.fixture
def run_dir(daemon: FakeDaemon, tmp_path: Path) -> Path:
    """A published run of one step, and a file that no index names."""
    root = tmp_path / "artifacts" / RUN_ID
    step = root / "steps" / "build" / JOB
    envelope = {"schema_version": 1, "created_at": "2026-01-02T03:04:05.000Z", "run_id": RUN_ID}
    pointer = {
        "index": 0,
        "action": "build",
        "job_id": JOB,
        "status": "success",
        "job_index_path": f"steps/build/{JOB}/job_index.json",
        "live_log_path": f"host/{JOB}/live.log",
        "host_summary_path": None,
    }
    write(root / "run_summary.json", {})
    write(root / "stray.json", {})
    write(root / "host" / JOB / "live.log", "log")
    write(step / "summary.json", {"status": "success"})
    (step / "build.log").write_bytes(b"Compiling\n")
    (step / "result.xcresult").mkdir()
    write(
        step / "job_index.json",
        {
            **envelope,
            "schema_id": "rch-xcode/job_index@1",
            "files": {"summary": "summary.json", "build_log": "build.log", "result": "result.xcresult"},
        },
    )
    write(
        root / "run_index.json",
        {
            **envelope,
            "schema_id": "rch-xcode/run_index@1",
            "run_summary": "run_summary.json",
            "run_plan": None,
            "steps": [pointer],
        },
    )
    daemon.runs[RUN_ID] = run_view(run_dir=str(root), state="SUCCEEDED", exit_code=0)
    return root


def change_index(run_dir: Path, **changes: Any) -> None:
    index = json.loads((run_dir / "run_index.json").read_text())
    write(run_dir / "run_index.json", {**index, **changes})


@pytest.mark.spec("8")
def test_every_file_that_the_indices_name_is_found(cli: Cli, run_dir: Path) -> None:
    said = json.loads(cli("artifacts", "latest", "--json").stdout)
    found = {(each["scope"], each["name"]): each for each in said["data"]["files"]}
    assert set(found) == {
        ("run", "run_index"),
        ("run", "run_summary"),
        ("build", "job_index"),
        ("build", "live_log"),
        ("build", "summary"),
        ("build", "build_log"),
        ("build", "result"),
    }
    assert found["build", "build_log"]["size"] == 10
    assert found["build", "result"]["type"] == "directory"
    assert all(Path(each["path"]).is_relative_to(run_dir) for each in found.values())


def test_the_listing_is_for_people(cli: Cli, run_dir: Path) -> None:
    lines = cli("artifacts", "latest").stdout.splitlines()
    assert lines[0] == str(run_dir)
    assert any(
        line.split() == ["build", "build_log", "10", "B", f"steps/build/{JOB}/build.log"] for line in lines
    )


def test_a_path_that_has_no_room_beside_the_others_has_a_line_of_its_own(run_dir: Path) -> None:
    def listed(width: int) -> list[str]:
        console = SimpleNamespace(out_is_terminal=True, width=width)
        return _listing(
            items(run_dir), run_dir, cast("Context", SimpleNamespace(console=console))
        ).splitlines()

    path = f"steps/build/{JOB}/build.log"
    assert [line.split() for line in listed(120) if path in line] == [
        ["build", "build_log", "10", "B", path]
    ]
    narrow = listed(40)
    assert [line.split() for line in narrow if path in line] == [[path]]
    assert narrow[0].split() == ["SCOPE", "NAME", "SIZE"]
    assert narrow[narrow.index(f"  {path}") - 1].split() == ["build", "build_log", "10", "B"]


@pytest.mark.parametrize("name", ["build.log", "build/build.log", "build_log", "build/build_log"])
def test_one_file_by_its_name(cli: Cli, run_dir: Path, name: str) -> None:
    out = cli("artifacts", "latest", "--path", name).stdout
    assert out == f"{run_dir}/steps/build/{JOB}/build.log\n"


def test_an_unknown_name_is_told_the_nearest(cli: Cli, run_dir: Path) -> None:
    assert run_dir.exists()
    result = cli("artifacts", "latest", "--path", "bild.log")
    assert result.returncode == 2
    assert "did you mean 'build.log'?" in result.stderr


def test_a_name_in_two_steps_has_to_be_told_apart(cli: Cli, run_dir: Path) -> None:
    step = json.loads((run_dir / "run_index.json").read_text())["steps"][0]
    other = run_dir / "steps" / "test" / JOB
    other.parent.mkdir(parents=True)
    (run_dir / "steps" / "build" / JOB).rename(other)
    (run_dir / "steps" / "build" / JOB).mkdir()
    for path in other.iterdir():
        if path.is_file():
            (run_dir / "steps" / "build" / JOB / path.name).write_bytes(path.read_bytes())
    (run_dir / "steps" / "build" / JOB / "result.xcresult").mkdir()
    second = {**step, "action": "test", "job_index_path": f"steps/test/{JOB}/job_index.json"}
    change_index(run_dir, steps=[step, second])
    both = cli("artifacts", "latest", "--path", "build.log")
    assert (both.returncode, "build/build.log, test/build.log" in both.stderr) == (2, True)
    one = cli("artifacts", "latest", "--path", "test/build.log")
    assert one.stdout == f"{other}/build.log\n"


def test_a_missing_file_is_listed_and_exit_70(cli: Cli, run_dir: Path) -> None:
    (run_dir / "steps" / "build" / JOB / "build.log").unlink()
    result = cli("artifacts", "latest")
    assert result.returncode == 70
    assert "MISSING" in result.stdout
    assert "build.log" in result.stderr


@pytest.mark.fault("T2")
@pytest.mark.parametrize("pointer", ["../outside.json", "/etc/passwd", "a/../../b", ""])
def test_an_index_cannot_point_outside(cli: Cli, run_dir: Path, pointer: str) -> None:
    change_index(run_dir, run_summary=pointer)
    result = cli("artifacts", "latest")
    assert result.returncode == 70
    assert "points outside of it" in result.stderr


def test_another_major_is_refused_by_both_names(cli: Cli, run_dir: Path) -> None:
    change_index(run_dir, schema_id="rch-xcode/run_index@2")
    result = cli("artifacts", "latest")
    assert result.returncode == 70
    assert "run_index@2" in result.stderr
    assert "run_index@1" in result.stderr


def test_tail_shows_one_step_or_all(cli: Cli, daemon: FakeDaemon, tmp_path: Path) -> None:
    for action in ("build", "test"):
        (tmp_path / action).write_text(f"{action} log\n")
    steps = [
        step_view(i, a, "SUCCEEDED", log_path=str(tmp_path / a)) for i, a in enumerate(["build", "test"])
    ]
    daemon.change(state="FAILED", exit_code=50, steps=steps)
    assert cli("tail", "latest").stdout == "build log\ntest log\n"
    assert cli("tail", "latest", "--step", "test").stdout == "test log\n"
    assert cli("tail", "latest").returncode == 0


def test_tail_follows_to_the_end(cli: Cli, daemon: FakeDaemon, tmp_path: Path) -> None:
    live = tmp_path / "live.log"
    live.write_bytes(b"early\n")
    daemon.change(state="RUNNING", steps=[step_view(0, "build", "RUNNING", log_path=str(live))])
    process = cli.start("tail", "-f", "latest")
    assert process.stdout is not None
    assert process.stdout.readline() == "early\n"  # before any news of it
    daemon.log(live, "job-build-0000", b"late\n")
    assert process.stdout.readline() == "late\n"
    daemon.change(state="FAILED", exit_code=50)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_tail_of_a_step_that_the_run_has_not(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.change(steps=[step_view(0, "build")])
    result = cli("tail", "latest", "--step", "test")
    assert result.returncode == 2
    assert "its steps are build" in result.stderr


def test_list_filters_and_has_an_envelope(cli: Cli, daemon: FakeDaemon) -> None:
    other = "0198c2f0-7a11-7c3e-9b52-3f6f5d1e0a02"
    daemon.runs[other] = run_view(other, state="FAILED", exit_code=50, duration_ms=61_000)
    failed = json.loads(cli("list", "--state", "failed", "--json").stdout)["data"]["runs"]
    assert [run["run_id"] for run in failed] == [other]
    row = cli("list").stdout.splitlines()[2].split()
    assert row[:5] == [other, "FAILED", "50", "2026-01-02", "03:04Z"]
    assert "1 min 01 s" in cli("list").stdout


def test_status_tells_of_the_daemon_and_what_runs(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.change(state="RUNNING", phase="following", steps=[step_view(0, "test", "RUNNING")])
    out = cli("status").stdout
    assert out.startswith("rchd 0.1.0: ok, pid ")
    assert RUN_ID in out
    one = cli("status", RUN_ID[:9]).stdout
    assert one.startswith("RUNNING: test\n")
    assert json.loads(cli("status", "--json").stdout)["data"]["daemon"]["status"] == "ok"


def test_an_unknown_run_is_exit_2_with_a_hint(cli: Cli, daemon: FakeDaemon) -> None:
    assert daemon.runs
    result = cli("status", "nothing-such")
    assert result.returncode == 2
    assert result.stderr == "rchctl: no run 'nothing-such'\n  hint: see the runs: rchctl list\n"


def test_cancel_is_done_when_the_intent_is_durable(cli: Cli, daemon: FakeDaemon) -> None:
    result = cli("cancel", "latest")
    assert (result.returncode, result.stdout) == (0, f"run {RUN_ID}: cancelling\n")
    assert daemon.wait_for("runs.cancel") == {"run": "latest", "reason": "USER"}


@pytest.mark.spec("12")
def test_a_list_that_is_more_than_a_message_is_asked_for_again_until_it_is_whole(
    cli: Cli, daemon: FakeDaemon
) -> None:
    runs = [run_view(f"0198c2f0-7a11-7c3e-9b52-{number:012d}") for number in range(7)]
    ids = [run["run_id"] for run in runs]

    def two_at_a_time(params: dict[str, Any], _connection: object) -> dict[str, Any]:
        begin = ids.index(params["before"]) + 1 if "before" in params else 0
        end = begin + min(params["limit"], 2)
        return {"runs": runs[begin:end], "more": params["limit"] > 2 and end < len(runs)}

    daemon.on("runs.list", two_at_a_time)
    for limit in (1000, 5, 1):
        listed = json.loads(cli("list", "--json", "--limit", str(limit)).stdout)["data"]["runs"]
        assert [run["run_id"] for run in listed] == ids[:limit]


def test_workers_are_listed_and_probed(cli: Cli, daemon: FakeDaemon) -> None:
    worker = {
        "name": "studio",
        "transport": "ssh",
        "host": "studio.local",
        "priority": 10,
        "tags": ["ios", "fast"],
        "status": "failed",
        "detail": "host key\x1b[2J differs",
    }
    view = {"workers": [worker], "inventory": "/c/workers.toml", "embedded": False}
    daemon.on("workers.probe", view)
    probed = cli("workers", "probe", "studio")
    out = probed.stdout
    assert probed.returncode == 20
    assert "no worker answers: studio: host key differs" in probed.stderr
    assert json.loads(cli("workers", "probe", "--json").stdout)["data"]["workers"][0]["status"] == "failed"
    daemon.on("workers.probe", {**view, "workers": [worker, {**worker, "status": "ok"}]})
    assert cli("workers", "probe").returncode == 0
    assert daemon.wait_for("workers.probe") == {"name": "studio"}
    assert out.splitlines()[1].split()[:6] == ["studio", "failed", "ssh", "studio.local", "10", "ios,fast"]
    assert "host key differs" in out
    daemon.on("workers.list", {**view, "workers": [], "embedded": True})
    listed = cli("workers", "list")
    assert (listed.returncode, listed.stdout) == (0, "")
    assert "the embedded worker on this machine serves" in listed.stderr


def test_what_went_on_the_workers_is_told_with_its_sum(cli: Cli, daemon: FakeDaemon) -> None:
    entry = {
        "kind": "source",
        "name": "ab" * 32,
        "bytes": 2_000_000,
        "age_seconds": 90_000,
        "reason": "over",
    }
    totals = [{"kind": "source", "entries": 1, "bytes": 2_000_000}]
    studio = {"name": "studio", "entries": [entry], "totals": totals, "more": False, "error": None}
    mini = {"name": "mini", "entries": [], "totals": [], "more": False, "error": "no route to host"}
    bare = {**mini, "name": "bare", "error": None}
    daemon.on("workers.gc", {"dry_run": True, "workers": [studio, mini, bare]})
    done = cli("workers", "gc", "--dry-run")
    assert done.returncode == 0
    assert daemon.wait_for("workers.gc") == {"dry_run": True}
    assert done.stdout.splitlines()[1].split() == [
        "studio", "source", ("ab" * 32)[:40], "2.0", "MB", "1", "d", "over",
    ]  # fmt: skip
    for line in (
        "studio: 2.0 MB would go (1 source)", "mini: no route to host", "bare: nothing is over"
    ):  # fmt: skip
        assert line in done.stderr


def test_a_gc_that_reaches_no_worker_fails_as_a_probe_does(cli: Cli, daemon: FakeDaemon) -> None:
    mini = {"name": "mini", "entries": [], "totals": [], "more": False, "error": "no route to host"}
    daemon.on("workers.gc", {"dry_run": False, "workers": [mini]})
    done = cli("workers", "gc", "mini", "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["kind"]) == (20, "SSH")
    assert daemon.wait_for("workers.gc") == {"dry_run": False, "name": "mini"}
    daemon.on("workers.gc", Failure(Kind.USAGE, "no worker 'x' in the inventory"))
    assert "hint: rchctl workers list" in cli("workers", "gc", "x").stderr


def test_a_probe_without_any_worker_that_answers_keeps_the_refusal_s_code(
    cli: Cli, daemon: FakeDaemon
) -> None:
    daemon.on("workers.probe", Failure(Kind.SSH, "studio: no route to host", subkind="UNREACHABLE"))
    assert cli("workers", "probe").returncode == 20


def test_a_run_whose_folder_was_removed_says_so(cli: Cli, daemon: FakeDaemon, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    steps = [step_view(0, "build", "SUCCEEDED", log_path=str(gone / "build.log"))]
    daemon.change(state="SUCCEEDED", exit_code=0, run_dir=str(gone), steps=steps)
    done = cli("artifacts", "latest")
    assert done.returncode == 70
    assert "its folder was removed" in done.stderr
    assert "run the same command again" not in done.stderr
    done = cli("tail", "latest")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"rchctl: the logs of run {RUN_ID} are gone: {gone}\n"
