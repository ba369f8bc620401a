"""Thin sources and what may befall them: damage, a full disk, sweeps, company, death."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zstandard
from support.small_disk import fill, small_disk
from support.thin import BASE, files, is_whole, leavings, payload, send, sha256, with_changes
from support.worker_pipe import MANIFEST, Bench, Refused, a_bench, submit_and_end, tar

from worker_agent import source_thin
from worker_agent.leftovers import sweep_sources
from worker_agent.worker import Worker

pytestmark = pytest.mark.spec("5")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with a_bench(tmp_path) as bench:
        yield bench


# --- what is damaged, gone or full --------------------------------------------------------


@pytest.mark.fault("W8")
def test_a_base_that_went_between_the_question_and_the_upload_is_told(bench: Bench) -> None:
    with bench.pipe() as pipe:
        base = bench.upload(pipe, tar(BASE))
        assert pipe.ask("has_source", source_sha256=base) == {"exists": True}
        assert Worker(bench.env).sources.remove(base)
        with pytest.raises(Refused, match="BASE_MISSING"):
            send(pipe, BASE, {"build.sh": "true\n"})
    with bench.pipe() as pipe:
        bench.upload(pipe, tar(with_changes(BASE, {"build.sh": "true\n"})))
    assert leavings(bench) == []


@pytest.mark.fault("W8")
def test_a_source_whose_base_is_gone_is_missing_until_it_is_sent_whole(bench: Bench) -> None:
    changes = {"build.sh": "true\n"}
    with bench.pipe() as pipe:
        base = bench.upload(pipe, tar(BASE))
        whole = send(pipe, BASE, changes)
        job = bench.job(pipe, whole)
        (bench.data / "sources" / f"{base}.tar").unlink()
        assert pipe.ask("has_source", source_sha256=whole) == {"exists": False}
        with pytest.raises(Refused, match="SOURCE_MISSING"):
            pipe.ask("submit", **_submit(job))
        assert bench.upload(pipe, tar(with_changes(BASE, changes))) == whole
        assert submit_and_end(pipe, job) == "SUCCEEDED"
    assert files(bench, "thin") == set()


def _submit(job: Any) -> dict[str, Any]:
    from support.worker_pipe import submit_payload

    return submit_payload(job)


def flip(path: Path, at: int = 2000) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(3000))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [flip, cut, garbage, empty])
@pytest.mark.parametrize("suffix", ["tar", "index", "json"])
def test_a_base_that_is_damaged_is_no_base_and_one_whole_upload_mends_it(
    bench: Bench, suffix: str, damage: Any
) -> None:
    with bench.pipe() as pipe:
        base = bench.upload(pipe, tar(BASE))
        path = bench.data / "sources" / f"{base}.{suffix}"
        damage(path) if path.stat().st_size > 2000 or damage is not flip else damage(path, 5)
        with pytest.raises(Refused, match="BASE_MISSING"):
            send(pipe, BASE, {"build.sh": "true\n"})
    with bench.pipe() as pipe:
        assert pipe.ask("has_source", source_sha256=base) == {"exists": False}
        bench.upload(pipe, tar(BASE))
        is_whole(bench, send(pipe, BASE, {"build.sh": "true\n"}))


@pytest.mark.fault("W8")
@pytest.mark.parametrize("damage", [flip, cut, garbage, empty])
def test_a_thin_source_that_is_damaged_is_missing_and_is_sent_once_more(bench: Bench, damage: Any) -> None:
    changes = {"build.sh": "exit 0\n# and more\n", "Sources/a/main.swift": "//" * 1000}
    with bench.pipe() as pipe:
        bench.upload(pipe, tar(BASE))
        job = bench.job(pipe, send(pipe, BASE, changes))
        damage(bench.data / "sources" / f"{job.job_key_inputs.source_sha256}.thin")
        with pytest.raises(Refused, match="SOURCE_MISSING"):
            pipe.ask("submit", **_submit(job))
        digest = send(pipe, BASE, changes)
        assert digest == job.job_key_inputs.source_sha256
        assert submit_and_end(pipe, job) == "SUCCEEDED"


def test_a_note_of_what_was_verified_that_is_garbage_only_costs_a_look(bench: Bench) -> None:
    with bench.pipe() as pipe:
        bench.upload(pipe, tar(BASE))
        whole = send(pipe, BASE, {"build.sh": "true\n"})
    garbage(bench.data / "sources" / f"{whole}.seen")
    is_whole(bench, whole)


@pytest.mark.fault("W9")
def test_a_disk_that_is_full_anywhere_leaves_nothing_and_the_next_try_works(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    changes = {"build.sh": os.urandom(40_000)}
    with small_disk(bench.data, 700) as disk:
        with bench.pipe() as pipe:
            base = bench.upload(pipe, tar(BASE))
        refusals = 0
        for room in range(0, 120_000, 8192):
            ballast = fill(disk)
            os.truncate(ballast, max(0, ballast.stat().st_size - room))
            try:
                with bench.pipe() as pipe:
                    whole = send(pipe, BASE, changes)
            except Refused as refusal:
                assert refusal.code == "NO_SPACE"  # noqa: PT017  (either way is right)
                assert (files(bench, "thin"), leavings(bench)) == (set(), [])
                refusals += 1
            else:
                break
            finally:
                ballast.unlink()
        assert refusals > 2
        is_whole(bench, whole)
        assert base in files(bench, "tar")


# --- several at once, and death -----------------------------------------------------------


@pytest.mark.fault("S4")
def test_two_hosts_build_on_one_base_at_once(bench: Bench) -> None:
    with bench.pipe() as pipe:
        base = bench.upload(pipe, tar(BASE))

    def host(number: int) -> list[str]:
        with bench.pipe() as pipe:
            return [send(pipe, BASE, {"build.sh": f"# {number % 2 * each}\n"}) for each in range(6)]

    with ThreadPoolExecutor(3) as pool:
        stored = set().union(*pool.map(host, range(3)))
    assert (files(bench, "tar"), files(bench, "thin")) == ({base}, stored)
    for each in stored:
        is_whole(bench, each)


@pytest.mark.fault("W8")
def test_sweeps_without_a_pause_never_take_a_base_from_a_source_that_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from worker_agent import leftovers

    monkeypatch.setattr(leftovers, "KEEP_SOURCES", 0)
    with a_bench(tmp_path, "keep_sources_bytes = 1\nmax_concurrent_jobs = 8\n") as bench:
        over = threading.Event()

        def sweep() -> int:
            worker, count = Worker(bench.env), 0
            while not over.is_set():
                sweep_sources(worker, time.time())
                count += 1
            return count

        def host(number: int) -> None:
            with bench.pipe() as pipe:
                for each in range(3):
                    run_id = f"run-{number:04}-{each:04}"
                    lease = pipe.ask("reserve", run_id=run_id, host_id=f"host-{number}")
                    held = {"lease_id": lease["lease_id"], "fence": lease["fence"]}
                    here = {"source_sha256": sha256(tar(BASE)), "lease_id": lease["lease_id"]}
                    if not pipe.ask("has_source", **here)["exists"]:
                        bench.upload(pipe, tar(BASE), **held)
                    whole = send(pipe, BASE, {"build.sh": f"# {number} {each}\n"}, **held)
                    asked = pipe.ask("has_source", source_sha256=whole, lease_id=lease["lease_id"])
                    assert asked == {"exists": True}
                    is_whole(bench, whole)
                    pipe.ask("release", **held)

        with ThreadPoolExecutor(3) as pool:
            sweeps = pool.submit(sweep)
            try:
                list(pool.map(host, range(2)))
            finally:
                over.set()
            assert sweeps.result() > 1
        sweep_sources(Worker(bench.env), time.time())
        assert (files(bench, "tar"), files(bench, "thin")) == (set(), set())


@pytest.mark.fault("W8")
def test_a_base_that_somebody_builds_on_or_that_is_built_on_is_not_removed(bench: Bench) -> None:
    sources = Worker(bench.env).sources
    with bench.pipe() as pipe:
        base = bench.upload(pipe, tar(BASE))
        with sources.based(base):
            assert not sources.remove(base)
        whole = send(pipe, BASE, {"build.sh": "true\n"})
    assert not sources.remove(base)
    assert sources.remove(whole)
    assert sources.remove(base)


@pytest.mark.fault("W8")
def test_a_lease_that_pins_a_thin_source_or_uploads_one_keeps_its_base(tmp_path: Path) -> None:
    with a_bench(tmp_path, "keep_sources_bytes = 1\n") as bench, bench.pipe() as pipe:
        lease = pipe.ask("reserve", run_id="run-0000000001", host_id="host-1")
        held = {"lease_id": lease["lease_id"], "fence": lease["fence"]}
        base = bench.upload(pipe, tar(BASE))
        whole = send(pipe, BASE, {"build.sh": "true\n"})
        assert pipe.ask("has_source", source_sha256=whole, lease_id=held["lease_id"]) == {"exists": True}
        for number in range(3):
            bench.upload(pipe, tar({"Package.swift": MANIFEST, "n": str(number)}))
        for digest in (base, whole):
            os.utime(bench.data / "sources" / f"{digest}.seen", (1.0, 1.0))
        sweep_sources(Worker(bench.env), time.time())
        is_whole(bench, whole)
        # In parts no process holds the base meanwhile: the lease does.
        (bench.data / "sources" / f"{whole}.thin").unlink()
        body = zstandard.compress(tar({"build.sh": "false\n"}))
        resume = {"upload_id": "upload-0000000001", "offset": 0, "last": False}
        asked = payload(body, "1" * 64, base, resume=resume, **held)
        assert not pipe.ask("upload_source", body, **asked)["stored"]
        assert base in Worker(bench.env).leases.read().leases[0].pins


_DYING = """
import os, signal, sys
sys.path.insert(0, {path!r})
from rch.files import durable
count = int(os.environ["RCH_TEST_CALLS"])
def dying(name):
    served = getattr(durable.System, name)
    def call(self, *args):
        global count
        count -= 1
        if count < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return served(self, *args)
    return call
