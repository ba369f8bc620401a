"""The mock worker as whoever tests a host meets it: over its channel, by scenarios, honest about itself."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard
from support.mock import JOB, SUBMIT, TAR, MockPipe, run, submit_with, submitted, unpacked
from support.worker_pipe import Refused

from rch.contract.attested import Known
from rch.contract.canonical import jcs_sha256
from rch.contract.errors import Failure
from rch.contract.records import Attestation, Entry, decode_record
from rch.contract.sets import Found, examine
from rch.contract.signing import fingerprint_of, public_key_of
from rch.files.unzstd import bounded_reader
from rch_conformance.mock import mac, scenario
from rch_conformance.mock.stored import stored_frame
from rch_conformance.mock.worker import default_state

# --- a whole conversation ---------------------------------------------------------------------


@pytest.mark.spec("3.3", "13")
def test_a_host_can_hold_a_whole_run_with_it_and_believe_the_set(tmp_path: Path) -> None:
    with MockPipe(tmp_path / "state") as worker:
        told = worker.ask("probe")
        lease = worker.ask("reserve", run_id=SUBMIT.job.run_id, host_id="host-00000001")
        claim = {"lease_id": lease["lease_id"], "fence": lease["fence"]}
        assert worker.ask("has_source", source_sha256=SUBMIT.job.job_key_inputs.source_sha256) == {
            "exists": False
        }
        assert submitted(worker, **claim) == {"state": "RUNNING", "seq": 2}
        news = worker.ask("tail", job_id=JOB)
        assert news["next_cursor"] is None
        assert "rch-mock-worker" in news["log_chunk"]
        status = worker.ask("status", job_id=JOB)
        assert (status["state"], status["exit_code"]) == ("SUCCEEDED", 0)
        files = unpacked(worker.fetch(JOB)[1])
        worker.ask("release", **claim)
    assert told["capabilities"]["simulated"] is True
    entries = tuple(
        Entry(path=name, type="file", size=len(data), sha256=hashlib.sha256(data).hexdigest())
        for name, data in files.items()
    )
    looked = examine(
        Found(entries, files), Known(job=SUBMIT.job, host_nonce=SUBMIT.host_nonce, pins=(mac.FINGERPRINT,))
    )
    assert looked.errors == looked.distrust == []
    assert looked.trust is not None
    assert looked.trust.result == "verified"


@pytest.mark.spec("9")
def test_what_it_makes_is_called_simulated_in_every_record(tmp_path: Path) -> None:
    with MockPipe(tmp_path / "state") as worker:
        submitted(worker)
        files = unpacked(worker.fetch(JOB)[1])
    kept = {"job.json", "job_key_inputs.json", "invocation.json"}
    told = {name: json.loads(data) for name, data in files.items() if name.endswith(".json")}
    assert {name for name, record in told.items() if record.get("simulated") is not True} == kept
    assert b'name="simulated: ' in files["junit.xml"]


@pytest.mark.spec("9")
def test_only_a_flag_of_its_own_makes_it_hide_that_it_is_simulated(tmp_path: Path) -> None:
    with MockPipe(tmp_path / "state", "--pretend-real") as worker:
        assert worker.ask("probe")["capabilities"]["simulated"] is False
        submitted(worker)
        files = unpacked(worker.fetch(JOB)[1])
    assert json.loads(files["summary.json"])["simulated"] is False
    assert b"nothing is built here" in files["build.log"]


def test_the_key_that_it_names_is_the_published_one() -> None:
    assert fingerprint_of(public_key_of(mac.SEED)) == mac.FINGERPRINT
    assert b"published" in mac.SEED


# --- what it refuses --------------------------------------------------------------------------


@pytest.mark.spec("3.2")
def test_a_source_is_held_against_both_of_its_digests_and_its_form(tmp_path: Path) -> None:
    body = zstandard.ZstdCompressor().compress(TAR)
    right = hashlib.sha256(body).hexdigest()
    stream = {"content_length": len(body), "compression": "zstd", "format": "tar"}
    bad_form = TAR[:-1024] + TAR[:512] + bytes(1024)
    with MockPipe(tmp_path / "a") as worker, pytest.raises(Refused) as caught:
        worker.upload(TAR, stream={**stream, "content_sha256": "0" * 64})
    assert caught.value.data["reason"] == "transport_digest"
    with MockPipe(tmp_path / "b") as worker, pytest.raises(Refused) as caught:
        worker.upload(TAR, source_sha256="0" * 64, stream={**stream, "content_sha256": right})
    assert caught.value.data["reason"] == "bundle_digest"
    with MockPipe(tmp_path / "c") as worker, pytest.raises(Refused) as caught:
        worker.upload(bad_form)
    assert caught.value.data["reason"] == "not_canonical"


@pytest.mark.spec("3.3")
def test_a_submit_is_held_against_key_source_and_toolchain(tmp_path: Path) -> None:
    job = SUBMIT.job
    tools = {**job.job_key_inputs.toolchain, "arch": "x"}
    other = msgspec.structs.replace(job.job_key_inputs, toolchain=tools)
    wrong_key = msgspec.structs.replace(job, job_key="0" * 64)
    no_tool = msgspec.structs.replace(job, job_key_inputs=other, job_key=jcs_sha256(other))
    with MockPipe(tmp_path / "state") as worker:
        for made, code in ((job, "SOURCE_MISSING"), (wrong_key, "JOB_KEY_MISMATCH")):
            with pytest.raises(Refused, match=code):
                worker.ask("submit", **submit_with(made))
        worker.upload(TAR)
        with pytest.raises(Refused, match="TOOLCHAIN_CHANGED: arch"):
            worker.ask("submit", **submit_with(no_tool))
        with pytest.raises(Refused, match="LEASE_EXPIRED"):
            submitted(worker, lease_id="lease-00000009", fence=9)


@pytest.mark.spec("3.4")
def test_a_slot_is_given_once_and_its_fence_rises(tmp_path: Path) -> None:
    with MockPipe(tmp_path / "state") as worker:
        first = worker.ask("reserve", run_id="run-0000000001", host_id="host-00000001")
        same = worker.ask("reserve", run_id="run-0000000001", host_id="host-00000001")
        with pytest.raises(Refused) as caught:
            worker.ask("reserve", run_id="run-0000000002", host_id="host-00000001")
        worker.ask("release", lease_id=first["lease_id"], fence=first["fence"])
        second = worker.ask("reserve", run_id="run-0000000002", host_id="host-00000001")
    assert same["lease_id"] == first["lease_id"]
    assert (caught.value.code, caught.value.data) == ("BUSY", {"retry_after_seconds": 1})
    assert second["fence"] > first["fence"]


@pytest.mark.spec("3.3", "3.4")
def test_a_submit_that_contradicts_itself_and_one_without_a_slot_are_refused(tmp_path: Path) -> None:
    plain = msgspec.to_builtins(SUBMIT)
    with MockPipe(tmp_path / "state") as worker:
        worker.upload(TAR)
        for change, told in (
            ({"job_state_seq": 0}, "job_state_seq 0"),
            ({"host_nonce": ""}, "host_nonce"),
            ({"invocation": {**plain["invocation"], "sanitized_argv": ["build"]}}, "sanitized_argv"),
            ({"job": {**plain["job"], "action": "archive"}}, "archive"),
        ):
            with pytest.raises(Refused, match=told) as caught:
                worker.ask("submit", **{**plain, **change})
            assert caught.value.code == "INVALID_REQUEST"
        lease = worker.ask("reserve", run_id="run-of-another", host_id="host-00000001")
        with pytest.raises(Refused, match="BUSY"):
            worker.ask("submit", **plain)
        with pytest.raises(Refused, match="LEASE_EXPIRED"):
            worker.ask("submit", **{**plain, "lease_id": lease["lease_id"], "fence": lease["fence"]})
        with pytest.raises(Refused, match="reason 'WHIM'"):
            worker.ask("cancel", job_id=JOB, reason="WHIM")


@pytest.mark.spec("3.4")
@pytest.mark.parametrize("scenario", ["long-job", "no-lease-long-job"])
def test_a_job_without_a_lease_has_a_slot_until_it_is_over(tmp_path: Path, scenario: str) -> None:
    other = msgspec.to_builtins(SUBMIT)
    other["job"]["job_id"] = other["invocation"]["job_id"] = "job-of-another"
    with MockPipe(tmp_path / "state", "--scenario", scenario) as worker:
        assert worker.ask("probe")["capabilities"]["capacity"]["slots_free"] == 1
        submitted(worker)
        assert worker.ask("probe")["capabilities"]["capacity"]["slots_free"] == 0
        assert submitted(worker)["state"] == "RUNNING", "it is known, and needs no slot of its own"
        with pytest.raises(Refused) as caught:
            worker.ask("submit", **other)
        assert (caught.value.code, caught.value.data) == ("BUSY", {"retry_after_seconds": 1})
        with pytest.raises(Refused, match="BUSY" if scenario == "long-job" else "UNKNOWN_OPERATION"):
            worker.ask("reserve", run_id="run-0000000002", host_id="host-00000001")
        with pytest.raises(Refused, match="JOB_NOT_FOUND"):
            worker.ask("status", job_id="job-of-another")
        worker.ask("cancel", job_id=JOB, reason="USER")
        assert worker.ask("submit", **other)["state"] == "RUNNING"


@pytest.mark.spec("3.4")
def test_without_renewals_a_lease_lives_as_long_as_is_asked_and_is_not_renewed(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"run_id": "run-0000000001", "host_id": "host-00000001"}
    with MockPipe(tmp_path / "state", "--scenario", "no-renewals") as worker:
        lease = worker.ask("reserve", **asked, ttl_seconds=1234)
        assert lease["ttl_seconds"] == 1234
        with pytest.raises(Refused, match="FEATURE_MISSING"):
            worker.ask("reserve", **asked, lease_id=lease["lease_id"], fence=lease["fence"])
        assert worker.ask("reserve", **asked)["lease_id"] == lease["lease_id"]


@pytest.mark.spec("3.4")
def test_a_release_ends_what_runs_under_the_lease(tmp_path: Path) -> None:
    with MockPipe(tmp_path / "state", "--scenario", "long-job") as worker:
        lease = worker.ask("reserve", run_id=SUBMIT.job.run_id, host_id="host-00000001")
        claim = {"lease_id": lease["lease_id"], "fence": lease["fence"]}
        submitted(worker, **claim)
        worker.ask("release", **claim)
        assert worker.ask("status", job_id=JOB)["state"] == "CANCELLED"


# --- jobs that take their time ----------------------------------------------------------------


@pytest.mark.spec("3.3")
def test_a_long_job_runs_until_it_is_cancelled_and_its_log_grows(tmp_path: Path) -> None:
    with MockPipe(tmp_path / "state", "--scenario", "long-job") as worker:
        assert submitted(worker)["state"] == "RUNNING"
        first = worker.ask("tail", job_id=JOB)
        second = worker.ask("tail", job_id=JOB, cursor=first["next_cursor"], wait_seconds=30)
        assert second["state"] == "RUNNING"
        assert second["log_chunk"] or second["events"]
        assert worker.ask("cancel", job_id=JOB, reason="USER") == {"state": "CANCEL_REQUESTED"}
        status = worker.ask("status", job_id=JOB)
        assert (status["state"], status["seq"], status["exit_code"]) == ("CANCELLED", 4, 80)
        log = first["log_chunk"] + second["log_chunk"]
        assert unpacked(worker.fetch(JOB)[1])["build.log"].decode().startswith(log)


@pytest.mark.spec("3.3")
def test_a_job_that_is_cancelled_before_it_comes_never_runs(tmp_path: Path) -> None:
    with MockPipe(tmp_path / "state") as worker:
        assert worker.ask("cancel", job_id=JOB, reason="USER") == {"state": "CANCELLED"}
        assert submitted(worker) == {"state": "CANCELLED", "seq": 3}


@pytest.mark.spec("3.2")
def test_a_fetch_goes_on_from_an_offset_of_the_same_set(tmp_path: Path) -> None:
    with MockPipe(tmp_path / "state") as worker:
        submitted(worker)
        whole, body = worker.fetch(JOB)
        part, rest = worker.fetch(JOB, 1000)
    assert (part["offset"], part["set_sha256"], rest) == (1000, whole["set_sha256"], body[1000:])


def test_a_stored_frame_is_zstd_to_every_reader() -> None:
    for data in (b"x", bytes(range(256)) * 2048, b"y" * (128 << 10)):
        frame = stored_frame(data)
        assert zstandard.ZstdDecompressor().decompress(frame) == data
        assert bounded_reader(io.BytesIO(frame), max_output=len(data)).read() == data


# --- its command line -------------------------------------------------------------------------


def test_the_command_lists_and_shows_its_scenarios() -> None:
    listed = run("--list").stdout.decode()
    assert {line.split()[0] for line in listed.splitlines()} == set(scenario.names())
    assert run("--show", "busy").stdout == (scenario.BUILT_IN / "busy.toml").read_bytes()


@pytest.mark.parametrize("words", [("mock", "--list"), ("mock", "--show", "busy"), ("worker", "--list")])
def test_a_reader_that_leaves_early_is_no_error_of_ours(words: tuple[str, ...]) -> None:
    module = ["rch_conformance.mock"] if words[0] == "mock" else ["rch_conformance", "worker"]
    reading, writing = os.pipe()
    os.close(reading)
    argv = [sys.executable, "-m", *module, *words[1:]]
    done = subprocess.run(argv, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_it_serves_as_a_forced_command_would_be_called(tmp_path: Path) -> None:
    line = b'{"protocol_version":0,"op":"probe","request_id":"request-0001"}\n'
    done = run("--state", str(tmp_path / "state"), "xcode", "rpc", stdin=line)
    answer = json.loads(done.stdout)
    assert (answer["protocol_version"], answer["request_id"], answer["ok"]) == (0, "request-0001", True)


def test_without_a_place_its_state_is_private_and_one_a_scenario(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = default_state("busy")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert default_state("busy") == folder != default_state("success")
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(Failure, match="name another with --state"):
        default_state("busy")


def _damaged(state: Path) -> None:
    state.mkdir()
    (state / "worker.json").write_text("{")


def _foreign(state: Path) -> None:
    state.mkdir()
    (state / "worker.json").write_text('{"name": "of somebody else"}')


def _of_another(state: Path) -> None:
    assert run("--scenario", "busy", "--state", str(state)).returncode == 0


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda state: state.write_text("x"), "not a directory"),
        (_damaged, "worker.json: is damaged or not of a mock worker"),
        (_foreign, "worker.json: is damaged or not of a mock worker"),
        (_of_another, "is the state of scenario 'busy', not of 'success'"),
        (lambda state: (state / "transcript.jsonl").mkdir(parents=True), "is a directory"),
    ],
)
def test_a_state_that_is_none_is_refused_in_one_line(
    made: Callable[[Path], None], told: str, tmp_path: Path
) -> None:
    made(tmp_path / "state")
    done = run("--state", str(tmp_path / "state"))
    assert done.returncode == 3
    assert told in done.stderr.decode()
    assert "name another folder with --state" in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def test_two_files_of_one_name_are_two_scenarios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        found.append(scenario.identity("./x.toml"))
        assert found[-1] == scenario.identity(str(tmp_path / folder / "x.toml"))
    assert found[0] != found[1]
    assert scenario.identity("busy") == "busy"


def test_a_set_with_another_nonce_is_signed_all_the_same(tmp_path: Path) -> None:
    with MockPipe(tmp_path / "state", "--scenario", "wrong-nonce") as worker:
        submitted(worker)
        said = decode_record(unpacked(worker.fetch(JOB)[1])["attestation.json"], Attestation)
    assert said.host_nonce != SUBMIT.host_nonce
    assert said.public_key_fingerprint == mac.FINGERPRINT
