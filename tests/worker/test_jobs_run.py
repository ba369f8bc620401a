"""Jobs from submit to their sealed set, with a stand-in `swift` and real processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support.worker_pipe import (
    MANIFEST,
    Bench,
    a_bench,
    artifacts,
    follow,
    is_running,
    submit,
    submit_and_end,
    summary,
    tail_until,
    until,
)

from rch.contract.records import Job, Manifest, decode_record

CONFIG = {"backend": "swiftpm", "project": {"package": "."}}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as bench:
        yield bench


def ended(bench: Bench, job: Job) -> tuple[str, str | None, object, int]:
    """How the summary puts it."""
    told = summary(bench, job)
    subkind = None if told.failure_subkind is msgspec.UNSET else told.failure_subkind
    return told.status, told.failure_kind, subkind, told.exit_code


# --- ends -----------------------------------------------------------------------------


@pytest.mark.spec("3.3")
def test_a_job_that_succeeds_is_followed_to_its_end(bench: Bench) -> None:
    with bench.process() as pipe:
        job = bench.script(pipe, "echo one; echo two >&2\n")
        assert submit(pipe, job) == {"state": "RUNNING", "seq": 2}
        log, events, state = follow(pipe, job.job_id)
        assert (log, state) == ("one\ntwo\n", "SUCCEEDED")
        assert [event["n"] for event in events] == list(range(1, len(events) + 1))
        assert [event["data"]["name"] for event in events if event["type"] == "stage"][-2:] == [
            "build",
            "build",
        ]
        told = pipe.ask("status", job_id=job.job_id)
    assert (told["state"], told["seq"], told["job_key"]) == ("SUCCEEDED", 3, job.job_key)
    assert (told["exit_code"], told["artifacts_available"], told["log_bytes"]) == (0, True, 8)
    assert told["updated_at"] >= told["created_at"]
    assert ended(bench, job) == ("success", None, None, 0)
    assert (artifacts(bench, job) / "job_index.json").exists()


@pytest.mark.spec("8")
def test_a_job_that_fails_tells_the_tools_exit_code(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = bench.script(pipe, "echo oops; exit 3\n")
        submit(pipe, job)
        assert follow(pipe, job.job_id)[2] == "FAILED"
        assert pipe.ask("status", job_id=job.job_id)["exit_code"] == 50
    assert ended(bench, job) == ("failed", "SWIFTPM", "BUILD_FAILED", 50)
    assert summary(bench, job).backend_exit_code == 3


@pytest.mark.spec("8")
@pytest.mark.fault("W2")
def test_a_tool_that_is_killed_tells_the_signal(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = bench.script(pipe, "kill -9 $$\n")
        submit(pipe, job)
        assert follow(pipe, job.job_id)[2] == "FAILED"
    assert summary(bench, job).backend_term_signal == 9
    assert summary(bench, job).exit_code == 50


@pytest.mark.spec("8")
def test_a_tool_that_cannot_start_is_the_workers_failure(bench: Bench) -> None:
    swift = bench.toolchain / "bin" / "swift"
    with bench.pipe() as pipe:
        job = bench.script(pipe, "exit 0\n")
        submit(pipe, job)
        follow(pipe, job.job_id)
        text = swift.read_text()
        later = bench.job(pipe, job.job_key_inputs.source_sha256)
        # The same file to every look from outside, and yet no program any more.
        stat = swift.stat()
        swift.write_text(text.replace("#!/bin/sh", "#!/bin/xx"))
        os.utime(swift, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        submit(pipe, later)
        assert follow(pipe, later.job_id)[2] == "FAILED"
    assert ended(bench, later) == ("failed", "EXECUTOR", "START_FAILED", 40)


@pytest.mark.spec("4")
def test_a_cancel_ends_the_job_whatever_it_heeds_and_its_artifacts_stay(bench: Bench) -> None:
    bench.configure("max_concurrent_jobs = 4\n")
    wait = "echo up; while :; do sleep 0.05; done\n"
    scripts = {
        "echo up; exec sleep 60\n": "",
        f"trap 'echo bye; exit 0' INT; {wait}": "bye",
        f"trap 'echo no INT' INT; trap 'echo bye; exit 0' TERM; {wait}": "bye",
        f"trap '' INT TERM; {wait}": "",
    }
    with bench.pipe() as pipe:
        jobs = [bench.script(pipe, f"echo $$ >$TMPDIR/../pid; {script}") for script in scripts]
        for job in jobs:
            submit(pipe, job)
        for job in jobs:
            tail_until(pipe, job.job_id, "up")
            assert pipe.ask("cancel", job_id=job.job_id, reason="USER") == {"state": "CANCEL_REQUESTED"}
        for job, last_words in zip(jobs, scripts.values(), strict=True):
            log, _, state = follow(pipe, job.job_id)
            told = pipe.ask("status", job_id=job.job_id)
            assert (state, told["seq"], told["exit_code"]) == ("CANCELLED", 4, 80)
            assert pipe.ask("cancel", job_id=job.job_id, reason="USER") == {"state": "CANCELLED"}
            assert log.startswith("up\n")
            assert last_words in log
            assert log.endswith("[rch-worker: the job was ended: USER]\n")
            assert (artifacts(bench, job) / "build.log").read_text() == log
            assert ended(bench, job)[:2] == ("cancelled", "CANCELLED")
            assert not is_running(int((artifacts(bench, job).parent / "pid").read_text()))


@pytest.mark.spec("4")
def test_a_timeout_is_a_failure_whoever_saw_it(bench: Bench) -> None:
    bench.configure("max_concurrent_jobs = 4\n")
    asleep, noisy = "echo up; exec sleep 60\n", "echo up; while :; do echo x; sleep 0.05; done\n"
    cases = [
        ("TIMEOUT_OVERALL", noisy, {"overall_seconds": 0.5, "idle_log_seconds": 0.4}, False),
        ("TIMEOUT_IDLE", asleep, {"idle_log_seconds": 0.3}, False),
        ("TIMEOUT_OVERALL", noisy, {}, True),
        ("TIMEOUT_IDLE", asleep, {}, True),
    ]
    with bench.pipe() as pipe:
        jobs = [
            bench.script(pipe, script, config={**CONFIG, "timeouts": timeouts})
            for _, script, timeouts, _ in cases
        ]
        for job in jobs:
            submit(pipe, job)
        for job, (reason, _, _, by_host) in zip(jobs, cases, strict=True):
            if by_host:
                tail_until(pipe, job.job_id, "up")
                pipe.ask("cancel", job_id=job.job_id, reason=reason)
            log, _, state = follow(pipe, job.job_id)
            seq = pipe.ask("status", job_id=job.job_id)["seq"]
            assert (state, seq) == ("FAILED", 4 if by_host else 3)
            assert f"ended: {reason}" in log
            assert ended(bench, job) == ("failed", "EXECUTOR", reason, 40)


# --- processes ------------------------------------------------------------------------


@pytest.mark.spec("11")
@pytest.mark.fault("W2")
def test_what_a_tool_leaves_running_is_ended_with_it(bench: Bench) -> None:
    bench.configure("max_concurrent_jobs = 5\n")
    silent = ">/dev/null 2>&1"
    stragglers = ["sleep 60 &", f"sleep 60 {silent} &", "setsid sleep 60 &", f"setsid sleep 60 {silent} &"]
    if sys.platform == "linux":
        stragglers.append(f"setsid env -i sleep 60 {silent} &")
    with bench.pipe() as pipe:
        jobs = [
            bench.script(pipe, f"{leave}\necho $! >$TMPDIR/../pid\necho done\n") for leave in stragglers
        ]
        for job in jobs:
            submit(pipe, job)
        for job in jobs:
            log, _, state = follow(pipe, job.job_id)
            assert (log, state) == ("done\n", "SUCCEEDED")
            assert not is_running(int((artifacts(bench, job).parent / "pid").read_text()))


@pytest.mark.spec("11")
def test_the_tool_sees_a_short_environment_and_no_input(bench: Bench) -> None:
    bench.env |= {"SECRET_THING": "x", "DEPLOY_TOKEN": "hunter2hunter2", "SSH_CONNECTION": "1 2 3"}
    bench.configure('pass_env = ["DEPLOY_TOKEN"]\n')
    with bench.pipe() as pipe:
        job = bench.script(pipe, "read -r line || echo no input; env | cut -d= -f1 | sort | tr '\\n' ' '\n")
        submit(pipe, job)
        log = follow(pipe, job.job_id)[0]
    assert log.startswith("no input\n")
    names = set(log.split()[2:])
    assert {"DEPLOY_TOKEN", "HOME", "PATH", "TMPDIR"} <= names
    assert not {"SECRET_THING", "SSH_CONNECTION", "RCH_WORKER_HOME"} & names


@pytest.mark.spec("11")
def test_a_secret_does_not_come_to_rest_in_the_log_also_in_pieces(bench: Bench) -> None:
    bench.env |= {"DEPLOY_TOKEN": "hunter2hunter2"}
    bench.configure('pass_env = ["DEPLOY_TOKEN"]\n')
    with bench.pipe() as pipe:
        job = bench.script(
            pipe, "echo a$DEPLOY_TOKEN; printf hunter2; sleep 0.1; printf hunter2; printf hunter\n"
        )
        submit(pipe, job)
        log = follow(pipe, job.job_id)[0]
    assert log == "a[REDACTED]\n[REDACTED]hunter"


@pytest.mark.spec("11")
def test_a_log_over_its_bound_loses_its_middle_and_says_so(bench: Bench) -> None:
    bench.configure("max_log_bytes = 20000\n")
    with bench.pipe() as pipe:
        job = bench.script(pipe, 'i=0; while [ $i -lt 9000 ]; do echo "line $i é"; i=$((i+1)); done\n')
        submit(pipe, job)
        log, _, state = follow(pipe, job.job_id)
    assert state == "SUCCEEDED"
    assert len(log.encode()) <= 20_000
    assert log.startswith("line 0 é\nline 1 é\n")
    assert log.endswith("line 8998 é\nline 8999 é\n")
    assert "bytes of the log are cut here]" in log
    assert summary(bench, job).log_truncated is True


@pytest.mark.spec("3.3")
def test_bytes_that_are_no_text_are_replaced_when_the_log_is_written(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = bench.script(
            pipe, "printf 'a\\377b'; printf '\\303'; sleep 0.1; printf '\\251\\n'; printf '\\342\\202'\n"
        )
        submit(pipe, job)
        log = follow(pipe, job.job_id)[0]
    assert log == "a\ufffdbé\n\ufffd"
    assert (artifacts(bench, job) / "build.log").read_text(encoding="utf-8") == log


@pytest.mark.spec("8")
def test_the_manifest_lists_what_is_there(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = bench.script(pipe, "echo hello\n")
        submit_and_end(pipe, job)
    folder = artifacts(bench, job)
    manifest = decode_record((folder / "manifest.json").read_bytes(), Manifest)
    found = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert found - {entry.path for entry in manifest.entries} == {
        "manifest.json",
        "attestation.json",
        "job_index.json",
    }
    until(lambda: {"scratch", "tmp"}.isdisjoint(path.name for path in folder.parent.iterdir()))


@pytest.mark.fault("W3")
def test_a_tree_from_before_a_reboot_is_unpacked_anew(bench: Bench) -> None:
    """It was never synced: the next step would build files that a power cut has emptied."""
    with bench.pipe() as pipe:
        first = bench.script(pipe, "exit 0\n")
        assert submit_and_end(pipe, first) == "SUCCEEDED"
        room = bench.data / "runs" / first.run_id
        (room / "tree" / "Package.swift").write_bytes(b"")
        second = msgspec.structs.replace(first, job_id=f"{first.job_id}-2")
        marker = room / "source"
        marker.write_text(marker.read_text().partition(" ")[0] + " another-boot")
        assert submit_and_end(pipe, second) == "SUCCEEDED"
    assert (room / "tree" / "Package.swift").read_bytes() == MANIFEST