for name in ("create", "write", "sync", "rename"):
    setattr(durable.System, name, dying(name))
from worker_agent.__main__ import main
main(["xcode", "rpc"])
"""


@pytest.mark.fault("S2")
def test_a_worker_that_dies_at_any_step_has_half_stored_nothing(bench: Bench, tmp_path: Path) -> None:
    script = tmp_path / "dying.py"
    script.write_text(_DYING.format(path=str(Path(source_thin.__file__).parents[1])))
    with bench.pipe() as pipe:
        base = bench.upload(pipe, tar(BASE))
    changes = {"build.sh": "true\n"}
    whole = sha256(tar(with_changes(BASE, changes)))
    body = zstandard.compress(tar(changes))
    deaths = 0
    for calls in range(30):
        bench.env["RCH_TEST_CALLS"] = str(calls)
        with bench.process((sys.executable, str(script))) as pipe:
            try:
                pipe.ask("upload_source", body, **payload(body, whole, base))
            except AssertionError:  # the channel is closed
                assert pipe.process.wait(10) == -signal.SIGKILL
                deaths += 1
            else:
                break
        if Worker(bench.env).sources.exists(whole):
            is_whole(bench, whole)
            (bench.data / "sources" / f"{whole}.thin").unlink()
    assert deaths >= 3
    is_whole(bench, whole)
    sweep_sources(Worker(bench.env), time.time())
    assert leavings(bench) == []
