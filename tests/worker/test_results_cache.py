"""A success answers for its like: what is served, from whose set, and what never is."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support import jobs as some
from support.worker_pipe import (
    MANIFEST,
    Bench,
    Pipe,
    a_bench,
    artifacts,
    follow,
    submit,
    submit_and_end,
    summary,
    tar,
)

from rch.contract.attestation import check
from rch.contract.attested import Known
from rch.contract.manifest import differences
from rch.contract.records import Attestation, Job, Manifest, Metrics, decode_record
from rch.contract.sets import examine
from rch.files.durable import remove_tree
from rch.files.sets import read_set
from worker_agent.results import cache
from worker_agent.results.seal import entries_of
from worker_agent.results.served import ago, serve
from worker_agent.sweep import sweep
from worker_agent.worker import Worker

pytestmark = pytest.mark.spec("11")

CONFIG: dict[str, Any] = {
    "backend": "swiftpm",
    "project": {"package": "."},
    "cache": {"results": True},
}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as bench:
        # With none the interpreter gives its children one, but not the test's own process.
        bench.env["LANG"] = "C.UTF-8"
        yield bench


def asked(bench: Bench, pipe: Pipe, *argv: str, then: str = "", toml: str = "", **more: Any) -> Job:
    """A job that leaves a mark each time that it is executed, and is cached unless `more` says no."""
    script = f"echo x >>{bench.root}/executions; echo hello\n{then}"
    files: dict[str, bytes | str] = {"Package.swift": MANIFEST, "build.sh": script, "test.sh": script}
    if toml:
        files[".rch/xcode.toml"] = toml
    config = {**CONFIG, **more.pop("config", {})}
    job = bench.job(pipe, bench.upload(pipe, tar(files)), *argv, config=config)
    return msgspec.structs.replace(job, **more)


def executions(bench: Bench) -> int:
    path = bench.root / "executions"
    return path.read_text().count("x") if path.exists() else 0


def entries(bench: Bench) -> list[Path]:
    return sorted((bench.data / "results").glob("*.json"))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def is_served(bench: Bench, job: Job) -> bool:
    return summary(bench, job).cached_from_job_id is not msgspec.UNSET


# --- what is served -------------------------------------------------------------------


def test_a_job_whose_like_has_succeeded_is_served_with_a_set_of_its_own(bench: Bench) -> None:
    with bench.pipe() as pipe:
        first, second, third = (asked(bench, pipe) for _ in range(3))
        assert submit_and_end(pipe, first) == "SUCCEEDED"
        assert submit(pipe, second, host_nonce="another") == {"state": "SUCCEEDED", "seq": 3}
        log, events, state = follow(pipe, second.job_id)
        assert (log, state, bool(events)) == ("hello\n", "SUCCEEDED", True)
        assert submit_and_end(pipe, third) == "SUCCEEDED"
        told = pipe.ask("status", job_id=second.job_id)
        assert (told["seq"], told["exit_code"], told["artifacts_available"]) == (3, 0, True)
        header, _ = pipe.fetch(second.job_id)
        assert header["manifest"]["job_id"] == second.job_id
        assert pipe.ask("probe")["capabilities"]["capacity"]["slots_free"] == 1
    assert executions(bench) == 1
    assert not (bench.data / "runs" / second.run_id).exists()
    end = summary(bench, second)
    assert (end.cached_from_job_id, end.attempts, end.status) == (first.job_id, 1, "success")
    assert f"served from the cache of job {first.job_id}, executed " in end.human_summary
    assert end.verdict is not msgspec.UNSET
    assert end.verdict.evidence[0].source == "result cache"
    assert summary(bench, third).cached_from_job_id == first.job_id  # never one that was served itself


@pytest.mark.spec("10")
def test_what_is_served_is_sealed_and_signed_for_the_job_that_asked(bench: Bench) -> None:
    with bench.pipe() as pipe:
        first, second = asked(bench, pipe), asked(bench, pipe)
        submit_and_end(pipe, first)
        submit(pipe, second, host_nonce="another", host_timings={"upload": 7})
    served = artifacts(bench, second)
    manifest = decode_record((served / "manifest.json").read_bytes(), Manifest)
    assert differences(manifest.entries, entries_of(served)) == []
    signed = (served / "attestation.json").read_bytes()
    attestation = decode_record(signed, Attestation)
    assert (attestation.host_nonce, attestation.job_id) == ("another", second.job_id)
    assert check(signed, [str(attestation.public_key_fingerprint)]).result == "verified"
    pins = (str(attestation.public_key_fingerprint),)
    looked = examine(read_set(served), Known(job=second, host_nonce="another", pins=pins))
    assert (looked.errors, looked.distrust) == ([], [])
    assert isinstance(attestation.dsse, tuple)
    assert len(looked.statements) == len(attestation.dsse) > 0
    facts = json.loads(b64decode(attestation.dsse[0].payload))["predicate"]["buildDefinition"]
    assert facts["internalParameters"]["cached_from_job_id"] == first.job_id
    for path in served.glob("*.json"):
        if path.name != "job_key_inputs.json":
            record = json.loads(path.read_bytes())
            assert (record["run_id"], record["job_id"]) == (second.run_id, second.job_id), path.name
    for name in ("build.log", "events.jsonl"):
        assert (served / name).read_bytes() == (artifacts(bench, first) / name).read_bytes()
    metrics = decode_record((served / "metrics.json").read_bytes(), Metrics)
    assert (list(metrics.stages_ms), metrics.counts["served_from_cache"]) == (["serve"], 1)
    assert metrics.host_timings == {"upload": 7}


def test_a_minimal_set_is_made_of_a_rich_one_and_never_the_other_way_round(bench: Bench) -> None:
    with bench.pipe() as pipe:
        poor, rich, again = (
            asked(bench, pipe, artifact_profile=profile) for profile in ("minimal", "rich", "minimal")
        )
        for job in (poor, rich, again):
            assert submit_and_end(pipe, job) == "SUCCEEDED"
    assert executions(bench) == 2
    assert [is_served(bench, job) for job in (poor, rich, again)] == [False, False, True]
    assert not (artifacts(bench, again) / "events.jsonl").exists()
    assert summary(bench, again).artifact_profile == "minimal"
    assert names(artifacts(bench, again)) == names(artifacts(bench, poor))


def test_where_files_cannot_have_two_names_they_are_copied(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_args: object, **_more: object) -> None:
        raise PermissionError

    with bench.pipe() as pipe:
        first, second = asked(bench, pipe), asked(bench, pipe)
        submit_and_end(pipe, first)
        monkeypatch.setattr("worker_agent.results.served.os.link", refused)
        submit_and_end(pipe, second)
    assert is_served(bench, second)
    assert (artifacts(bench, second) / "build.log").stat().st_nlink == 1


# --- what never is --------------------------------------------------------------------


STEP = 'backend = "swiftpm"\n[[actions.step]]\naction = "test"\nonly_testing = ["B", "A"]\n'


@pytest.mark.spec("9")
@pytest.mark.parametrize(
    ("argv", "toml", "has_part"),
    [
        ("build", "", True),
        ("build --target App", "", False),
        ("build --product App", STEP, False),
        ("test --filter A", "", False),
        ("test --filter A", STEP, False),
        ("test --filter A --filter B", STEP, True),
        ("test --filter A --filter B --filter C", STEP, False),
        ("test --filter A --filter B --skip C", STEP, False),
        ("test --filter A --filter B", STEP.replace('"B"', "1"), False),
        ("test -only-testing:A -only-testing:B", STEP, True),
        ("test -skip-testing:A", STEP, False),
        ("test -testPlan Smoke", "", False),
        ("test -retry-tests-on-failure -test-iterations 3", "", False),
    ],
)
def test_what_the_host_narrows_has_no_part_in_the_cache(
    bench: Bench, argv: str, toml: str, *, has_part: bool
) -> None:
    """What a step of the repo's own config names is the gate that the repo wants."""
    with bench.pipe() as pipe:
        job = asked(bench, pipe, *argv.split(), toml=toml)
    assert (cache.key_of(Worker(bench.env), job) is not None) is has_part


