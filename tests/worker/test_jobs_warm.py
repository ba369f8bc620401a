"""Warm workspaces and shared caches under a whole worker."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.small_disk import fill, small_disk
from support.stored import a_worker, job_of
from support.worker_pipe import (
    MANIFEST,
    Bench,
    Pipe,
    Refused,
    a_bench,
    artifacts,
    follow,
    is_running,
    submit,
    submit_and_end,
    summary,
    supervisor_of,
    tail_until,
    tar,
    until,
)

from rch.contract.errors import Failure
from rch.contract.records import Job, Metrics, decode_record
from rch.files.locks import is_free
from rch.files.paths import worker_paths
from worker_agent.cache_keys import CacheConfig, lock_path, toolchain_key
from worker_agent.caches import JobCaches
from worker_agent.kept import DIRTY, KeptFolder

pytestmark = pytest.mark.spec("11")

Files = Mapping[str, bytes | str]
WARM = {"namespace": "app", "workspace": "warm"}
SHARED = {"namespace": "app", "derived_data": "shared"}
HERE = 'cd "$(dirname "$0")"; '
WAIT = 'echo up; while [ ! -e "$HOME/go" ]; do sleep 0.02; done\n'


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as bench:
        yield bench


def source(script: str = "", **files: str) -> dict[str, bytes | str]:
    """A package of four files and more; `build.sh` is what its build does."""
    return {
        "Package.swift": MANIFEST,
        "build.sh": script,
        "A.swift": "a\n",
        "Sources/B.swift": "b\n",
        **files,
    }


def a_job(bench: Bench, pipe: Pipe, files: Files, cache: Mapping[str, str] = WARM, **more: Any) -> Job:
    config = {
        "backend": "swiftpm",
        "project": {"package": "."},
        "cache": {"results": False, **cache},
        **more,
    }
    return bench.job(pipe, bench.upload(pipe, tar(files)), config=config)


def counts(bench: Bench, job: Job, attempt: int = 1) -> tuple[int, int, int, int]:
    """Written, removed, kept, warm."""
    path = artifacts(bench, job, attempt) / "metrics.json"
    told = decode_record(path.read_bytes(), Metrics).counts
    written, removed, kept = (told[f"workspace_files_{name}"] for name in ("written", "removed", "kept"))
    return written, removed, kept, told["workspace_warm"]


def events(bench: Bench, job: Job, kind: str, attempt: int = 1) -> list[dict[str, Any]]:
    lines = (artifacts(bench, job, attempt) / "events.jsonl").read_text().splitlines()
    return [event["data"] for event in map(json.loads, lines) if event["type"] == kind]


def notes(bench: Bench, job: Job, attempt: int = 1) -> str:
    return "\n".join(str(note["text"]) for note in events(bench, job, "note", attempt))


def slots(bench: Bench) -> list[Path]:
    return sorted((bench.data / "workspaces").glob("*/*/[0-9]*"))


def owner_is_gone(bench: Bench, job: Job) -> bool:
    return is_free(bench.home / "state" / "locks" / f"job-{job.job_id}.lock")


# --- workspaces -----------------------------------------------------------------------


def test_a_second_job_finds_tree_and_products_and_says_what_it_did(bench: Bench) -> None:
    products = HERE + "echo x >>../build/product; wc -l <../build/product; cat A.swift\n"
    hostile = products + "echo y >>A.swift; rm -r Sources; ln -s /etc Sources; chmod 0 Package.swift\n"
    with bench.pipe() as pipe:
        first = a_job(bench, pipe, source(hostile))
        assert submit_and_end(pipe, first) == "SUCCEEDED"
        second = a_job(bench, pipe, source(products))
        submit(pipe, second)
        log, _, state = follow(pipe, second.job_id)
    assert (log.split(), state) == (["2", "a"], "SUCCEEDED")
    (slot,) = slots(bench)
    assert (slot / "tree/Sources/B.swift").read_text() == "b\n"
    assert not (slot / "tree/Sources").is_symlink()
    assert counts(bench, first) == (4, 0, 0, 0)
    # The link that stood for a folder went; what the build changed and what the source did is new.
    written, removed, kept, warm = counts(bench, second)
    assert (written + kept, removed, warm) == (4, 1, 1)
    assert written >= 3
    stages = [event["name"] for event in events(bench, second, "stage") if event["state"] == "ended"]
    assert stages == ["sync", "build"]
    path = artifacts(bench, second) / "metrics.json"
    assert set(decode_record(path.read_bytes(), Metrics).stages_ms) == {"sync", "build"}
    said = f"workspace 0 of app / {slot.parent.name}, last used by {first.job_id}"
    assert notes(bench, second) == said
    assert not (bench.data / "runs" / second.run_id).exists()


@pytest.mark.fault("W1")
def test_two_jobs_of_a_namespace_at_once_have_a_slot_each(bench: Bench) -> None:
    bench.configure("max_concurrent_jobs = 2\n")
    with bench.pipe() as pipe:
        jobs = [a_job(bench, pipe, source(f"pwd; {WAIT}# {number}\n")) for number in range(2)]
        for job in jobs:
            submit(pipe, job)
            tail_until(pipe, job.job_id, "up")
        (bench.root / "go").touch()
        places = {follow(pipe, job.job_id)[0].splitlines()[0] for job in jobs}
    assert places == {str(slot / "tree") for slot in slots(bench)}
    assert len(places) == 2


@pytest.mark.fault("W1")
def test_a_slot_whose_job_was_lost_is_entered_when_its_processes_are_gone(bench: Bench) -> None:
    hang = 'trap "" INT TERM; echo $$ >"$HOME/pid"; ' + WAIT
    with bench.pipe() as pipe:
        job = a_job(bench, pipe, source(hang))
        submit(pipe, job)
        tail_until(pipe, job.job_id, "up")
        (slot,) = slots(bench)
        os.kill(supervisor_of(bench, job.job_id), signal.SIGKILL)
        until(lambda: owner_is_gone(bench, job))
        assert (slot / DIRTY).read_text() == job.job_id
        pid = int((bench.root / "pid").read_text())
        assert is_running(pid)
        following = a_job(bench, pipe, source())
        assert submit_and_end(pipe, following) == "SUCCEEDED"
        assert not is_running(pid)
        assert f"thrown away: job {job.job_id} did not come to its end in it" in notes(bench, following)
        assert counts(bench, following) == (4, 0, 0, 0)
        submit(pipe, job)
        tail_until(pipe, job.job_id, "up")
        pipe.ask("cancel", job_id=job.job_id, reason="USER")
        assert follow(pipe, job.job_id)[2] == "CANCELLED"
        assert "an execution of this job was lost" in notes(bench, job, 2)
        # Nothing short of KILL ended its tool: what that was writing is of no use.
        assert (slot / DIRTY).exists()


_DYING = """
import os, signal, sys
if "supervise" in sys.orig_argv and not os.path.exists(os.environ["HOME"] + "/died"):
    import worker_agent.sync as sync
    fill = sync._Sync._fill
    def dying(self, out, member):
        if member.path == "A.swift":
            open(os.environ["HOME"] + "/died", "x").close()
            os.kill(os.getpid(), signal.SIGKILL)
        fill(self, out, member)
    sync._Sync._fill = dying
