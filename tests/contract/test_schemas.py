"""The schema files: what is in them, that they are the types', and that they say what the readers do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no types
from support.emitted import INDEX, SCHEMAS, Ledger, validator

from rch.contract import records
from rch.contract.attestation import Trust
from rch.contract.forms import Id, Sha256, Timestamp, TrustResult
from rch.contract.ids import is_id, is_sha256, is_timestamp
from rch.contract.local_api import METHODS
from rch.contract.records import Record, Summary, decode_record
from rch.contract.schemas import artifacts, documents
from rch.contract.schemas.making import form
from rch.contract.worker_rpc import OPERATIONS, RESULTS

pytestmark = pytest.mark.spec("8")

REPO = SCHEMAS.parents[1]
EXAMPLES = REPO / "docs" / "examples"
RUN = EXAMPLES / "rch-xcode" / "green"
SUMMARY = "rch-xcode/summary.schema.json"


def changed(**members: Any) -> dict[str, Any]:
    """The sample of a summary with other members; `...` takes one out."""
    (path,) = RUN.glob("steps/test/*/summary.json")
    told = {**json.loads(path.read_bytes()), **members}
    return {name: value for name, value in told.items() if value is not ...}


def is_read(told: dict[str, Any]) -> bool:
    """Whether our own reader takes it."""
    try:
        decode_record(json.dumps(told).encode(), Summary)
    except ValueError:
        return False
    return True


def test_every_schema_is_one() -> None:
    for each in documents():
        jsonschema_rs.meta.validate(each.schema)
        jsonschema_rs.Draft202012Validator(each.schema)


@pytest.mark.parametrize(
    "name", ["rch-xcode/accepted", "worker-rpc/submit.request", "local-api/hello.response"]
)
def test_a_second_implementation_agrees(name: str) -> None:
    (schema,) = (each.schema for each in documents() if each.path == f"{name}.schema.json")
    Draft202012Validator.check_schema(schema)


def test_ids_are_the_files_own_and_follow_schema_ids() -> None:
    ids = [each.id for each in documents()]
    assert len(set(ids)) == len(ids)
    for each in artifacts():
        assert each.document.id == "urn:" + each.schema_id.replace("/", ":", 1)
        assert each.document.path == f"{each.schema_id.partition('@')[0]}.schema.json"
        assert INDEX["schemas"][each.document.id] == INDEX["artifacts"][each.schema_id]["file"]


def test_every_record_operation_and_method_has_a_schema() -> None:
    kinds = {
        each
        for each in vars(records).values()
        if isinstance(each, type) and issubclass(each, Record) and "schema_id" in each.__struct_fields__
    }
    assert kinds <= {each.kind for each in artifacts()}
    assert len(kinds) + 2 == len(artifacts())
    paths = {each.path for each in documents()}
    assert RESULTS.keys() == OPERATIONS.keys()
    ways = ("request", "response")
    assert {f"worker-rpc/{op}.{way}.schema.json" for op in OPERATIONS for way in ways} <= paths
    assert {f"local-api/{name}.{way}.schema.json" for name in METHODS for way in ways} <= paths


def test_artifacts_tell_their_members_for_whoever_writes_about_them() -> None:
    (state,) = (each for each in artifacts() if each.name == "run_state")
    assert (state.scope, state.place) == ("run", "run_state.json")
    told = {member.name: (member.required, member.words) for member in state.members}
    assert told["seq"] == (True, "integer")
    assert told["current_step"] == (True, "CurrentStep or null")
    assert told["schema_id"] == (True, "`rch-xcode/run_state@1`")
    assert told["waiting"] == (False, "string")
    assert all(each.about and each.members for each in artifacts())


@pytest.mark.parametrize(
    ("members", "right"),
    [
        ({}, True),
        ({"new_in_1_7": [1], "schema_version": "1.7.0"}, True),
        ({"verdict": ...}, True),
        ({"schema_version": "2.0.0"}, False),
        ({"schema_id": "rch-xcode/summary@2"}, False),
        ({"schema_id": ...}, False),
        ({"job_id": ...}, False),
        ({"attempts": "1"}, False),
        ({"verdict": {"outcome": "PASSED"}}, False),
    ],
)
def test_a_schema_takes_what_our_reader_takes(members: dict[str, Any], *, right: bool) -> None:
    told = changed(**members)
    assert is_read(told) is right
    assert validator(SUMMARY).is_valid(told) is right


@pytest.mark.parametrize(
    "members",
    [
        {"job_id": "../../etc"},
        {"created_at": "2026-01-02T03:04:05+00:00"},
        {"status": "passed"},
        {"job_key": "ABC"},
        {"failure_kind": "BAD_LUCK"},
        {"exit_code": -1},
    ],
)
def test_a_schema_says_more_of_what_is_written_than_a_type(members: dict[str, Any]) -> None:
    told = changed(**members)
    assert is_read(told)
    assert not validator(SUMMARY).is_valid(told)


@pytest.mark.parametrize(
    "value", ["run-000000001", "short", "-run-000000001", "a" * 64, "a" * 65, "a/b" * 5]
)
def test_the_pattern_of_ids_is_that_of_the_check(value: str) -> None:
    assert Draft202012Validator(form(Id)).is_valid(value) is is_id(value)


@pytest.mark.parametrize("value", ["a" * 64, "A" * 64, "a" * 63, "g" * 64])
def test_the_pattern_of_digests_is_that_of_the_check(value: str) -> None:
    assert Draft202012Validator(form(Sha256)).is_valid(value) is is_sha256(value)


@pytest.mark.parametrize(
    "value",
    ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.1Z", "2026-01-02T03:04:05+00:00", "2026-01-02 03:04:05Z"],
)
def test_the_pattern_of_times_is_that_of_the_check(value: str) -> None:
    assert Draft202012Validator(form(Timestamp)).is_valid(value) is is_timestamp(value)


def test_the_words_for_trust_are_those_that_its_type_tells() -> None:
    assert all(word in str(Trust.__doc__) for word in form(TrustResult)["enum"])


def samples() -> Iterator[tuple[Path, str]]:
    """Each sample of a message with its schema."""
    for path in sorted([*EXAMPLES.glob("worker-rpc/*.json"), *EXAMPLES.glob("local-api/*.json")]):
        yield path, f"{path.parent.name}/{path.stem}.schema.json"


def test_the_samples_hold_and_there_is_one_of_every_artifact_and_operation() -> None:
    ledger = Ledger()
    ledger.artifacts(EXAMPLES)
    for path, schema in samples():
        Draft202012Validator(json.loads((SCHEMAS / schema).read_bytes())).validate(
            json.loads(path.read_bytes())
        )
    assert ledger.wrong == []
    assert {each.document.path for each in artifacts()} == ledger.counts.keys()
    assert {f"{op}.response.json" for op in OPERATIONS} <= {path.name for path, _ in samples()}


def test_the_shipped_files_are_up_to_date_and_any_that_is_not_is_named(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    for folder in ("schemas", "examples"):
        shutil.copytree(REPO / "docs" / folder, docs / folder)
    (docs / "schemas" / SUMMARY).write_text("{}")
    (docs / "schemas" / "rch-xcode" / "old.schema.json").write_text("{}")
    (docs / "examples" / "rch-xcode" / "green" / "run_state.json").unlink()

    told = checked(docs)
    assert told.returncode == 1
    assert "make schemas" in told.stderr
    assert told.stdout.splitlines() == [
        "docs/schemas/rch-xcode/old.schema.json: nothing gives it",
        f"docs/schemas/{SUMMARY}: differs",
        "docs/examples/rch-xcode/green/run_state.json: is missing",
    ]


def checked(docs: Path) -> subprocess.CompletedProcess[str]:
    """`make lint`'s check of `docs`."""
    argv = [sys.executable, str(REPO / "scripts" / "schemas"), "--check", str(docs)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