def test_failures_cuts_and_cancelled_jobs_are_no_origins(bench: Bench) -> None:
    bench.configure("max_log_bytes = 4096\n")
    with bench.pipe() as pipe:
        failed = asked(bench, pipe, then="exit 1\n")
        assert submit_and_end(pipe, failed) == "FAILED"
        cut = asked(bench, pipe, then="i=0; while [ $i -lt 900 ]; do echo $i filling; i=$((i+1)); done\n")
        assert submit_and_end(pipe, cut) == "SUCCEEDED"
        assert summary(bench, cut).log_truncated is True
        cancelled = asked(bench, pipe, then="exec sleep 60\n")
        submit(pipe, cancelled)
        pipe.ask("cancel", job_id=cancelled.job_id, reason="USER")
        assert follow(pipe, cancelled.job_id)[2] == "CANCELLED"
    assert not entries(bench)


def test_a_job_that_is_cancelled_before_it_came_is_not_served(bench: Bench) -> None:
    with bench.pipe() as pipe:
        first, second = asked(bench, pipe), asked(bench, pipe)
        submit_and_end(pipe, first)
        pipe.ask("cancel", job_id=second.job_id, reason="USER")
        assert submit_and_end(pipe, second) == "CANCELLED"


def test_what_decides_about_a_verdict_is_part_of_the_key(bench: Bench) -> None:
    configs: list[dict[str, Any]] = [
        {},
        {"cache": {"results": True, "derived_data": "off"}},
        {"run": {"allow_no_tests": True}},
        {"run": {"retry_tests": 2}},
        {"timeouts": {"overall_seconds": 60}},
        {"project": {"package": "Other"}},
    ]
    with bench.pipe() as pipe:
        jobs = [asked(bench, pipe, config=config) for config in configs]
        same = asked(bench, pipe, config={"queue": {"max_wait_seconds": 5}}, artifact_profile="minimal")
        off = asked(bench, pipe, config={"cache": {"results": False}})
    assert len({job.job_key for job in (*jobs, same, off)}) == 1
    worker = Worker(bench.env)
    keys = [cache.key_of(worker, job) for job in jobs]
    assert len(set(keys) - {None}) == len(keys)
    assert cache.key_of(worker, same) == keys[0]
    assert cache.key_of(worker, off) is None


