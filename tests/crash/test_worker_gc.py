"""Sweeps without a pause while hosts ask, upload, submit and fetch: what is in use stays."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.lab import Lab, lab
from support.worker_deaths import Attendance, check_at_rest, hook, summary_of
from support.worker_pipe import MANIFEST, Bench, a_bench, follow, submit, tar

# Sweeps keep nothing of what is not in use.
_GREEDY = """
import sys
if "worker_agent" in " ".join(getattr(sys, "orig_argv", ())):
    import worker_agent.leftovers
    worker_agent.leftovers.KEEP_SOURCES = 0
"""

# What sweeps cannot do happens all the same: the source is gone when the job comes.
_VANISHING = """
import os, sys
if getattr(sys, "orig_argv", ())[-2:] == ["xcode", "rpc"]:
    from pathlib import Path
    import worker_agent.ops as ops
    _served = ops._OPERATIONS["submit"]
    def _submit(call):
        times = Path(os.environ["RCH_TEST_VANISHED"])
        with times.open("a+") as file:
            file.write("x")
        if times.stat().st_size <= int(os.environ["RCH_TEST_VANISH"]):
            for path in call.worker.paths.sources.glob("*.tar"):
                path.unlink()
        return _served(call)
    ops._OPERATIONS["submit"] = _submit
"""

HOSTS, ROUNDS = 2, 3

pytestmark = [pytest.mark.fault("W8"), pytest.mark.spec("5")]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path, "max_concurrent_jobs = 8\nkeep_sources_bytes = 1\n") as made:
        site = tmp_path / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(_GREEDY)
        made.env["PYTHONPATH"] = str(site)
        yield made


def sweep_until(bench: Bench, over: threading.Event) -> int:
    """Sweep after sweep; how many."""
    count = 0
    while not over.is_set():
        command = [sys.executable, "-m", "worker_agent", "xcode", "sweep"]
        subprocess.run(command, env=bench.env, check=True, capture_output=True)
        count += 1
    return count


def one_run(bench: Bench, host: int, number: int) -> tuple[bool, str, int]:
    """Whether the source was there, how the job ended, and how large its set is."""
    source = tar({"Package.swift": MANIFEST, "build.sh": f"echo {host} {number % 2}\n"})
    with bench.process() as pipe:
        run_id = f"run-{host:04}-{number:04}-gc"
        lease = pipe.ask("reserve", run_id=run_id, host_id=f"host-{host}")
        under = {"lease_id": lease["lease_id"], "fence": lease["fence"]}
        digest = _digest(source)
        was_there = pipe.ask("has_source", source_sha256=digest, lease_id=lease["lease_id"])["exists"]
        if not was_there:
            bench.upload(pipe, source, **under)
        job = bench.job(pipe, digest, run_id=run_id)
        submit(pipe, job, **under)
        state = follow(pipe, job.job_id)[2]
        _, body = pipe.fetch(job.job_id)
        pipe.ask("release", **under)
        return was_there, state, len(body)


def runs_of(bench: Bench, host: int) -> list[tuple[bool, str, int]]:
    return [one_run(bench, host, number) for number in range(ROUNDS)]


def _digest(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()


def test_what_is_asked_for_under_a_lease_stays_until_it_is_fetched(bench: Bench) -> None:
    with bench.pipe() as pipe:
        bench.capabilities(pipe)
    over = threading.Event()
    with ThreadPoolExecutor(HOSTS + 1) as pool:
        sweeps = pool.submit(sweep_until, bench, over)
        hosts = [pool.submit(runs_of, bench, host) for host in range(HOSTS)]
        try:
            done = [each for host in hosts for each in host.result(100)]
        finally:
            over.set()
        assert sweeps.result(60) > 1
    assert {state for _, state, _ in done} == {"SUCCEEDED"}
    assert all(size for _, _, size in done)
    assert not all(was_there for was_there, _, _ in done)
    # And with nobody there, nothing is kept.
    command = [sys.executable, "-m", "worker_agent", "xcode", "sweep"]
    subprocess.run(command, env=bench.env, check=True)
    assert list((bench.data / "sources").glob("*.tar")) == []


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


def asked(user: Lab, op: str) -> list[str]:
    """How each request of that kind ended, in order."""
    lines = (user.worker_home / "state" / "rch-worker.log").read_text().splitlines()
    found = map(json.loads, lines)
    return [each["outcome"] for each in found if each.get("op") == op]


def vanishing(user: Lab, times: int) -> None:
    hook(user, _VANISHING)
    user.env |= {"RCH_TEST_VANISHED": str(user.root / "submits"), "RCH_TEST_VANISH": str(times)}


def test_a_source_that_vanishes_before_the_job_is_uploaded_once_more(user: Lab) -> None:
    vanishing(user, 1)
    build = Attendance(user, "echo ended")
    run = user.json("run", "--action", "build", cwd=user.project(build=build.body))["data"]
    assert (run["state"], run["exit_code"]) == ("SUCCEEDED", 0)
    assert asked(user, "upload_source") == ["ok", "ok"]
    assert asked(user, "submit") == ["SOURCE_MISSING", "ok"]
    assert summary_of(user, run["run_id"])["attempts"] == 1
    build.check(executions=1)
    check_at_rest(user)


@pytest.mark.faults_long
def test_a_source_that_vanishes_again_is_not_uploaded_for_ever(user: Lab) -> None:
    vanishing(user, 99)
    build = Attendance(user, "echo ended")
    answer = user.json("run", "--action", "build", cwd=user.project(build=build.body))
    assert answer["exit_code"] == 30
    assert answer["data"]["failure_kind"] == "TRANSFER"
    assert asked(user, "upload_source") == ["ok", "ok"]
    assert asked(user, "submit") == ["SOURCE_MISSING", "SOURCE_MISSING"]
    build.check(executions=0)
    check_at_rest(user)
