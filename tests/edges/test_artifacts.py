"""Sets that are not what they say, and that no green is read into."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from support.sets import (
    LOG,
    ArtifactSet,
    a_job,
    right_set,
)
from support.verified_sets import NoSync, flipped, ready_places, refused, tree, verify

from rch.contract.manifest import sort_entries
from rch.contract.records import Entry, Job, Summary, encode_record
from rch.files import durable
from rchd.edges import artifacts
from rchd.edges.artifacts import Places


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "_sys", NoSync())


@pytest.fixture
def at(tmp_path: Path) -> Places:
    return ready_places(tmp_path)


@pytest.mark.spec("8")
def test_a_right_set_is_verified_and_published_as_it_came(at: Places) -> None:
    made = right_set()
    verified = verify(at, made.tar(), made.sealed())
    assert (verified.summary.status, verified.state.state, verified.state.seq) == (
        "success",
        "SUCCEEDED",
        3,
    )
    assert artifacts.publish(at)
    assert tree(at.step) == made.files
    assert not at.rejected.exists()
    said = json.loads((at.host / "attestation_verification.json").read_bytes())
    assert said["result"] == "unsigned"
    assert said["manifest_sha256"] == hashlib.sha256(made.files["manifest.json"]).hexdigest()


# --- A1: every kind of file, every kind of harm -------------------------------------------


LISTED = sorted(ArtifactSet().fill().files)


@pytest.mark.fault("A1")
@pytest.mark.parametrize("path", [*LISTED, "manifest.json", "job_index.json", "attestation.json"])
def test_a_flipped_bit_is_found_in_every_kind_of_file(at: Places, path: str) -> None:
    made = right_set()
    manifest = made.sealed()
    made.files[path] = flipped(made.files[path])
    found = refused(at, made.tar(), manifest)
    assert any(path in error for error in found.errors)
    assert tree(at.rejected) == made.files


@pytest.mark.fault("A1")
@pytest.mark.parametrize("path", ["job_index.json", "attestation.json"])
def test_every_fact_of_what_no_manifest_lists_is_compared(at: Places, path: str) -> None:
    made = right_set()
    manifest, right = made.sealed(), made.files[path]
    facts = ["run_id", "job_id", "job_key", "schema_id"]
    facts += ["source_sha256", "manifest_sha256", "host_nonce"] if path == "attestation.json" else []
    for fact in facts:
        value = json.loads(right)[fact]
        made.files[path] = right.replace(f'"{fact}": "{value}"'.encode(), f'"{fact}": "{value}0"'.encode())
        assert made.files[path] != right
        artifacts.prepare(at)
        found = refused(at, made.tar(), manifest)
        assert path in found.errors[0] or "job_index@1" in found.errors[0]
        assert found.trust is (path == "attestation.json")


Harm = Callable[[ArtifactSet], None]


def swap(made: ArtifactSet) -> None:
    made.files["build.log"], made.files["events.jsonl"] = (
        made.files["events.jsonl"],
        made.files["build.log"],
    )


def delete(made: ArtifactSet) -> None:
    del made.files["build.log"]


def add(made: ArtifactSet) -> None:
    made.files["extra.txt"] = b"hello"


def add_folder(made: ArtifactSet) -> None:
    made.folders.append("extra.d")


def delete_folder(made: ArtifactSet) -> None:
    made.folders.remove("result.xcresult/Data")
    del made.files["result.xcresult/Data/data.0"]


def rename(made: ArtifactSet) -> None:
    made.files["built.log"] = made.files.pop("build.log")


def grow(made: ArtifactSet) -> None:
    made.files["build.log"] += b"one more line\n"


def shrink(made: ArtifactSet) -> None:
    made.files["build.log"] = made.files["build.log"][:-1]


def file_for_folder(made: ArtifactSet) -> None:
    delete_folder(made)
    made.files["result.xcresult/Data"] = b""


def no_index(made: ArtifactSet) -> None:
    del made.files["job_index.json"]


def no_attestation(made: ArtifactSet) -> None:
    del made.files["attestation.json"]


def no_manifest(made: ArtifactSet) -> None:
    del made.files["manifest.json"]


@pytest.mark.fault("A1")
@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (swap, "build.log: 55 bytes, not"),
        (delete, "build.log: missing"),
        (add, "extra.txt: not in the manifest"),
        (add_folder, "extra.d: not in the manifest"),
        (delete_folder, "result.xcresult/Data: missing"),
        (rename, "built.log: not in the manifest"),
        (grow, f"build.log: {len(LOG) + 14} bytes, not {len(LOG)}"),
        (shrink, f"build.log: {len(LOG) - 1} bytes, not {len(LOG)}"),
        (file_for_folder, "result.xcresult/Data: is a file, not a directory"),
        (no_index, "job_index.json: missing"),
        (no_attestation, "attestation.json: missing"),
        (no_manifest, "manifest.json: missing"),
    ],
)
def test_a_set_that_was_changed_after_it_was_sealed_is_refused(at: Places, harm: Harm, named: str) -> None:
    made = right_set()
    manifest = made.sealed()
    harm(made)
    found = refused(at, made.tar(), manifest)
    assert any(error.startswith(named) for error in found.errors), found.errors
    assert not found.trust
    assert tree(at.rejected) == made.files


@pytest.mark.fault("A1")
@pytest.mark.parametrize("name", ["summary.json", "job_state.json", "job_key_inputs.json"])
@pytest.mark.parametrize("as_folder", [False, True])
def test_a_manifest_without_a_file_that_is_read_is_refused(
    at: Places, name: str, *, as_folder: bool
) -> None:
    made = ArtifactSet().fill()
    del made.files[name]
    if as_folder:
        made.folders.append(name)
    manifest = made.seal()
    assert any(error.startswith(name) for error in refused(at, made.tar(), manifest).errors)


# --- A2, A4: consistent, and yet not what was asked for -----------------------------------


@pytest.mark.fault("A2")
def test_a_set_sealed_anew_under_another_header_is_refused(at: Places) -> None:
    made = right_set()
    manifest = made.sealed()
    made.files["build.log"] = b"all is well\n"
    made.seal()
    found = refused(at, made.tar(), manifest)
    assert found.errors == ("manifest.json: differs from the one in the header",)


def entries_of(made: ArtifactSet) -> list[Entry]:
    return list(made.entries())


def reorder(entries: list[Entry]) -> list[Entry]:
    return entries[::-1]


def list_twice(entries: list[Entry]) -> list[Entry]:
    return list(sort_entries([*entries, entries[0]]))


def list_the_manifest(entries: list[Entry]) -> list[Entry]:
    listed = Entry(path="manifest.json", type="file", size=1, sha256="0" * 64)
    return list(sort_entries([*entries, listed]))


def claim_a_link(entries: list[Entry]) -> list[Entry]:
    return [msgspec.structs.replace(entries[0], type="symlink"), *entries[1:]]


def below_zero(entries: list[Entry]) -> list[Entry]:
    return [msgspec.structs.replace(entries[0], size=-(1 << 60)), *entries[1:]]


@pytest.mark.fault("A2")
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (reorder, "manifest.json: entries are not sorted"),
        (list_twice, "build.log: listed twice"),
        (list_the_manifest, "manifest.json: may not be listed"),
        (claim_a_link, "build.log: is a file, not a symlink"),
        (below_zero, f"build.log: {len(LOG)} bytes, not -1"),
    ],
)
def test_a_manifest_that_breaks_its_own_rules_is_refused(
    at: Places, change: Callable[[list[Entry]], list[Entry]], named: str
) -> None:
    made = ArtifactSet().fill()
    entries = change(entries_of(made))
    manifest = made.put_manifest(entries, artifact_root_sha256="0" * 64)
    made.put_attestation()
    made.put_index()
    found = refused(at, made.tar(), manifest)
    assert any(error.startswith(named) for error in found.errors), found.errors


@pytest.mark.fault("A2")
def test_a_root_that_is_not_that_of_the_entries_is_refused(at: Places) -> None:
    made = ArtifactSet().fill()
    manifest = made.put_manifest(artifact_root_sha256="0" * 64)
    made.put_attestation()
    made.put_index()
    found = refused(at, made.tar(), manifest)
    assert found.errors == ("manifest.json: artifact_root_sha256 is not that of its entries",)


@pytest.mark.fault("A4")
@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("run_id", "run-of-another"),
        ("job_id", "job-of-another"),
        ("job_key", "0" * 64),
        ("job_key", None),
        ("source_sha256", "0" * 64),
        ("manifest_sha256", "0" * 64),
        ("host_nonce", "m" * 32),
        ("host_nonce", ""),
    ],
)
def test_an_attestation_of_something_else_is_refused_as_such(
    at: Places, member: str, value: str | None
) -> None:
    made = ArtifactSet().fill()
    manifest = made.put_manifest()
    made.put_attestation(**{member: value})
    made.put_index()
    found = refused(at, made.tar(), manifest)
    assert found.trust
    assert found.errors[0].startswith(f"attestation.json: {member} {value!r}, not ")


@pytest.mark.fault("A4")
@pytest.mark.parametrize(
    "other",
    [
        a_job(run_id="run-of-another"),
        a_job(job_id="job-of-another"),
        a_job(source="0" * 64),
    ],
    ids=["run", "job", "source"],
)
def test_a_whole_right_set_of_another_job_is_refused(at: Places, other: Job) -> None:
    made = ArtifactSet(job=other).fill()
    manifest = made.seal()
    found = refused(at, made.tar(), manifest)
    assert any("rch-xcode/manifest@1: speaks of job" in error for error in found.errors)
    assert not found.trust


@pytest.mark.fault("A4")
def test_the_set_of_an_older_attempt_with_another_nonce_is_refused(at: Places) -> None:
    made = ArtifactSet(nonce="o" * 32).fill()
    manifest = made.seal()
    assert refused(at, made.tar(), manifest).trust


@pytest.mark.parametrize("state", ["QUEUED", "RUNNING", "CANCEL_REQUESTED", "DONE"])
def test_a_set_whose_job_is_not_at_its_end_is_refused(at: Places, state: str) -> None:
    made = right_set(state=state)
    found = refused(at, made.tar(), made.sealed())
    assert found.errors == (f"job_state.json: state {state} is no end",)


@pytest.mark.parametrize("path", ["nowhere.json", "../job_state.json", "/etc/passwd", ""])
def test_an_index_that_points_at_nothing_of_the_set_is_refused(at: Places, path: str) -> None:
    made = ArtifactSet().fill()
    manifest = made.put_manifest()
    made.put_attestation()
    made.put_index({"summary": path})
    found = refused(at, made.tar(), manifest)
    assert f"job_index.json: {path} is not in the set" in found.errors
    assert "job_index.json: names no build_log" in found.errors


def test_job_key_inputs_in_another_form_are_refused(at: Places) -> None:
    made = ArtifactSet().fill()
    made.files["job_key_inputs.json"] += b"\n"
    manifest = made.seal()
    found = refused(at, made.tar(), manifest)
    assert found.errors == ("job_key_inputs.json: not those of the job that was asked for",)


@pytest.mark.parametrize("name", ["summary.json", "job_state.json", "job_index.json"])
def test_a_record_that_is_another_or_of_another_major_is_refused(at: Places, name: str) -> None:
    made = right_set()
    old = made.files[name]
    if name == "job_index.json":
        made.files[name] = old.replace(b"@1", b"@2")
        manifest = made.sealed()
    else:
        made.files[name] = old.replace(b"@1", b"@2")
        manifest = made.seal()
    found = refused(at, made.tar(), manifest)
    assert "@2" in found.errors[0]
    assert found.errors[0].startswith(f"{name}: schema rch-xcode/")


# --- the live log -------------------------------------------------------------------------


@pytest.mark.fault("S5")
def test_a_repeated_piece_of_the_log_is_the_same_bytes_again(tmp_path: Path) -> None:
    path = tmp_path / "host" / "job" / "live.log"
    artifacts.write_log(path, 0, b"one\n")
    artifacts.write_log(path, 4, b"two\n")
    artifacts.write_log(path, 0, b"one\n")
    assert path.read_bytes() == b"one\ntwo\n"


@pytest.mark.spec("9")
@pytest.mark.parametrize(
    ("state", "changes", "named"),
    [
        ("FAILED", {}, "status 'success' does not go with state 'FAILED'"),
        ("SUCCEEDED", {"exit_code": 50}, "a success with exit code 50"),
        ("SUCCEEDED", {"failure_kind": "SWIFTPM"}, "a success with exit code 0"),
        (
            "FAILED",
            {"status": "failed", "failure_kind": "SWIFTPM"},
            "exit code 0 is not that of SWIFTPM",
        ),
        ("FAILED", {"status": "failed", "exit_code": 50}, "failure_kind None is not known"),
        ("FAILED", {"status": "failed", "exit_code": 1, "failure_kind": "LUCK"}, "'LUCK' is not known"),
        ("SUCCEEDED", {"status": "passed"}, "status 'passed' does not go"),
        ("CANCELLED", {"status": "cancelled", "failure_kind": "CANCELLED"}, "exit code 0 is not that of"),
    ],
)
def test_no_green_is_read_into_a_summary_that_contradicts_itself(
    at: Places, state: str, changes: dict[str, object], named: str
) -> None:
    made = right_set(state=state)
    summary = msgspec.json.decode(made.files["summary.json"], type=Summary)
    made.files["summary.json"] = encode_record(msgspec.structs.replace(summary, **changes))
    manifest = made.seal()
    found = refused(at, made.tar(), manifest)
    assert any(named in error for error in found.errors), found.errors


@pytest.mark.fault("A4")
def test_a_set_whose_job_is_not_the_one_that_was_asked_for_is_refused(at: Places) -> None:
    made = right_set()
    other = msgspec.structs.replace(made.job, effective_config={"config": {"backend": "other"}})
    made.files["job.json"] = encode_record(other)
    manifest = made.seal()
    assert refused(at, made.tar(), manifest).errors == ("job.json: not the job that was asked for",)


def test_a_good_second_fetch_leaves_nothing_of_the_bad_first(at: Places) -> None:
    bad = right_set(state="RUNNING")
    refused(at, bad.tar(), bad.sealed())
    assert at.rejected.exists()
    made = right_set()
    verify(at, made.tar(), made.sealed())
    assert not at.rejected.exists()
