"""The database is lost, and everything that was accepted comes back from the artifacts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.lab import Lab, lab
from support.until import until, waiting_project

PATIENCE = 60.0  # seconds, on a machine with other work


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


def rchd(user: Lab, *args: str) -> tuple[int, dict[str, Any]]:
    """`rchd … --json` from beginning to end."""
    done = subprocess.run(
        [sys.executable, "-m", "rchd", *args, "--json"],
        env=user.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["exit_code"] == done.returncode
    return done.returncode, answer


def state(user: Lab) -> Path:
    return user.home / "state"


def lose_database(user: Lab) -> None:
    """As an `rm` in the wrong folder."""
    for path in state(user).glob("rchd.db*"):
        path.unlink()


def kill(user: Lab) -> None:
    """The daemon is gone, and its locks with it."""
    pid = user.daemon_pid
    user.kill_daemon()
    until(lambda: not Path(f"/proc/{pid}/exe").exists(), PATIENCE)


def seen(user: Lab) -> dict[str, Any]:
    """All that a user can see of the runs."""
    runs = user.json("list")["data"]["runs"]
    found: dict[str, Any] = {"list": runs}
    for run in runs:
        run_id = run["run_id"]
        found[f"status {run_id}"] = user.json("status", run_id)
        found[f"artifacts {run_id}"] = user.json("artifacts", run_id)
        found[f"log {run_id}"] = user.rchctl("tail", run_id).stdout
    return found


def rows(user: Lab) -> list[Any]:
    """The runs of the rebuilt database, to compare one rebuild with another."""
    from rchd.edges.store import SqliteStore

    store = SqliteStore.open(state(user) / "rchd.db")
    try:
        loaded = store.load(active_only=False)
        return [loaded.runs, loaded.jobs, loaded.last_event_seq]
    finally:
        store.close()


@pytest.mark.spec("4")
@pytest.mark.fault("H9")
def test_what_ended_is_the_same_as_before_and_so_it_stays(user: Lab) -> None:
    assert user.rchctl("verify", cwd=user.project()).returncode == 0
    assert user.rchctl("verify", cwd=user.project("red", build="exit 1")).returncode == 50
    before = seen(user)
    code, answer = rchd(user, "--rebuild", "--force")
    assert (code, answer["error"]["subkind"]) == (4, "ALREADY_RUNNING")
    assert f"pid {user.daemon_pid}" in answer["error"]["message"]
    user.stop()
    code, answer = rchd(user, "--rebuild")
    assert code == 4
    assert "is sound" in answer["error"]["message"]

    lose_database(user)
    code, answer = rchd(user, "check")
    assert code == 4
    assert "rchd --rebuild" in answer["error"]["hint"]
    code, answer = rchd(user, "--rebuild")
    assert (code, answer["data"]["left_out"], answer["data"]["aside"]) == (0, [], None)
    assert [(run["state"], run["notes"]) for run in answer["data"]["runs"]] == [
        ("SUCCEEDED", []),
        ("FAILED", []),
    ]
    once = rows(user)
    assert rchd(user, "check", "--read-data")[1]["data"]["findings"] == []
    code, answer = rchd(user, "--rebuild", "--force")
    assert code == 0
    assert Path(answer["data"]["aside"]).is_file()
    assert rows(user) == once
    assert seen(user) == before
    assert user.rchctl("run", "--action", "build", cwd=user.root / "project").returncode == 0
    assert user.rchctl("check", "--read-data").returncode == 0
    left = {path.name for path in state(user).glob("rchd.db*")}
    assert not {name for name in left if name.endswith((".rebuild", ".rebuilt"))}


@pytest.mark.spec("4")
@pytest.mark.fault("H9")
@pytest.mark.fault("H1")
def test_what_ran_and_what_waited_go_on(user: Lab) -> None:
    project, marker, gate = waiting_project(user)
    count = user.root / "executions"
    (project / "build.sh").write_text(f'echo x >> "{count}"\n' + (project / "build.sh").read_text())
    quick = user.project("quick")
    first = user.json("submit", cwd=project)["data"]
    until(marker.exists, PATIENCE)
    build = ("submit", "--action", "build")
    queued = [user.json(*build, cwd=quick)["data"] for _ in range(2)]
    gone = user.json(*build, cwd=quick)["data"]["run_id"]
    user.json("cancel", gone)
    kill(user)
    lose_database(user)

    code, answer = rchd(user, "--rebuild")
    assert (code, answer["data"]["left_out"]) == (0, [])
    assert [(run["run_id"], run["state"], run["seq"]) for run in answer["data"]["runs"]] == [
        (first["run_id"], "RUNNING", 2),
        *((run["run_id"], "QUEUED", 1) for run in queued),
        (gone, "CANCELLED", 2),
    ]
    assert user.rchctl("check").returncode == 0  # before any daemon has touched it
    gate.touch()
    for run in (first, *queued):
        assert user.rchctl("wait", run["run_id"]).returncode == 0
    done = [user.json("status", run["run_id"])["data"] for run in (first, *queued)]
    assert [(run["state"], run["seq"]) for run in done] == [("SUCCEEDED", 3)] * 3
    assert [run["updated_at"] for run in done] == sorted(run["updated_at"] for run in done)
    for before, after in zip((first, *queued), done, strict=True):
        assert [step["job_id"] for step in after["steps"]] == [step["job_id"] for step in before["steps"]]
    assert count.read_text() == "x\n"
    assert user.json("status", gone)["data"]["state"] == "CANCELLED"
    # No lease stays behind: the next run has its slot at once.
    assert user.rchctl("run", "--action", "build", "--no-queue", cwd=quick).returncode == 0
    assert user.rchctl("check", "--read-data").returncode == 0


@pytest.mark.spec("4")
@pytest.mark.fault("H9")
def test_a_cancel_outlives_the_database(user: Lab) -> None:
    """The intent stands in `run_state.json`; the job that ran is ended at its worker."""
    project, marker, _ = waiting_project(user)
    run_id = user.json("submit", "--action", "build", cwd=project)["data"]["run_id"]
    until(marker.exists, PATIENCE)
    kill(user)
    path = user.home / "data" / "artifacts" / "xcode" / run_id / "run_state.json"
    told = json.loads(path.read_text())
    intent = {"reason": "USER", "requested_at": told["updated_at"]}
    path.write_text(json.dumps({**told, "cancel": intent}))
    lose_database(user)
    assert rchd(user, "--rebuild")[0] == 0
    assert user.rchctl("wait", run_id).returncode == 80
    run = user.json("status", run_id)["data"]
    assert (run["state"], run["steps"][0]["state"]) == ("CANCELLED", "CANCELLED")
    assert "started" in user.rchctl("tail", run_id).stdout


@pytest.mark.spec("4")
@pytest.mark.fault("H9")
def test_nothing_is_taken_for_green_that_is_damaged(user: Lab) -> None:
    gate, marker = user.root / "gate", user.root / "marker"
    waits = f'touch "{marker}"; while [ ! -e "{gate}" ]; do sleep 0.02; done; exit 1'
    run_id = user.json("submit", cwd=user.project(test=waits))["data"]["run_id"]
    until(marker.exists, PATIENCE)
    kill(user)
    gate.touch()
    folder = user.home / "data" / "artifacts" / "xcode" / run_id
    log = next(folder.glob("steps/build/*/build.log"))
    log.write_bytes(log.read_bytes().swapcase())
    shutil.copytree(folder, folder.with_name("run-copied-0001"))
    lose_database(user)
    code, answer = rchd(user, "--rebuild")
    assert code == 70
    assert [Path(each["path"]).name for each in answer["data"]["left_out"]] == ["run-copied-0001"]
    assert "build.log" in answer["data"]["runs"][0]["notes"][0]
    assert user.rchctl("wait", run_id).returncode == 70
    assert user.json("status", run_id)["data"]["failure_subkind"] == "INTEGRITY_MISMATCH"


@pytest.mark.spec("4")
def test_rchctl_check_passes_on_what_the_program_says(user: Lab) -> None:
    assert user.rchctl("run", "--action", "build", cwd=user.project()).returncode == 0
    whole = user.rchctl("check", "--read-data")
    assert whole.returncode == 0, whole.stdout
    assert "1 run, 1 published set," in whole.stdout
    assert user.json("check")["data"]["daemon_runs"] is True
    run = user.json("status", "latest")["data"]
    next(Path(run["run_dir"]).glob("steps/build/*/build.log")).unlink()
    for words in (("check",), ("check", "--json")):
        told = user.rchctl(*words)
        assert told.returncode == 70
        assert "build.log: missing" in told.stdout
    answer = user.json("check")
    assert (answer["ok"], answer["command"], answer["error"]["kind"]) == (False, "check", "ARTIFACTS")
    other = user.rchctl("check", env={"RCH_RCHD": str(user.root / "no-such-program")})
    assert other.returncode == 4
    assert "RCH_RCHD" in other.stderr
    silent = user.rchctl("check", "--json", env={"RCH_RCHD": "true"})
    assert (silent.returncode, json.loads(silent.stdout)["error"]["kind"]) == (4, "DAEMON")
