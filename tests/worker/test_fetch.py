"""`fetch`: one stream of bytes a job, from any offset, into a set that is what its manifest says."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.worker_pipe import Bench, Pipe, Refused, a_bench, follow, submit, tail_until, until

from rch.contract.manifest import UNLISTED, differences, root_sha256
from rch.contract.records import Entry, Job, Manifest, decode_record
from rch.files.extract import Limits, extract
from rch.files.locks import FileLock, is_free
from rch.files.unzstd import bounded_reader


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as bench:
        yield bench


def finished(bench: Bench, pipe: Pipe) -> Job:
    job = bench.script(pipe, "echo hello; head -c 200000 /dev/urandom | od -x\n")
    submit(pipe, job)
    follow(pipe, job.job_id)
    return job


def folder(bench: Bench, job: Job) -> Path:
    return bench.data / "jobs" / job.job_id / "attempt-1"


@pytest.mark.spec("3.2")
def test_a_set_is_fetched_unpacked_and_is_what_its_manifest_says(bench: Bench) -> None:
    with bench.process() as pipe:
        job = finished(bench, pipe)
        header, body = pipe.fetch(job.job_id)
        assert pipe.ask("status", job_id=job.job_id)["state"] == "SUCCEEDED"  # the channel is in step
    assert (header["ok"], header["protocol_version"], header["job_id"]) == (True, 1, job.job_id)
    assert header["stream"] == {
        "content_length": len(body),
        "content_sha256": hashlib.sha256(body).hexdigest(),
        "compression": "zstd",
        "format": "tar",
    }
    assert (header["set_length"], header["set_sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
    manifest = msgspec.convert(header["manifest"], Manifest)
    staged = bench.root / "staged"
    reader = bounded_reader(io.BytesIO(body), max_output=10 << 20)
    made = extract(reader, staged, limits=Limits(max_entries=1000, max_bytes=10 << 20), canonical=False)
    found = [
        Entry(path=one.path, type=one.kind, size=one.size, sha256=one.sha256)
        for one in made
        if one.path not in UNLISTED
    ]
    assert differences(manifest.entries, found) == []
    assert root_sha256(manifest.entries) == manifest.artifact_root_sha256
    assert decode_record((staged / "manifest.json").read_bytes(), Manifest) == manifest
    assert {one.path for one in made} >= UNLISTED
    assert (staged / "build.log").read_bytes() == (
        folder(bench, job) / "artifacts" / "build.log"
    ).read_bytes()


@pytest.mark.spec("3.2")
@pytest.mark.fault("S6")
def test_an_offset_goes_on_with_the_very_same_bytes(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = finished(bench, pipe)
        whole, body = pipe.fetch(job.job_id)
        for offset in (0, 1, len(body) // 2, len(body) - 1, len(body)):
            header, rest = pipe.fetch(job.job_id, offset)
            assert rest == body[offset:]
            assert header.get("offset", 0) == offset
            assert header["stream"]["content_sha256"] == hashlib.sha256(rest).hexdigest()
            assert (header["set_sha256"], header["set_length"]) == (whole["set_sha256"], len(body))
        for offset in (-1, len(body) + 1):
            with pytest.raises(Refused) as refused:
                pipe.fetch(job.job_id, offset)
            assert refused.value.code == "INVALID_REQUEST"
            assert refused.value.data == {"set_sha256": whole["set_sha256"], "set_length": len(body)}
    with bench.pipe() as pipe:
        assert pipe.fetch(job.job_id)[1] == body


@pytest.mark.spec("3.2")
def test_two_who_pack_at_once_get_the_same_bytes_and_nothing_is_left_over(bench: Bench) -> None:
    with bench.process() as one, bench.process() as two:
        job = finished(bench, one)
        for pipe in (one, two):
            pipe.send(_ask(job))
        answers = [(pipe.answer(), pipe) for pipe in (one, two)]
        bodies = [pipe.stdout.read(header["stream"]["content_length"]) for header, pipe in answers]
    assert bodies[0] == bodies[1]
    assert len(list((folder(bench, job) / "packed").iterdir())) == 1


def _ask(job: Job) -> bytes:
    return (
        b'{"protocol_version":1,"op":"fetch","request_id":"request-0001","payload":{"job_id":"%b"}}\n'
        % job.job_id.encode()
    )


@pytest.mark.spec("3.1")
def test_what_cannot_be_fetched_is_told_apart(bench: Bench) -> None:
    with bench.pipe() as pipe:
        assert refusal(pipe, "job-of-nobody") == ("JOB_NOT_FOUND", {})
        job = bench.script(pipe, "echo up; exec sleep 60\n")
        submit(pipe, job)
        tail_until(pipe, job.job_id, "up")
        assert refusal(pipe, job.job_id)[0] == "INVALID_REQUEST"
        pipe.ask("cancel", job_id=job.job_id, reason="USER")
        follow(pipe, job.job_id)
        pipe.fetch(job.job_id)
        (folder(bench, job) / "artifacts" / "job_index.json").unlink()
        assert refusal(pipe, job.job_id)[0] == "ARTIFACTS_GONE"
        told = pipe.ask("status", job_id=job.job_id)
        assert (told["state"], told["artifacts_available"]) == ("CANCELLED", False)


def refusal(pipe: Pipe, job_id: str) -> tuple[str, dict[str, Any]]:
    with pytest.raises(Refused) as refused:
        pipe.fetch(job_id)
    return refused.value.code, refused.value.data


@pytest.mark.spec("8")
@pytest.mark.fault("W1")
def test_a_set_that_was_sealed_just_before_the_crash_is_taken_as_it_is(bench: Bench) -> None:
    with bench.pipe() as pipe:
        job = finished(bench, pipe)
        lock = bench.home / "state" / "locks" / f"job-{job.job_id}.lock"
        until(lambda: is_free(lock))
        state = bench.data / "jobs" / job.job_id / "state.json"
        end = state.read_bytes()
        # As if the supervisor had died between the commit marker and its own last write.
        state.write_bytes(end.replace(b'"SUCCEEDED"', b'"RUNNING"').replace(b'"seq": 3', b'"seq": 2'))
        told = pipe.ask("status", job_id=job.job_id)
        assert (told["state"], told["seq"], told["exit_code"]) == ("SUCCEEDED", 3, 0)
        assert submit(pipe, job) == {"state": "SUCCEEDED", "seq": 3}
        pipe.fetch(job.job_id)
        with FileLock(lock):
            assert pipe.ask("status", job_id=job.job_id)["state"] == "SUCCEEDED"
