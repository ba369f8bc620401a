"""A supervisor that is killed anywhere: what stands then, and what the next submit makes of it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import jobs as some
from support.worker_pipe import (
    TERMINAL,
    Bench,
    Pipe,
    Refused,
    a_bench,
    follow,
    is_running,
    submit,
    summary,
    supervisor_of,
    tail_until,
    until,
)

from rch.contract.records import Job
from rch.contract.worker_rpc import CancelRequest, RpcError
from rch.files.locks import is_free
from worker_agent.clock import boot_id, boot_seconds
from worker_agent.processes import Group, end_at_once, members
from worker_agent.status import cancel
from worker_agent.submit import submit as submit_here
from worker_agent.worker import Worker

# In supervisors: they write down what they rename, and before the n-th of it one dies.
_DYING = """
import os, signal, sys
if "supervise" in sys.orig_argv and "RCH_TEST_RENAMES" in os.environ:
    import rch.files.durable as durable
    class Dying(durable.System):
        def rename(self, src, dst):
            with open(os.environ["RCH_TEST_RENAMES"], "a+") as file:
                file.write(dst.name + "\\n")
                file.seek(0)
                done = len(file.readlines())
            if done == int(os.environ["RCH_TEST_DIE_AT"]):
                os.kill(os.getpid(), signal.SIGKILL)
            super().rename(src, dst)
    durable._sys = Dying()
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as bench:
        yield bench


def owner_is_gone(bench: Bench, job: Job) -> bool:
    return is_free(bench.home / "state" / "locks" / f"job-{job.job_id}.lock")


def kill_owner(bench: Bench, job: Job) -> None:
    os.kill(supervisor_of(bench, job.job_id), signal.SIGKILL)
    until(lambda: owner_is_gone(bench, job))


def lost(pipe: Pipe, job: Job) -> dict[str, Any]:
    with pytest.raises(Refused) as refused:
        pipe.ask("status", job_id=job.job_id)
    assert refused.value.code == "JOB_NOT_FOUND"
    return dict(refused.value.data)


@pytest.mark.spec("3.3")
@pytest.mark.fault("W1")
def test_a_lost_job_runs_once_more_after_its_remains_are_gone(bench: Bench) -> None:
    script = (
        f"if [ -e {bench.root}/pid ]; then [ -e /proc/$(cat {bench.root}/pid)/exe ] && echo both; "
        "echo again; exit 0; fi\n"
        f"trap '' TERM INT HUP; setsid sleep 60 & echo $! >{bench.root}/daemon\n"
        f"touch $(dirname $0)/litter; echo $$ >{bench.root}/pid; echo up; while :; do sleep 1; done\n"
    )
    with bench.pipe() as pipe:
        job = bench.script(pipe, script)
        submit(pipe, job)
        cursor = tail_until(pipe, job.job_id, "up")
        kill_owner(bench, job)
        pids = [int((bench.root / name).read_text()) for name in ("pid", "daemon")]
        assert all(map(is_running, pids))
        assert lost(pipe, job) == {"lost": True, "state": "RUNNING", "seq": 2, "attempts": 1}
        assert submit(pipe, job) == {"state": "RUNNING", "seq": 2}
        assert not any(map(is_running, pids))
        news = pipe.ask("tail", job_id=job.job_id, cursor=cursor, wait_seconds=20)
        assert news["reset"] is True
        log, _, state = follow(pipe, job.job_id)
        assert (log, state) == ("again\n", "SUCCEEDED")
        assert pipe.ask("status", job_id=job.job_id)["seq"] == 3
    assert summary(bench, job, 2).attempts == 2
    assert not (bench.data / "runs" / job.run_id / "tree" / "litter").exists()
    assert not (bench.data / "jobs" / job.job_id / "attempt-1").exists()


