"""What a run would be, without one: `verify --dry-run` and `workers explain`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from support.lab import Lab, lab

XCODE_TOML = """schema_version = 1
backend = "xcodebuild"
[project]
project = "App.xcodeproj"
schemes = ["App"]
[destination]
value = "platform=iOS Simulator,name=iPhone 16,OS=latest"
"""


def worker(name: str, **keys: object) -> str:
    """An inventory entry for this machine's worker under another name."""
    command = [sys.executable, "-m", "worker_agent", "xcode", "rpc"]
    lines = {"name": name, "transport": "local", "command": command, **keys}
    return "[[worker]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())


def nothing_ran(user: Lab) -> bool:
    """No run, no lease, no source and no job anywhere."""
    state = ("jobs", "sources", "leases")
    left = [each for each in user.worker_home.rglob("*") if each.is_file() and {*state} & {*each.parts}]
    return user.json("list")["data"]["runs"] == [] and not left and not [*user.home.rglob("run_state.json")]


@pytest.mark.spec("7")
def test_a_dry_run_has_the_keys_of_the_run_that_follows_and_leaves_nothing(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        project = user.project()
        planned = user.json("verify", "--dry-run", cwd=project)
        assert planned["exit_code"] == 0
        assert nothing_ran(user)
        told = planned["data"]
        assert [step["argv"] for step in told["steps"]] == [
            ["swift", "build", "--configuration", "debug"],
            ["swift", "test", "--configuration", "debug"],
        ]
        assert told["timeouts"]["overall_seconds"] == 1800

        run = user.json("verify", cwd=project)["data"]
        assert any(each.is_file() and "sources" in each.parts for each in user.worker_home.rglob("*"))
        assert run["state"] == "SUCCEEDED"
        assert run["source_sha256"] == told["source"]["source_sha256"]
        for step in told["steps"]:
            (folder,) = Path(run["run_dir"]).glob(f"steps/{step['action']}/*")
            assert json.loads((folder / "job.json").read_text())["job_key"] == step["job_key"]
            inputs = json.loads((folder / "job_key_inputs.json").read_text())
            assert inputs == step["job_key_inputs"]
        chosen = json.loads((Path(run["run_dir"]) / "worker_selection.json").read_text())
        assert chosen["selected_worker"] == told["selection"]["chosen"] == "local"

        (project / "more.txt").write_text("more")
        again = user.json("verify", "--dry-run", "--set", "timeouts.overall_seconds=99", cwd=project)[
            "data"
        ]
        assert again["timeouts"]["overall_seconds"] == 99
        assert {step["job_key"] for step in again["steps"]}.isdisjoint(s["job_key"] for s in told["steps"])


@pytest.mark.spec("7")
def test_a_dry_run_in_words_and_of_one_command(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        project = user.project()
        done = user.rchctl("run", "--action", "build", "--dry-run", cwd=project)
        assert (done.returncode, done.stderr) == (0, "")
        runs = "runs         swift build --configuration debug"
        for words in ("nothing is run", runs, "job_key", "embedded worker"):
            assert words in done.stdout
        assert "step 1" not in done.stdout
        line = ("exec", "--json", "--dry-run", "--", "swift", "test", "-j", "2")
        one = json.loads(user.rchctl(*line, cwd=project).stdout)["data"]
        assert [step["argv"] for step in one["steps"]] == [["swift", "test", "--jobs", "2"]]
        assert nothing_ran(user)


@pytest.mark.spec("6", "7")
def test_a_dry_run_fails_as_the_run_would(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        project = user.project()
        lacking = user.json("verify", "--dry-run", "--set", "toolchain.swift_version=4.0", cwd=project)
        assert lacking["exit_code"] == 91
        assert lacking["error"]["subkind"] == "NO_TOOLCHAIN"
        assert "Swift 4.0 is wanted" in lacking["data"]["selection"]["workers"][0]["reason"]
        config = user.json("verify", "--dry-run", "--set", "timeouts.idle=1", cwd=project)
        assert config["exit_code"] == 3
        (project / ".rch").mkdir()
        (project / ".rch" / "xcode.toml").write_text(
            '[[actions.step]]\naction = "test"\nonly_testing = ["A"]\nconfiguration = "release"\n'
        )
        assert user.json("verify", "--dry-run", cwd=project)["data"]["steps"][0]["scope"] == ["--filter=A"]
        assert nothing_ran(user)


@pytest.mark.spec("7")
def test_every_worker_is_told_in_the_order_of_selection(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        user.workers(
            worker("late", priority=200)
            + worker("first", priority=1)
            + worker("tagged", tags=["fast"])
            + worker("gone", command=["/nonexistent"])
        )
        project = user.project()
        told = user.json("workers", "explain", cwd=project)
        assert told["exit_code"] == 0
        rows: list[dict[str, Any]] = told["data"]["workers"]
        assert [each["worker"] for each in rows] == ["first", "tagged", "late", "gone"]
        assert [each["rank"] for each in rows] == [0, 1, 2, None]
        assert rows[0]["toolchain"]["swift_version"] == "6.0.1"
        assert rows[2]["reason"] == "could serve: asked if tagged has no free slot"
        assert rows[3]["reason"].startswith("probe failed: ")
        fast = user.json("workers", "explain", "--set", 'selection.tags=["fast"]', cwd=project)["data"]
        assert (fast["chosen"], fast["workers"][0]["snapshot"]) == ("tagged", "cached")
        assert [each["reason"] for each in fast["workers"]][1:] == ["lacks the tag 'fast'"] * 3
        table = user.rchctl("workers", "explain", "--action", "build", cwd=project).stdout
        names = [line.split()[0] for line in table.splitlines()]
        assert names == ["WORKER", "first", "tagged", "late", "gone"]
        assert nothing_ran(user)


@pytest.mark.spec("7")
def test_an_xcode_project_without_a_mac_fails_at_once_with_what_each_worker_lacks(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        user.workers(worker("one") + worker("two"))
        project = tmp_path / "app"
        (project / "App.xcodeproj").mkdir(parents=True)
        (project / "App.xcodeproj" / "project.pbxproj").write_text("// !$*UTF8*$!\n")
        (project / ".rch").mkdir()
        (project / ".rch" / "xcode.toml").write_text(XCODE_TOML)
        why = "rch-worker there does not offer the backend xcodebuild"
        told = user.json("workers", "explain", cwd=project)
        assert (told["exit_code"], told["error"]["subkind"]) == (91, "FEATURE_MISSING")
        assert [each["reason"] for each in told["data"]["workers"]] == [why, why]
        run = user.json("verify", cwd=project)
        assert (run["exit_code"], run["error"]["subkind"]) == (91, "FEATURE_MISSING")
        for name in ("one", "two"):
            assert f"{name}: {why}" in run["error"]["message"]