"""


@pytest.mark.fault("W1")
def test_a_supervisor_that_is_killed_in_the_middle_of_a_sync(bench: Bench) -> None:
    site = bench.root / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_DYING)
    bench.env["PYTHONPATH"] = str(site)
    with bench.pipe() as pipe:
        job = a_job(bench, pipe, source())
        submit(pipe, job)
        until((bench.root / "died").exists)
        until(lambda: owner_is_gone(bench, job))
        following = a_job(bench, pipe, source("# next\n"))
        assert submit_and_end(pipe, following) == "SUCCEEDED"
        assert f"thrown away: job {job.job_id} did not come to its end in it" in notes(bench, following)
        assert submit_and_end(pipe, job) == "SUCCEEDED"
    assert summary(bench, job, 2).attempts == 2
    assert counts(bench, job, 2) == (4, 0, 0, 0)


@pytest.mark.fault("W9")
def test_a_disk_that_is_full_in_the_sync(tmp_path: Path) -> None:
    with a_bench(tmp_path) as bench, small_disk(bench.data, 4096) as disk, bench.pipe() as pipe:
        assert submit_and_end(pipe, a_job(bench, pipe, source())) == "SUCCEEDED"
        big = a_job(bench, pipe, source(zeros="0" * 900_000))
        ballast = fill(disk)
        with ballast.open("r+b") as file:
            file.truncate(ballast.stat().st_size - 400_000)
        assert submit_and_end(pipe, big) == "FAILED"
        end = summary(bench, big)
        assert (end.failure_kind, end.failure_subkind, end.exit_code) == ("EXECUTOR", "NO_SPACE", 40)
        assert not list((bench.data / "workspaces").glob("*/*/*"))
        ballast.unlink()
        again = a_job(bench, pipe, source(zeros="0" * 900_000))
        assert submit_and_end(pipe, again) == "SUCCEEDED"
        assert counts(bench, again) == (5, 0, 0, 0)


def test_a_namespace_that_is_no_plain_name_is_refused_before_anything_is_kept(bench: Bench) -> None:
    with bench.pipe() as pipe:
        for cache in ({"namespace": "../up"}, {"workspace": "warm"}, {"derived_data": "/x"}):
            with pytest.raises(Refused, match=r"INVALID_REQUEST.*cache"):
                submit(pipe, a_job(bench, pipe, source(), cache))
    assert not (bench.data / "jobs").exists()


# --- caches ---------------------------------------------------------------------------


def cache_of(bench: Bench) -> Path:
    (cache,) = (bench.data / "caches/app/derived_data/shared").glob("swift_*")
    return cache


@pytest.mark.fault("W1")
def test_a_shared_cache_is_waited_for_and_its_holder_is_named(bench: Bench) -> None:
    bench.configure("max_concurrent_jobs = 3\ncache_wait_seconds = 60\n")
    with bench.pipe() as pipe:
        first = a_job(bench, pipe, source(WAIT), SHARED)
        submit(pipe, first)
        tail_until(pipe, first.job_id, "up")
        waiting, cancelled = (a_job(bench, pipe, source(f"# {n}\n"), SHARED) for n in range(2))
        for job in (waiting, cancelled):
            submit(pipe, job)
            tail_until(
                pipe, job.job_id, f"waiting for cache app/derived_data/shared/{cache_of(bench).name}"
            )
        assert f"held by pid {supervisor_of(bench, first.job_id)} job {first.job_id}" in notes(
            bench, waiting
        )
        pipe.ask("cancel", job_id=cancelled.job_id, reason="USER")
        assert follow(pipe, cancelled.job_id)[2] == "CANCELLED"
        bench.configure("max_concurrent_jobs = 3\ncache_wait_seconds = 0\n")
        busy = a_job(bench, pipe, source("# busy\n"), SHARED)
        assert submit_and_end(pipe, busy) == "FAILED"
        end = summary(bench, busy)
        assert (end.failure_kind, end.failure_subkind, end.exit_code) == ("EXECUTOR", "CACHE_BUSY", 40)
        assert first.job_id in end.human_summary
        assert pipe.ask("status", job_id=waiting.job_id)["state"] == "RUNNING"
        (bench.root / "go").touch()
        assert follow(pipe, first.job_id)[2] == "SUCCEEDED"
        assert follow(pipe, waiting.job_id)[2] == "SUCCEEDED"
    assert not (cache_of(bench) / DIRTY).exists()


@pytest.mark.fault("W1")
def test_a_shared_cache_whose_job_was_lost_is_thrown_away(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = a_job(bench, pipe, source(WAIT), SHARED)
        submit(pipe, job)
        tail_until(pipe, job.job_id, "up")
        (cache_of(bench) / "product").touch()
        os.kill(supervisor_of(bench, job.job_id), signal.SIGKILL)
        until(lambda: owner_is_gone(bench, job))
        following = a_job(bench, pipe, source(), SHARED)
        assert submit_and_end(pipe, following) == "SUCCEEDED"
        assert f"was thrown away: job {job.job_id} did not come to its end in it" in notes(bench, following)
    assert not (cache_of(bench) / "product").exists()


def test_products_of_a_namespace_are_kept_by_job_key(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = a_job(bench, pipe, source(), {"namespace": "app", "derived_data": "per_job", "spm": "shared"})
        assert submit_and_end(pipe, job) == "SUCCEEDED"
    assert (bench.data / "caches/app/derived_data/per_job" / str(job.job_key)).is_dir()
    (spm,) = (bench.data / "caches/app/spm").iterdir()
    assert spm.name.startswith("swift_6.0.1__")
    assert not list((bench.home / "state/locks/caches/app/spm").glob("*.uses/*"))


def test_a_cache_that_cannot_be_thrown_away_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = a_worker(tmp_path)
    job = job_of("ab" * 32, "1")
    config = CacheConfig(namespace="app", derived_data="shared")
    caches = JobCaches(worker, job, config, look=lambda: False, tell=lambda _text: None)
    assert caches.build is not None
    caches.build.mkdir(parents=True)

    def refused(_self: KeptFolder) -> Path:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(KeptFolder, "throw_away", refused)
    with pytest.raises(
        Failure, match=r"cache app/derived_data/shared/swift_6\.3\.1.* stays: Operation not"
    ):
        caches.enter()
    caches.release()
    assert is_free(lock_path(worker.paths, caches.build))


def test_keys_are_safe_in_a_path_and_two_stay_two() -> None:
    swift = {"swift_version": "6.3.1", "os_name": "Linux", "os_version": "ubuntu-22.04", "arch": "x86_64"}
    assert toolchain_key(swift) == "swift_6.3.1__linux_ubuntu-22__x86_64"
    mac = {"swift_version": "6.2", "os_name": "macOS", "os_version": "15.3.1", "arch": "arm64"}
    assert toolchain_key(mac) == "swift_6.2__macos_15__arm64"
    xcode = {"xcode_build": "16C5032a", "macos_version": "15.3.1", "arch": "arm64"}
    assert toolchain_key(xcode) == "xcode_16C5032a__macos_15__arm64"
    odd = [
        {**swift, "swift_version": version}
        for version in ("../../etc", "6 dev", "6-dev", "6/dev", "", "x" * 200)
    ]
    keys = {toolchain_key(one) for one in odd}
    assert len(keys) == len(odd)
    assert all("/" not in key and len(key) < 200 for key in keys)
    assert lock_path(worker_paths({"RCH_WORKER_HOME": "/w"}), Path("/w/data/caches/App/spm/K")) == Path(
        "/w/state/locks/caches/app/spm/k.lock"
    )
