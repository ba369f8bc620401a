"""Less than the gate, again, and on stand-in tools: each says what it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.lab import FAILING_TEST, PACKAGES, Lab, lab, run_files

NARROW = ("--set", "run.allow_narrowing=true")


@pytest.mark.swift
@pytest.mark.faults_long  # below it is tried with a stand-in
@pytest.mark.timeout(300)  # two builds from nothing, on a machine that may be busy
@pytest.mark.skipif(shutil.which("swift") is None, reason="no Swift toolchain on PATH")
@pytest.mark.spec("6", "9")
def test_a_filter_narrows_and_a_rerun_runs_what_failed(tmp_path: Path) -> None:
    with lab(tmp_path, stand_in=False) as user:
        project = user.copy(PACKAGES / "failing")
        words = ("run", "--action", "test", "--filter", "SumTests", *NARROW)
        run = user.json(*words, cwd=project)["data"]
        assert (run["failure_subkind"], run["scope"]) == ("TESTS_FAILED", ["--filter=SumTests"])
        told = json.loads(run_files(Path(run["run_dir"]))["test/test_summary"].read_text())
        assert (told["total"], told["failed"]) == (2, 1)

        again = user.json("rerun", "--failed", "latest")["data"]
        assert again["failure_subkind"] == "TESTS_FAILED"
        (scope,) = again["scope"]
        assert "SumTests/testOfNone" in scope
        files = run_files(Path(again["run_dir"]))
        told = json.loads(files["test/test_summary"].read_text())
        assert (told["total"], told["failed"]) == (1, 1)
        summary = json.loads((Path(again["run_dir"]) / "run_summary.json").read_text())
        assert summary["scope"] == [scope]
        assert "narrowed" in user.rchctl("status", again["run_id"]).stdout


@pytest.mark.spec("6")
def test_what_the_project_does_not_allow_is_refused_with_the_key_that_allows_it(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        project = user.project()
        answer = user.json("verify", "--filter", "AppTests", cwd=project)
        assert answer["exit_code"] == 10
        assert answer["error"]["kind"] == "CLASSIFIER_REJECTED"
        assert "run.allow_narrowing = true" in answer["error"]["hint"]
        answer = user.json("verify", "--only-testing", "AppTests", cwd=project)
        assert answer["exit_code"] == 2
        assert "--filter" in answer["error"]["hint"]
        answer = user.json("run", "--action", "build", "--filter", "AppTests", cwd=project)
        assert answer["exit_code"] == 2
        assert "data" not in answer


@pytest.mark.spec("9", "12")
def test_a_narrowed_success_is_said_to_be_one_and_can_be_had_again(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        project = user.project()
        done = user.rchctl("verify", "--skip", "Slow", *NARROW, cwd=project)
        assert done.returncode == 0, done.stderr
        assert "verdict: SUCCEEDED (narrowed)\n" in done.stdout
        assert "  narrowed   --skip=Slow: this is not the full gate\n" in done.stdout
        assert "SUCCEEDED (narrowed)" in user.rchctl("list").stdout
        (project / "new.txt").write_text("what is there now counts\n")
        again = user.json("rerun", "latest")["data"]
        first = user.json("list")["data"]["runs"][1]
        assert (again["state"], again["scope"]) == ("SUCCEEDED", ["--skip=Slow"])
        assert again["source_sha256"] != first["source_sha256"]
        answer = user.json("rerun", "--failed", "latest")
        assert (answer["exit_code"], answer["error"]["kind"]) == (2, "USAGE")
        assert "no test failed" in answer["error"]["message"]


@pytest.mark.spec("6", "12")
@pytest.mark.unlike_schema("a record is spoiled, to see that it is not read")
def test_what_failed_is_read_from_the_verified_set_and_nowhere_else(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        project = user.project(test=FAILING_TEST)
        run = user.json("verify", *NARROW, cwd=project)["data"]
        assert run["failure_subkind"] == "TESTS_FAILED"
        done = user.rchctl("rerun", "--failed", "--detach", run["run_id"])
        assert done.returncode == 0, done.stderr
        again = user.json("status", done.stdout.strip())["data"]
        assert again["scope"] == ["--filter=^AppTests\\.Sum/testTwo(/|$)"]
        assert [step["action"] for step in again["steps"]] == ["build", "test"]
        user.rchctl("cancel", again["run_id"])

        (told,) = Path(run["run_dir"]).glob("steps/test/*/test_summary.json")
        told.write_text("{}")
        answer = user.json("rerun", "--failed", run["run_id"])
        assert (answer["exit_code"], answer["error"]["kind"]) == (2, "USAGE")
        assert "step test" in answer["error"]["message"]
        assert f"rchctl rerun {run['run_id']}" in answer["error"]["hint"]
        whole = user.json("rerun", run["run_id"])["data"]
        assert (whole["failure_subkind"], whole["scope"]) == ("TESTS_FAILED", [])


def simulated(user: Lab) -> None:
    """Give the simulated worker the toolchain of the lab; stand-ins for Xcode are not needed here."""
    config = user.home / "state" / "simulated-worker" / "config"
    config.mkdir(parents=True)
    config.joinpath("worker.toml").write_text((user.worker_home / "config" / "worker.toml").read_text())


@pytest.mark.spec("9")
def test_every_line_and_every_record_of_a_simulation_says_so(tmp_path: Path) -> None:
    with lab(tmp_path) as user:
        simulated(user)
        project = user.project()
        done = user.rchctl("verify", "--simulate", cwd=project)
        assert done.returncode == 0, done.stderr
        lines = (done.stdout + done.stderr).splitlines()
        assert [line for line in lines if not line.startswith("simulated: ")] == []
        assert "simulated: building" in lines
        assert "simulated: SIMULATED: passed (stand-in tools, no verdict)" in lines
        run = user.json("status", "latest")["data"]
        assert (run["simulated"], run["worker"], run["exit_code"]) == (True, "local-simulated", 0)
        marked = {
            path.name: json.loads(path.read_text())["simulated"]
            for path in Path(run["run_dir"]).rglob("*.json")
            if path.name in {"summary.json", "attestation.json", "run_summary.json"}
        }
        assert set(marked) == {"summary.json", "attestation.json", "run_summary.json"}
        assert set(marked.values()) == {True}
        for verb in ("status", "tail", "artifacts", "wait"):
            shown = user.rchctl(verb, "latest")
            every = (shown.stdout + shown.stderr).splitlines()
            assert every
            assert all(line.startswith("simulated: ") for line in every), shown
        assert "SIMULATED: passed" in user.rchctl("list").stdout
        # Beside it a real run is what it always was.
        real = user.json("verify", cwd=project)["data"]
        assert (real["simulated"], real["worker"]) == (False, "local")
        detached = user.rchctl("submit", "--simulate", cwd=project)
        assert detached.stdout.strip() == user.json("list")["data"]["runs"][0]["run_id"]
        assert detached.stderr == "simulated: rchctl: a simulation: its tools are stand-ins\n"
        user.rchctl("wait", "latest")