def test_what_the_worker_is_and_passes_on_is_part_of_the_key(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench.pipe() as pipe:
        job = asked(bench, pipe)
    seen = {cache.key_of(Worker(bench.env), job)}
    assert cache.key_of(Worker({**bench.env, "FLAVOUR": "sweet", "TMPDIR": "/x"}), job) in seen
    bench.configure('pass_env = ["FLAVOUR"]\n')
    for flavour in ("sweet", "salty"):
        seen.add(cache.key_of(Worker({**bench.env, "FLAVOUR": flavour}), job))
    for size in ("max_log_bytes", "max_artifact_bytes"):
        bench.configure(f"{size} = 9999\n")
        seen.add(cache.key_of(Worker(bench.env), job))
    bench.configure("")
    monkeypatch.setattr(cache, "tools_of", lambda _toolchain: "replaced in place")
    seen.add(cache.key_of(Worker(bench.env), job))
    monkeypatch.undo()
    monkeypatch.setattr(cache, "__version__", "9")
    seen.add(cache.key_of(Worker(bench.env), job))
    assert len(seen - {None}) == 7
    bench.configure("results_cache = false\n")
    assert cache.key_of(Worker(bench.env), job) is None
    assert "result_cache" not in bench.ask("probe")["features"]


# --- origins that do not hold ---------------------------------------------------------


@pytest.mark.fault("A1")
def test_one_flipped_bit_anywhere_in_the_origin_and_nobody_is_served(bench: Bench) -> None:
    with bench.pipe() as pipe:
        origin, job = asked(bench, pipe), asked(bench, pipe)
        submit_and_end(pipe, origin)
    worker = Worker(bench.env)
    request = some.submit(job)
    worker.jobs.write_request(request)
    found = cache.find(worker, job)
    assert found is not None
    (entry,) = entries(bench)
    known = entry.read_bytes()
    checked = names(artifacts(bench, origin)) - {"attestation.json", "job_index.json"}
    assert len(checked) > 12
    for name in sorted(checked):
        flip(artifacts(bench, origin) / name)
        assert serve(worker, request, *found) is None, name
        assert not entries(bench), name
        assert worker.jobs.state(job.job_id) is None
        flip(artifacts(bench, origin) / name)
        entry.write_bytes(known)
    end = serve(worker, request, *found)
    assert end is not None
    assert end.state == "SUCCEEDED"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_job_executes_whose_origin_was_swept_or_whose_entry_is_torn(bench: Bench) -> None:
    with bench.pipe() as pipe:
        first = asked(bench, pipe)
        submit_and_end(pipe, first)
        remove_tree(bench.data / "jobs" / first.job_id)
        submit_and_end(pipe, asked(bench, pipe))
        (entry,) = entries(bench)
        entry.write_bytes(entry.read_bytes()[:-9])
        submit_and_end(pipe, asked(bench, pipe))
        submit_and_end(pipe, asked(bench, pipe))
    assert executions(bench) == 3


@pytest.mark.fault("W8")
def test_entries_go_with_their_origins_and_keep_none_of_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(bench.env)
    with bench.pipe() as pipe:
        jobs = [asked(bench, pipe, then=f"echo {word}\n") for word in ("one", "two", "three")]
        for job in jobs:
            submit_and_end(pipe, job)
    monkeypatch.setattr("worker_agent.leftovers.KEEP_JOBS", 2)
    monkeypatch.setattr("worker_agent.leftovers.YOUNG_SECONDS", -1.0)
    sweep(worker)
    assert not (bench.data / "jobs" / jobs[0].job_id).exists()
    assert len(entries(bench)) == 2
    monkeypatch.setattr(cache, "MAX_ENTRIES", 1)
    sweep(worker)
    (left,) = entries(bench)
    assert json.loads(left.read_bytes())["job_id"] == jobs[2].job_id


def test_a_set_answers_for_later_jobs_up_to_its_limit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(bench.env)
    with bench.pipe() as pipe:
        job = asked(bench, pipe)
        submit_and_end(pipe, job)
    folder = worker.jobs.artifacts(job.job_id)
    assert folder is not None
    listed = decode_record((folder / "manifest.json").read_bytes(), Manifest)
    size, key = sum(each.size for each in listed.entries), entries(bench)[0].stem
    for beyond, kept in ((1, 0), (0, 1)):
        cache.drop(worker, key)
        monkeypatch.setattr(cache, "MAX_BYTES", size - beyond)
        cache.store(worker, key, job, "2026-01-01T00:00:00.000Z")
        assert len(entries(bench)) == kept


# --- an owner that dies ---------------------------------------------------------------

_DYING = """
import os, signal, sys
if "rpc" in sys.orig_argv and "RCH_TEST_DIE_AT" in os.environ:
    import rch.files.durable as durable
    class Dying(durable.System):
        seen = []
        def rename(self, src, dst):
            self.seen.append(dst.name)
            if f"{dst.name} {self.seen.count(dst.name)}" == os.environ["RCH_TEST_DIE_AT"]:
                os.kill(os.getpid(), signal.SIGKILL)
            super().rename(src, dst)
    durable._sys = Dying()
"""


@pytest.mark.spec("3.3")
@pytest.mark.fault("W1")
@pytest.mark.parametrize(
    ("step", "runs"),
    [
        ("attempt.json 1", 1),  # nothing is known of the job yet
        ("artifacts 1", 2),  # it counts as an execution that was lost: the next one is a real one
        ("state.json 2", 1),  # its set is sealed: only the last write is made good
    ],
)
def test_whoever_serves_may_be_killed_at_any_step(bench: Bench, step: str, runs: int) -> None:
    (bench.root / "site").mkdir()
    (bench.root / "site" / "sitecustomize.py").write_text(_DYING)
    with bench.pipe() as pipe:
        first, second = asked(bench, pipe), asked(bench, pipe)
        submit_and_end(pipe, first)
    bench.env |= {"RCH_TEST_DIE_AT": step, "PYTHONPATH": str(bench.root / "site")}
    with bench.process() as dying, pytest.raises(AssertionError, match="closed"):
        submit(dying, second)
    with bench.pipe() as pipe:
        submit(pipe, second)
        assert follow(pipe, second.job_id)[2] == "SUCCEEDED"
        told = pipe.ask("status", job_id=second.job_id)
        assert (told["seq"], told["artifacts_available"]) == (3, True)
        assert pipe.ask("probe")["capabilities"]["capacity"]["slots_free"] == 1
    assert executions(bench) == runs
    attempts = sorted(path.name for path in (bench.data / "jobs" / second.job_id).glob("attempt-?"))
    assert attempts == [f"attempt-{runs}"]
    assert summary(bench, second, runs).attempts == runs


@pytest.mark.fault("W9")
def test_a_disk_that_takes_no_set_leaves_the_job_to_an_execution(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    with bench.pipe() as pipe:
        first, second = asked(bench, pipe), asked(bench, pipe)
        submit_and_end(pipe, first)
        monkeypatch.setattr("worker_agent.results.served.make_dirs", full)
        assert submit_and_end(pipe, second) == "SUCCEEDED"
    assert executions(bench) == 2
    assert summary(bench, second).attempts == 1


@pytest.mark.parametrize(
    ("at", "told"),
    [
        ("2026-01-01T00:00:09.900Z", "9 s ago"),
        ("2026-01-01T00:12:00.000Z", "12 min ago"),
        ("2026-01-02T23:59:00.000Z", "47 h ago"),
        ("2026-01-05T00:00:00.000Z", "4 days ago"),
        ("2025-12-31T00:00:00.000Z", "at 2026-01-01T00:00:00.000Z"),
    ],
)
def test_an_age_is_told_in_words(at: str, told: str) -> None:
    assert ago("2026-01-01T00:00:00.000Z", at) == told
