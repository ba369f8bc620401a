"""`rchctl workers gc`, from the command line to the worker's disk."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import fake_worker
from support.lab import Lab, lab
from support.worker_pipe import until

from rch.files.locks import is_free

pytestmark = pytest.mark.spec("11")


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


def test_an_old_job_is_named_and_then_removed(user: Lab) -> None:
    run = user.json("run", "--action", "build", cwd=user.project(build="echo built"))["data"]
    data = user.worker_home / "data"
    # The daemon gives the lease back in its own time, and a sweep of the worker's own follows.
    until(lambda: not list((data / "runs").iterdir()), 30)
    sweep = data.parent / "state" / "locks" / "sweep.lock"
    until(lambda: sweep.exists() and is_free(sweep))
    (job,) = (data / "jobs").iterdir()
    old = time.time() - 8 * 86_400
    os.utime(job / "state.json", (old, old))

    def named() -> list[dict[str, str]]:
        (worker,) = user.json("workers", "gc", "--dry-run")["data"]["workers"]
        return [{key: each[key] for key in ("kind", "name")} for each in worker["entries"]]

    assert named() == [{"kind": "job", "name": job.name}]
    assert job.is_dir()
    done = user.rchctl("workers", "gc")
    assert done.returncode == 0
    assert "at its end for long" in done.stdout
    assert not job.exists()
    assert user.json("workers", "gc")["data"]["workers"][0]["entries"] == []
    assert user.json("status", run["run_id"])["exit_code"] == 0  # the host has its own


def test_a_worker_that_cannot_be_asked_keeps_no_other_from_answering(user: Lab) -> None:
    old = list(fake_worker.command("honest"))
    user.workers(
        '[[worker]]\nname = "here"\ntransport = "local"\n\n'
        f'[[worker]]\nname = "old"\ntransport = "local"\ncommand = {old!r}\n\n'
        '[[worker]]\nname = "gone"\ntransport = "local"\ncommand = ["/nowhere/at/all"]\n'
    )
    asked = user.json("workers", "gc", "--dry-run")
    found = {each["name"]: each["error"] for each in asked["data"]["workers"]}
    assert asked["exit_code"] == 0
    assert found["here"] is None
    assert "older" in found["old"]
    assert found["gone"]
    assert user.json("workers", "gc", "old")["exit_code"] == 20
    refused = user.json("workers", "gc", "nobody")
    assert refused["exit_code"] == 2
    assert "known: here, old, gone" in refused["error"]["message"]
