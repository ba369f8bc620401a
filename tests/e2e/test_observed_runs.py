"""What a daemon tells of itself after real runs: metrics, lines of the log, and what its gc removes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.lab import Lab, lab
from support.until import until

pytestmark = pytest.mark.spec("12")


def configured(user: Lab, text: str) -> None:
    path = user.home / "config" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


def lines(user: Lab, event: str) -> list[dict[str, Any]]:
    log = (user.home / "state" / "rchd.log").read_text().splitlines()
    return [line for line in map(json.loads, log) if line["event"] == event]


def test_a_run_is_one_line_and_counted_and_scraped(user: Lab) -> None:
    file = user.root / "rch.prom"
    user.env["RCH_LOG"] = "debug"
    configured(user, f'[metrics]\ntextfile = "{file}"\ninterval_seconds = 1\n')
    view = user.json("verify", cwd=user.project())["data"]
    red = user.json("run", "--action", "build", cwd=user.project("red", build="exit 1"))["data"]

    good, bad = lines(user, "run.ended")
    assert (good["run_id"], good["project"], good["state"]) == (view["run_id"], "project", "SUCCEEDED")
    assert (good["exit_code"], good["worker"], good["steps"]) == (0, "local", 2)
    for name in ("duration_ms", "queue_ms", "bundle_ms", "upload_ms", "job_ms", "fetch_ms", "source_bytes"):
        assert isinstance(good[name], int), name
    assert good["fetch_bytes"] > 0
    assert good["duration_ms"] >= good["queue_ms"]
    assert (bad["run_id"], bad["kind"], bad["exit_code"]) == (red["run_id"], "SWIFTPM", 50)

    submitted = next(each for each in lines(user, "rpc.answered") if each["method"] == "runs.submit")
    assert (submitted["level"], submitted["outcome"]) == ("info", "ok")
    assert submitted["client"].startswith("rchctl ")
    assert {each["level"] for each in lines(user, "rpc.answered") if each["method"] == "hello"} == {"debug"}

    told = user.json("metrics")["data"]["samples"]
    numbers = {(each["name"], *each["labels"].values()): each["value"] for each in told}
    assert numbers["rch_runs_total", "none", "SUCCEEDED"] == 1
    assert numbers["rch_runs_total", "SWIFTPM", "FAILED"] == 1
    assert numbers["rch_run_duration_seconds_count", "SUCCEEDED"] == 1
    assert numbers["rch_run_queue_seconds_count",] == 2
    assert numbers["rch_stage_duration_seconds_count", "bundle"] == 2
    assert numbers["rch_stage_duration_seconds_count", "job"] == 2
    assert numbers["rch_transfer_bytes_total", "fetch"] > 0
    assert numbers["rch_rpc_total", "runs.submit", "ok"] == 2
    assert numbers["rch_commit_duration_seconds_count",] > 4
    assert numbers["rch_worker_call_duration_seconds_count", "reserve"] == 2
    assert numbers["process_open_fds",] > 0

    until(lambda: file.exists() and 'rch_runs_total{kind="none",state="SUCCEEDED"} 1' in file.read_text())


@pytest.mark.spec("11")
def test_gc_names_old_runs_then_removes_them_and_keeps_what_is_pinned(user: Lab) -> None:
    configured(user, "[gc]\nkeep_runs = 1\nmax_runs = 1\n")
    project = user.project(build="echo built")
    ids = [
        user.json("run", "--no-cache", "--action", "build", cwd=project)["data"]["run_id"] for _ in range(3)
    ]
    artifacts = user.home / "data" / "artifacts" / "xcode"
    assert user.rchctl("gc", "--keep", ids[0]).stdout == f"{ids[0]} is kept for good\n"
    named = user.json("gc", "--dry-run")["data"]
    assert [(each["run_id"], each["kind"], each["error"]) for each in named["entries"]] == [
        (ids[1], "run", None)
    ]
    assert (named["runs"], named["kept_runs"], named["pinned"]) == (1, 2, [ids[0]])
    assert named["held"] == {"newest": 1, "pinned": 1}
    assert len(list(artifacts.iterdir())) == 3
    done = user.rchctl("gc")
    assert done.returncode == 0
    assert "over 1 runs are kept" in done.stdout
    assert "1 run went" in done.stderr
    assert sorted(each.name for each in artifacts.iterdir()) == [ids[0], ids[2]]
    assert user.json("status", ids[1])["exit_code"] == 2
    assert user.json("check")["exit_code"] == 0


def test_a_config_that_is_none_is_told_and_no_daemon_starts(user: Lab) -> None:
    configured(user, "[gc]\nkeep_rnus = 3\n")
    done = user.rchctl("daemon", "start")
    assert done.returncode == 4
    assert "unknown key gc.keep_rnus; the nearest known key is gc.keep_runs" in done.stderr
