"""`submit`: what is let in, once, and what is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.worker_pipe import (
    MANIFEST,
    Bench,
    ProcessPipe,
    Refused,
    a_bench,
    artifacts,
    follow,
    submit,
    submit_and_end,
    submit_payload,
    summary,
    tail_until,
    tar,
)

from rch.contract.canonical import jcs_sha256
from rch.contract.records import ClassifierPolicyRecord, Job, JobIndex, decode_record

CONFIG = {"backend": "swiftpm", "project": {"package": "."}}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as bench:
        yield bench


@pytest.mark.spec("3.3")
@pytest.mark.fault("C5")
def test_fifty_submits_of_one_job_at_once_are_one_execution(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = bench.script(pipe, f"echo x >>{bench.root}/executions; echo up; exec sleep 60\n")
        line = {
            "protocol_version": 1,
            "op": "submit",
            "request_id": "request-0001",
            "payload": submit_payload(job),
        }
        pipes = [ProcessPipe(bench.env) for _ in range(10)]
        for channel in pipes:
            channel.send((json.dumps(line) + "\n").encode() * 5)
        answers = [channel.answer()["payload"] for channel in pipes for _ in range(5)]
        for channel in pipes:
            channel.close()
        tail_until(pipe, job.job_id, "up")
        pipe.ask("cancel", job_id=job.job_id, reason="USER")
        follow(pipe, job.job_id)
        assert submit(pipe, job) == {"state": "CANCELLED", "seq": 4}
    assert answers == [{"state": "RUNNING", "seq": 2}] * 50
    assert (bench.root / "executions").read_text() == "x\n"
    assert summary(bench, job).attempts == 1


@pytest.mark.spec("3.3")
def test_a_job_goes_on_when_the_channel_that_submitted_it_is_gone(bench: Bench) -> None:
    with bench.process() as pipe:
        job = bench.script(pipe, f"while [ ! -e {bench.root}/go ]; do sleep 0.02; done; echo late\n")
        submit(pipe, job)
        pipe.kill()
    (bench.root / "go").touch()
    with bench.pipe() as pipe:
        assert follow(pipe, job.job_id)[::2] == ("late\n", "SUCCEEDED")


@pytest.mark.spec("3.3")
def test_one_id_is_one_job(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = bench.script(pipe, "exit 0\n")
        submit(pipe, job)
        follow(pipe, job.job_id)
        other = bench.job(pipe, job.job_key_inputs.source_sha256, "build", "--configuration", "release")
        with pytest.raises(Refused, match="JOB_KEY_MISMATCH"):
            submit(pipe, msgspec.structs.replace(other, job_id=job.job_id))


@pytest.mark.spec("3.3")
def test_a_cancel_before_the_submit_keeps_the_job_from_running(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = bench.script(pipe, f"touch {bench.root}/ran\n")
        assert pipe.ask("cancel", job_id=job.job_id, reason="SUPERSEDED") == {"state": "CANCELLED"}
        submit(pipe, job)
        log, _, state = follow(pipe, job.job_id)
        assert (log, state) == ("", "CANCELLED")
        assert pipe.ask("status", job_id=job.job_id)["exit_code"] == 80
    assert not (bench.root / "ran").exists()
    assert (artifacts(bench, job) / "job_index.json").exists()


@pytest.mark.spec("3.3")
def test_what_was_never_stored_is_missing_and_nothing_is_begun(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = bench.job(pipe, "ab" * 32)
        with pytest.raises(Refused, match="SOURCE_MISSING"):
            submit(pipe, job)
        with pytest.raises(Refused, match="JOB_NOT_FOUND"):
            pipe.ask("status", job_id=job.job_id)
        assert pipe.ask("probe")["capabilities"]["capacity"]["slots_free"] == 1


def rekeyed(job: Job, **change: Any) -> Job:
    inputs = msgspec.structs.replace(job.job_key_inputs, **change)
    return msgspec.structs.replace(job, job_key_inputs=inputs, job_key=jcs_sha256(inputs))


@pytest.mark.spec("3.3")
def test_the_worker_judges_the_invocation_itself(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = bench.script(pipe, f"touch {bench.root}/ran\n")
        for argv in (
            ("build", "--scratch-path", "/tmp/x"),
            ("build", "-Xswiftc", "-load-plugin"),
            ("build", "--configuration", "sneaky"),
            ("build", "-c", "debug"),
            ("test",),
            ("package", "update"),
            ("run",),
            (),
        ):
            with pytest.raises(Refused, match="CLASSIFIER_REJECTED"):
                submit(pipe, rekeyed(job, sanitized_argv=argv))
    assert not (bench.root / "ran").exists()


@pytest.mark.spec("3.3")
def test_the_worker_takes_the_names_from_the_bundles_own_config(bench: Bench) -> None:
    config = 'schema_version = 1\nbackend = "swiftpm"\n[project]\nconfigurations = ["release"]\n'
    with bench.pipe() as pipe:
        source = bench.upload(pipe, tar({"Package.swift": MANIFEST, ".rch/xcode.toml": config}))
        submit_and_end(pipe, bench.job(pipe, source, "build", "--configuration", "release"))
        with pytest.raises(Refused, match="CLASSIFIER_REJECTED"):
            submit(pipe, bench.job(pipe, source, "build", "--configuration", "debug"))


@pytest.mark.spec("3.3")
@pytest.mark.fault("W10")
def test_a_toolchain_that_is_not_what_it_was_is_refused(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = bench.script(pipe, "exit 0\n")
        for member in ("swift_version", "toolchain_dir", "os_version"):
            named = {**job.job_key_inputs.toolchain, member: "/elsewhere"}
            with pytest.raises(Refused, match=r"TOOLCHAIN_CHANGED.*/elsewhere"):
                submit(pipe, rekeyed(job, toolchain=named))


@pytest.mark.spec("3.3")
def test_a_submit_that_contradicts_itself_is_invalid(bench: Bench) -> None:
    changes: list[dict[str, Any]] = [
        {"job_key": "0" * 64},
        {"job_key": None},
        {"action": "archive"},
        {"effective_config": {**CONFIG, "timeouts": {"overall_seconds": 0}}},
        {"effective_config": {**CONFIG, "timeouts": {"overall_seconds": 10, "idle_log_seconds": 11}}},
    ]
    with bench.pipe() as pipe:
        job = bench.script(pipe, "exit 0\n")
        for change in changes:
            with pytest.raises(Refused, match="INVALID_REQUEST"):
                submit(pipe, msgspec.structs.replace(job, **change))
        with pytest.raises(Refused, match="INVALID_REQUEST"):
            pipe.ask("submit", **submit_payload(job, job_state_seq=0))


@pytest.mark.spec("3.3")
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("invocation", "job_id"), "job-of-another-one"),
        (("invocation", "accepted_action"), "test"),
        (("classifier_policy", "run_id"), "run-of-another-one"),
        (("job", "schema_id"), "rch-xcode/job@2"),
        (("job", "artifact_profile"), "../rich"),
        (("job", "effective_config"), {"config": {}, "sources": [{"x": 1}], "redactions": []}),
        (("job", "effective_config"), {"config": {"project": "."}, "sources": [], "redactions": []}),
        (("host_nonce",), ""),
        (("job_state_seq",), 2**60),
    ],
)
def test_a_job_whose_set_could_not_be_sealed_is_not_begun(
    bench: Bench, path: tuple[str, ...], value: Any
) -> None:
    """Else it would be executed first, and then have no artifacts, or another job's records."""
    with bench.pipe() as pipe:
        job = bench.script(pipe, "exit 0\n")
        payload = submit_payload(job)
        place = payload
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        with bench.pipe() as other, pytest.raises(Refused, match="INVALID_REQUEST"):
            other.ask("submit", **payload)
        with pytest.raises(Refused, match="JOB_NOT_FOUND"):
            pipe.ask("status", job_id=job.job_id)


@pytest.mark.spec("8")
def test_a_submit_without_a_policy_leaves_the_one_that_the_worker_judged_by(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = bench.script(pipe, "exit 0\n")
        payload = submit_payload(job)
        del payload["classifier_policy"]
        pipe.ask("submit", **payload)
        assert follow(pipe, job.job_id)[2] == "SUCCEEDED"
    folder = artifacts(bench, job)
    record = decode_record((folder / "classifier_policy.json").read_bytes(), ClassifierPolicyRecord)
    assert (record.run_id, record.job_id, record.job_key) == (job.run_id, job.job_id, job.job_key)
    assert (record.policy["backend"], record.policy["configurations"]) == ("swiftpm", ["debug", "release"])
    index = decode_record((folder / "job_index.json").read_bytes(), JobIndex)
    assert index.files["classifier_policy"] == "classifier_policy.json"