@pytest.mark.spec("3.3")
@pytest.mark.fault("W11")
def test_a_job_that_is_lost_twice_is_sealed_as_lost(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = bench.script(pipe, f"echo x >>{bench.root}/executions; echo up; exec sleep 60\n")
        for attempt in (1, 2):
            assert submit(pipe, job) == {"state": "RUNNING", "seq": 2}
            tail_until(pipe, job.job_id, "up")
            kill_owner(bench, job)
            assert lost(pipe, job)["attempts"] == attempt
        submit(pipe, job)
        log, _, state = follow(pipe, job.job_id)
        told = pipe.ask("status", job_id=job.job_id)
        assert (state, told["seq"], told["exit_code"]) == ("FAILED", 3, 40)
        assert pipe.ask("probe")["capabilities"]["capacity"]["slots_free"] == 1
    assert log == "up\n"  # what the last execution said is kept
    end = summary(bench, job, 2)
    assert (end.failure_kind, end.failure_subkind, end.attempts) == ("EXECUTOR", "WORKER_LOST", 2)
    assert (bench.root / "executions").read_text() == "x\nx\n"


@pytest.mark.spec("4")
@pytest.mark.fault("W1")
def test_a_cancel_of_a_lost_job_seals_it_and_keeps_its_log(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = bench.script(pipe, f"echo $$ >{bench.root}/pid; echo up; exec sleep 60\n")
        submit(pipe, job)
        tail_until(pipe, job.job_id, "up")
        kill_owner(bench, job)
        assert pipe.ask("cancel", job_id=job.job_id, reason="USER") == {"state": "CANCEL_REQUESTED"}
        log, _, state = follow(pipe, job.job_id)
        assert (log, state, pipe.ask("status", job_id=job.job_id)["seq"]) == ("up\n", "CANCELLED", 4)
    assert not is_running(int((bench.root / "pid").read_text()))
    assert summary(bench, job, 1).attempts == 1


@pytest.mark.spec("4")
@pytest.mark.fault("W1")
def test_a_cancel_stands_whose_owner_dies_before_its_first_word(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = bench.script(pipe, "echo up; exec sleep 60\n")
        submit(pipe, job)
        tail_until(pipe, job.job_id, "up")
        kill_owner(bench, job)
        dying = Worker({**bench.env, **dies_at(bench, 1)})
        asked = CancelRequest(job_id=job.job_id, reason="USER")
        assert cancel(dying, asked).state == "CANCEL_REQUESTED"
        until(lambda: owner_is_gone(bench, job))
        assert lost(pipe, job)["attempts"] == 1
        assert pipe.ask("cancel", job_id=job.job_id, reason="USER") == {"state": "CANCEL_REQUESTED"}
        assert follow(pipe, job.job_id)[2] == "CANCELLED"


@pytest.mark.spec("3.3")
@pytest.mark.fault("W1")
def test_the_slot_of_a_lost_job_goes_to_the_next_one_when_its_processes_are_gone(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = bench.script(pipe, f"echo $$ >{bench.root}/pid; echo up; exec sleep 60\n")
        submit(pipe, job)
        tail_until(pipe, job.job_id, "up")
        kill_owner(bench, job)
        pid = int((bench.root / "pid").read_text())
        assert is_running(pid)
        pipe.ask("reserve", run_id="run-0000000002", host_id="host-2")
        assert not is_running(pid)


@pytest.mark.spec("3.3")
@pytest.mark.fault("W1")
def test_a_supervisor_may_die_before_any_of_its_durable_steps(bench: Bench) -> None:
    with bench.pipe() as pipe:
        names = life(bench, pipe, 0)
        assert names[:2] == ["attempt.json", "state.json"]
        assert names[-3:] == ["job_index.json", "table.json", "state.json"]
        # Before it begins, while it seals, and at every step after the set is committed.
        for step in sorted({1, 2, 3, len(names) // 2, *range(len(names) - 3, len(names) + 1)}):
            assert life(bench, pipe, step)[:step] == names[:step]


def dies_at(bench: Bench, rename: int) -> dict[str, str]:
    """The environment of supervisors one of which dies before that rename; 0: none."""
    site = bench.root / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(_DYING)
    return {
        "PYTHONPATH": str(site),
        "RCH_TEST_RENAMES": str(bench.root / f"renames-{rename}"),
        "RCH_TEST_DIE_AT": str(rename),
    }


def life(bench: Bench, pipe: Pipe, die_at: int) -> list[str]:
    """A job whose first supervisor dies at one step; what it renamed until then. All is well after it.

    One that dies before its first word is followed by another, at once.
    """
    executions = bench.root / f"executions-{die_at}"
    job = bench.script(pipe, f"echo x >>{executions}; echo out\n")
    deadly = dies_at(bench, die_at)
    dying = Worker({**bench.env, **deadly})
    assert submit_here(dying, some.submit(job)).state in {"RUNNING", "SUCCEEDED"}
    until(lambda: owner_is_gone(bench, job))
    unknown = refusal(lambda: pipe.ask("status", job_id=job.job_id))
    if unknown is None:
        assert pipe.ask("status", job_id=job.job_id)["state"] in TERMINAL
    else:
        assert unknown.code == "JOB_NOT_FOUND"
        assert unknown.data["lost"] is True
    submit(pipe, job)
    assert follow(pipe, job.job_id)[2] == "SUCCEEDED"
    told = pipe.ask("status", job_id=job.job_id)
    assert (told["seq"], told["exit_code"], told["artifacts_available"]) == (3, 0, True)
    assert 1 <= executions.read_text().count("x") <= 2
    assert len(list((bench.data / "jobs" / job.job_id).glob("attempt-*"))) == 1
    lease = pipe.ask("reserve", run_id=job.run_id, host_id="host")
    pipe.ask("release", lease_id=lease["lease_id"], fence=lease["fence"])
    return Path(deadly["RCH_TEST_RENAMES"]).read_text().split()


def refusal(ask: Callable[[], object]) -> RpcError | Refused | None:
    try:
        ask()
    except (RpcError, Refused) as refused:
        return refused
    return None


# --- process groups -------------------------------------------------------------------


@pytest.mark.fault("W1")
def test_a_group_of_another_boot_or_another_time_is_never_touched(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as child:
        ours = Group(pgid=child.pid, started=boot_seconds(), boot=boot_id(), tmp=str(tmp_path))
        assert members(ours) == [child.pid]
        for other in (
            Group(pgid=child.pid, started=boot_seconds() - 100, boot=boot_id(), tmp=str(tmp_path)),
            Group(pgid=child.pid, started=ours.started, boot="another", tmp=str(tmp_path)),
        ):
            assert members(other) == []
            assert end_at_once(other)
        assert child.poll() is None
        child.kill()


@pytest.mark.fault("W1")
def test_a_group_without_its_leader_is_told_by_the_jobs_own_folder(tmp_path: Path) -> None:
    script = "sleep 60 & echo $!; kill -9 $$"
    env = {"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        ["/bin/sh", "-c", script], start_new_session=True, env=env, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        left = int(child.stdout.readline())
        child.wait()
        mine = Group(pgid=child.pid, started=boot_seconds(), boot=boot_id(), tmp=str(tmp_path))
        theirs = Group(pgid=child.pid, started=boot_seconds(), boot=boot_id(), tmp=str(tmp_path / "other"))
        assert members(theirs) == []
        assert members(mine) == [left]
        assert end_at_once(mine)
        assert not is_running(left)


@pytest.mark.fault("W3")
@pytest.mark.parametrize("left", [b"", b'{"pgid":1'])
def test_a_group_record_that_a_power_cut_tore_holds_up_nobody(bench: Bench, left: bytes) -> None:
    """It is written without fsync; what it told of has ended with the power."""
    with bench.pipe() as pipe:
        job = bench.script(pipe, "echo up\nexec sleep 60\n")
        submit(pipe, job)
        tail_until(pipe, job.job_id, "up")
        os.kill(supervisor_of(bench, job.job_id), signal.SIGKILL)
        jobs = Worker(bench.env).jobs
        until(lambda: not jobs.alive(job.job_id))
        assert jobs.end_leftovers(job.job_id)
        (jobs.folder(job.job_id) / "group.json").write_bytes(left)
        assert pipe.ask("reserve", run_id="run-0000000001", host_id="host")["slots_free"] == 0
