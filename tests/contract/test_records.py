"""Artifacts as bytes, and the registry of failures."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from rch.contract import records
from rch.contract.errors import Kind, lookup, registry
from rch.contract.ids import is_id, is_timestamp, parse_timestamp, require_id, timestamp
from rch.contract.manifest import differences, root_sha256, sort_entries
from rch.contract.records import Entry, JobStateRecord, decode_record, encode_record, schema_id_of

STATE = JobStateRecord(
    created_at="2026-01-01T00:00:00.000Z",
    run_id="run-00000001",
    job_id="job-00000001",
    job_key=None,
    state="QUEUED",
    seq=1,
    updated_at="2026-01-01T00:00:00.000Z",
)


def every_record() -> list[type[records.Record]]:
    found = [getattr(records, name) for name in records.__all__]
    bases = {records.Record, records.RunRecord, records.JobRecord}
    return [
        each
        for each in found
        if isinstance(each, type) and issubclass(each, records.Record) and each not in bases
    ]


@pytest.mark.spec("8")
@pytest.mark.parametrize("kind", every_record(), ids=lambda kind: kind.__name__)
def test_every_artifact_has_the_envelope_and_a_schema_id_of_its_own(kind: type[records.Record]) -> None:
    names = {field.name for field in msgspec.structs.fields(kind)}
    assert {"schema_version", "schema_id", "created_at", "run_id"} <= names
    assert schema_id_of(kind).startswith("rch-xcode/")
    assert sum(schema_id_of(other) == schema_id_of(kind) for other in every_record()) == 1


@pytest.mark.spec("8")
def test_a_higher_version_of_the_same_major_is_read_and_unknown_fields_are_ignored() -> None:
    raw = json.loads(encode_record(STATE)) | {"schema_version": "1.7.0", "new_field": [1]}
    assert decode_record(json.dumps(raw).encode(), JobStateRecord).seq == 1


@pytest.mark.spec("8")
@pytest.mark.parametrize(
    "changes",
    [
        {"schema_id": "rch-xcode/job_state@2"},
        {"schema_id": "rch-xcode/run_state@1"},
        {"schema_version": "2.0.0"},
    ],
)
def test_another_major_is_refused_naming_both_ids(changes: dict[str, str]) -> None:
    raw = json.loads(encode_record(STATE)) | changes
    with pytest.raises(ValueError, match="rch-xcode/job_state@1 is read") as caught:
        decode_record(json.dumps(raw).encode(), JobStateRecord)
    assert raw["schema_id"] in str(caught.value)


@pytest.mark.spec("8")
def test_a_record_that_nests_without_end_is_refused_as_any_other() -> None:
    raw = encode_record(STATE).rstrip(b"}\n ") + b',"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    with pytest.raises(ValueError, match="nests too deep"):
        decode_record(raw, JobStateRecord)


@pytest.mark.spec("8")
def test_a_field_that_has_nothing_to_say_is_left_out() -> None:
    summary = records.RunStateRecord(
        created_at="x", run_id="r", state="QUEUED", seq=1, updated_at="x", current_step=None
    )
    raw = json.loads(encode_record(summary))
    assert "resumed_at" not in raw
    assert raw["current_step"] is None


@pytest.mark.spec("8")
def test_the_exit_codes_of_the_registry() -> None:
    codes = {
        "CLASSIFIER_REJECTED": 10, "SSH": 20, "TRANSFER": 30, "EXECUTOR": 40,
        "XCODEBUILD": 50, "SWIFTPM": 50, "ARTIFACTS": 70, "CANCELLED": 80,
        "WORKER_BUSY": 90, "WORKER_INCOMPATIBLE": 91, "BUNDLER": 92,
        "ATTESTATION": 93, "INTERNAL": 1, "USAGE": 2, "CONFIG": 3, "DAEMON": 4,
    }  # fmt: skip
    assert {str(kind): lookup(kind).exit_code for kind in Kind} == codes
    for kind, _subkind, entry in registry():
        assert entry.exit_code == codes[kind]
        assert entry.remedy
        assert "\n" not in entry.remedy


@pytest.mark.spec("8")
def test_a_remedy_says_to_go_on_as_before_just_where_the_registry_calls_the_failure_retryable() -> None:
    as_before = re.compile(r"\bagain\b|^wait\b|^check (that )?the worker|^rchctl daemon start$")
    for kind, subkind, entry in registry():
        told = as_before.search(entry.remedy) is not None and not entry.remedy.startswith("mend ")
        assert told is entry.retryable, (kind, subkind, entry.remedy)


@pytest.mark.spec("2")
@pytest.mark.parametrize(
    "text", ["short", "-starts-wrong-00", "has space 0000", "x" * 65, "a/../../b0000", "", None, 3]
)
def test_what_is_no_id_never_reaches_a_path(text: object) -> None:
    assert not is_id(text)
    with pytest.raises(ValueError, match="job_id"):
        require_id(text, "job_id")


@pytest.mark.spec("2")
def test_times_are_utc_with_a_z() -> None:
    assert timestamp(0.0015) == "1970-01-01T00:00:00.001Z"
    assert parse_timestamp("1970-01-01T00:00:01.500Z") == 1.5
    assert not is_timestamp("1970-01-01T00:00:01+00:00")


FILES = (
    Entry(path="build.log", type="file", size=3, sha256="a" * 64),
    Entry(path="dir", type="directory", size=0, sha256=None),
)


@pytest.mark.spec("8")
@pytest.mark.fault("A1")
@pytest.mark.parametrize(
    ("found", "error"),
    [
        (FILES[:1], "dir: missing"),
        ((*FILES, Entry(path="x", type="file", size=0, sha256="b" * 64)), "x: not in the manifest"),
        ((msgspec.structs.replace(FILES[0], size=4), FILES[1]), "build.log: 4 bytes, not 3"),
        ((msgspec.structs.replace(FILES[0], sha256="c" * 64), FILES[1]), "build.log: sha256"),
        ((msgspec.structs.replace(FILES[0], type="directory"), FILES[1]), "is a directory, not a file"),
    ],
)
def test_a_set_that_differs_from_its_manifest_is_told_by_path(found: tuple[Entry, ...], error: str) -> None:
    assert any(error in line for line in differences(FILES, found))


@pytest.mark.spec("8")
def test_a_set_that_is_its_manifest_has_no_differences() -> None:
    extra = (Entry(path="manifest.json", type="file", size=1, sha256="d" * 64),)
    assert differences(FILES, (*FILES, *extra)) == []
    assert differences(tuple(reversed(FILES)), FILES)
    assert sort_entries(reversed(FILES)) == FILES
    assert root_sha256(FILES) == root_sha256(list(FILES))


@pytest.mark.spec("7")
def test_what_passes_changes_no_digest_of_capabilities_and_what_stays_does() -> None:
    words: dict[str, Any] = {
        "hostname": "mini",
        "probed_at": "2026-01-01T00:00:00.000Z",
        "capacity": {"cpus": 8, "slots_total": 2, "slots_free": 2, "disk_free_bytes": 9, "load_milli": 1},
        "of a later version": [1],
    }
    stays = {"hostname": "mini", "capacity": {"cpus": 8, "slots_total": 2}, "of a later version": [1]}
    assert records.stable_capabilities(words) == stays
    busy = {"slots_free": 0, "disk_free_bytes": 1, "load_milli": 9000}
    later = {**words, "probed_at": "2030-01-01T00:00:00.000Z", "capacity": {**words["capacity"], **busy}}
    assert records.stable_capabilities(later) == stays
    assert records.stable_capabilities({**words, "capacity": None})["capacity"] is None
