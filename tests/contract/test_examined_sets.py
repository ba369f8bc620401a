"""A set in memory, wrong in one way at a time: the examination names that, and passes the right one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from support.sets import JOB_ID, NONCE, RUN_ID, ArtifactSet, a_job, right_set

from rch.contract.attested import Known
from rch.contract.manifest import UNLISTED
from rch.contract.records import (
    AttestationVerification,
    Entry,
    JobStateRecord,
    Manifest,
    Summary,
    decode_record,
    encode_record,
)
from rch.contract.set_limits import MAX_VALUES
from rch.contract.sets import READ, Examined, Found, digest, examine, incoherent, outline

pytestmark = pytest.mark.spec("8")

Change = Callable[[ArtifactSet], object]


def found(made: ArtifactSet) -> Found:
    """What a reader of the folder hands over."""
    unlisted = tuple(
        Entry(path=name, type="file", size=len(data), sha256=digest(data))
        for name, data in made.files.items()
        if name in UNLISTED
    )
    records = {name: data for name, data in made.files.items() if name in READ}
    return Found(entries=made.entries() + unlisted, records=records)


def known(**changes: Any) -> Known:
    """What the daemon knows when it fetches."""
    return Known(**{"job": a_job(), "host_nonce": NONCE, "capabilities_sha256": "d" * 64, **changes})


def looked_at(change: Change, **knows: Any) -> Examined:
    made = right_set()
    change(made)
    return examine(found(made), known(**knows))


def put(name: str, **members: Any) -> Change:
    """Other members in a JSON file, the three unlisted ones made anew over it."""

    def change(made: ArtifactSet) -> None:
        made.files[name] = json.dumps({**json.loads(made.files[name]), **members}).encode()
        made.seal()

    return change


def late(name: str, **members: Any) -> Change:
    """Other members in one of the unlisted files, after the others were made."""

    def change(made: ArtifactSet) -> None:
        made.files[name] = json.dumps({**json.loads(made.files[name]), **members}).encode()

    return change


def gone(name: str) -> Change:
    def change(made: ArtifactSet) -> None:
        del made.files[name]
        made.seal()

    return change


def folder_instead(name: str) -> Change:
    def change(made: ArtifactSet) -> None:
        del made.files[name]
        made.folders.append(name)
        made.seal()

    return change


def index_without(name: str) -> Change:
    def change(made: ArtifactSet) -> None:
        files = json.loads(made.files["job_index.json"])["files"]
        made.put_index({key: path for key, path in files.items() if key != name})

    return change


def index_with(**pointers: str) -> Change:
    def change(made: ArtifactSet) -> None:
        made.put_index({**json.loads(made.files["job_index.json"])["files"], **pointers})

    return change


def other_job(**members: Any) -> bytes:
    return encode_record(msgspec.structs.replace(a_job(), **members))


def replaced(name: str, data: bytes) -> Change:
    def change(made: ArtifactSet) -> None:
        made.files[name] = data
        made.seal()

    return change


def manifest_of(entries: Callable[[tuple[Entry, ...]], list[Entry]]) -> Change:
    def change(made: ArtifactSet) -> None:
        made.put_manifest(entries(made.entries()))
        made.put_attestation()
        made.put_index()

    return change


def test_the_right_set_has_nothing_wrong_and_tells_its_records() -> None:
    looked = looked_at(lambda _: None)
    assert (looked.good, looked.errors, looked.distrust, looked.notes) == (True, [], [], [])
    assert looked.trust is not None
    assert looked.trust.result == "unsigned"
    assert looked.job == a_job()
    assert looked.summary is not None
    assert looked.summary.status == "success"
    assert looked.state is not None
    assert looked.state.state == "SUCCEEDED"


NO_END = "job_state.json: state RUNNING is no end"
NO_GREEN = "summary.json: status 'success' does not go with state 'FAILED'"

BAD: dict[str, tuple[Change, str]] = {
    "no manifest": (lambda made: made.files.pop("manifest.json"), "manifest.json: missing"),
    "a manifest that is none": (
        lambda made: made.files.update({"manifest.json": b"{}"}),
        "manifest.json: no artifact: Object missing required field `schema_id`",
    ),
    "another root": (
        lambda made: made.put_manifest(artifact_root_sha256="0" * 64),
        "manifest.json: artifact_root_sha256 is not that of its entries",
    ),
    "a size that no canonical JSON holds": (
        lambda made: made.put_manifest(
            [*made.entries(), Entry(path="zz", type="file", size=1 << 53, sha256="0" * 64)],
            artifact_root_sha256="0" * 64,
        ),
        "manifest.json: artifact_root_sha256 is not that of its entries",
    ),
    "no index": (lambda made: made.files.pop("job_index.json"), "job_index.json: missing"),
    "an index without the log": (index_without("build_log"), "job_index.json: names no build_log"),
    "an index without a file that is there": (index_without("events"), "job_index.json: names no events"),
    "a pointer elsewhere": (
        index_with(build_log="events.jsonl"),
        "job_index.json: build_log is events.jsonl, not build.log",
    ),
    "a pointer to nothing": (index_with(more="more.txt"), "job_index.json: more.txt is not in the set"),
    "no job": (gone("job.json"), "job.json: missing"),
    "another job": (
        replaced("job.json", other_job(original_constraint="platform=macOS")),
        "job.json: not the job that was asked for",
    ),
    "other inputs of the key": (
        replaced("job_key_inputs.json", b"{}"),
        "job_key_inputs.json: not those of the job that was asked for",
    ),
    "no inputs of the key": (
        gone("job_key_inputs.json"),
        "job_key_inputs.json: not those of the job that was asked for",
    ),
    "no summary": (gone("summary.json"), "summary.json: missing"),
    "a summary that is none": (
        replaced("summary.json", b"{}"),
        "summary.json: no artifact: Object missing required field `schema_id`",
    ),
    "a summary of another job": (
        put("summary.json", job_id="job-0000000002"),
        f"rch-xcode/summary@1: speaks of job job-0000000002 of run {RUN_ID}",
    ),
    "a state of another run": (
        put("job_state.json", run_id="run-0000000002"),
        f"rch-xcode/job_state@1: speaks of job {JOB_ID} of run run-0000000002",
    ),
    "an index of another key": (
        late("job_index.json", job_key="0" * 64),
        f"rch-xcode/job_index@1: speaks of job {JOB_ID} of run {RUN_ID}",
    ),
    "a state that is no end": (
        put("job_state.json", state="RUNNING"),
        "job_state.json: state RUNNING is no end",
    ),
    "a state that is not the summary's": (put("job_state.json", state="FAILED"), NO_GREEN),
    "test results that are none": (
        replaced("test_summary.json", b"[]"),
        "test_summary.json: no artifact: Expected `object`, got `array`",
    ),
    "a simulation that the manifest is silent of": (
        put("summary.json", simulated=True),
        "rch-xcode/manifest@1: simulated is not True, as the summary says",
    ),
    "an index that calls it simulated": (
        late("job_index.json", simulated=True),
        "rch-xcode/job_index@1: simulated is not False, as the summary says",
    ),
    "a summary of another profile": (
        put("summary.json", artifact_profile="minimal"),
        "rch-xcode/summary@1: artifact_profile 'minimal', not 'rich'",
    ),
    "an index of another profile": (
        late("job_index.json", artifact_profile="minimal"),
        "rch-xcode/job_index@1: artifact_profile 'minimal', not 'rich'",
    ),
    "a folder in a record's place": (
        folder_instead("summary.json"),
        "summary.json: is no file that can be read",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_as_it_should_be_is_named(case: str) -> None:
    change, told = BAD[case]
    looked = looked_at(change)
    assert told in looked.errors
    assert not looked.good
    assert looked.failure() == (looked.errors, False)


@pytest.mark.spec("10")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            late("attestation.json", manifest_sha256="0" * 64),
            "attestation.json: manifest_sha256 '" + "0" * 64 + "', not",
        ),
        (
            late("attestation.json", schema_id="rch-xcode/other@1"),
            "attestation.json: schema rch-xcode/other@1",
        ),
        (
            late("attestation.json", more=[0] * (MAX_VALUES + 1)),
            f"attestation.json: has more than {MAX_VALUES}",
        ),
    ],
)
def test_what_is_wrong_with_an_attestation_alone_is_distrust(change: Change, told: str) -> None:
    looked = looked_at(change)
    assert looked.errors == []
    assert looked.distrust[0].startswith(told)
    assert looked.failure() == (looked.distrust, True)


def test_an_attestation_that_is_missing_is_a_file_that_is_missing() -> None:
    looked = looked_at(lambda made: made.files.pop("attestation.json"))
    assert looked.errors == [
        "job_index.json: attestation.json is not in the set",
        "attestation.json: missing",
    ]


def test_of_a_set_that_is_known_to_be_bad_the_attestation_is_not_weighed() -> None:
    wrong = late("attestation.json", host_nonce="another")
    assert looked_at(wrong).distrust == [f"attestation.json: host_nonce 'another', not {NONCE!r}"]

    def both(made: ArtifactSet) -> None:
        wrong(made)
        made.files["job_index.json"] = b"{}"

    looked = looked_at(both)
    assert (looked.distrust, looked.trust) == ([], None)
    assert looked.errors


def test_of_a_manifest_that_is_not_the_announced_one_nothing_more_is_told() -> None:
    made = right_set()
    header = msgspec.structs.replace(made.sealed(), created_at="2026-01-01T00:00:00Z")
    looked = examine(found(made), known(manifest=header))
    assert looked.errors == ["manifest.json: differs from the one in the header"]
    assert examine(found(made), known(manifest=made.sealed())).good


def test_each_record_that_speaks_of_another_job_is_named_also_in_the_outline() -> None:
    looked = outline(found(right_set()), Known(job_id="job-0000000009"))
    assert looked.errors == [
        f"rch-xcode/{name}@1: speaks of job {JOB_ID}" for name in ("manifest", "job_index")
    ]
    assert looked.distrust == [f"rch-xcode/attestation@1: speaks of job {JOB_ID}"]
    assert outline(found(right_set()), Known(job_id=JOB_ID)).good


NOTED = {"manifest": "errors", "job_index": "errors", "attestation": "distrust"}


@pytest.mark.parametrize("name", NOTED)
def test_a_file_that_was_another_when_it_was_fetched_is_named(name: str) -> None:
    made = right_set()
    digests = {f"{each}_sha256": digest(made.files[f"{each}.json"]) for each in NOTED}

    def noted(**changes: str) -> AttestationVerification:
        head = {**made.head(), "result": "unsigned", "detail": ""}
        return msgspec.convert({**head, **digests, **changes}, AttestationVerification)

    assert examine(found(made), known(noted=noted())).good
    looked = examine(found(made), known(noted=noted(**{f"{name}_sha256": "0" * 64})))
    lines = {"errors": looked.errors, "distrust": looked.distrust}
    assert lines.pop(NOTED[name]) == [
        f"{name}.json: is not the one that was verified when it was fetched",
    ]
    assert lines.popitem()[1] == []


ASKED = {
    "run_id": "run-0000000009",
    "job_id": "job-0000000009",
    "action": "build",
    "source_sha256": "b" * 64,
    "artifact_profile": "minimal",
}


@pytest.mark.parametrize("name", ASKED)
def test_without_the_job_at_hand_the_sets_own_is_held_to_what_is_on_record(name: str) -> None:
    made = right_set()
    right = {"run_id": RUN_ID, "job_id": JOB_ID, "action": "test", "source_sha256": "a" * 64}
    right["artifact_profile"] = "rich"
    assert examine(found(made), known(job=None, asked=right)).good
    looked = examine(found(made), known(job=None, asked={**right, name: ASKED[name]}))
    assert looked.errors == [f"job.json: {name} {right[name]!r}, not {ASKED[name]!r}"]


def test_a_job_that_is_none_by_itself_is_named() -> None:
    key = replaced("job.json", other_job(job_key="0" * 64))
    assert "job.json: job_key is not that of its inputs" in looked_at(key, job=None).errors
    path = replaced("job.json", other_job(job_id="../0000000001"))
    assert "job.json: run_id or job_id is no id" in looked_at(path, job=None).errors
    path = replaced("job.json", other_job(run_id="../0000000001"))
    assert "job.json: run_id or job_id is no id" in looked_at(path, job=None).errors


def test_without_any_job_the_rest_is_told() -> None:
    looked = looked_at(gone("job.json"), job=None)
    assert looked.job is None
    assert "job.json: missing" in looked.errors
    assert looked.summary is not None


# --- a verdict that contradicts itself ----------------------------------------------------


def coherence(state: str = "FAILED", **members: Any) -> list[str]:
    made = right_set()
    red = {"status": "failed", "failure_kind": "SWIFTPM", "exit_code": 50}
    summary = msgspec.structs.replace(
        decode_record(made.files["summary.json"], Summary), **{**red, **members}
    )
    record = decode_record(made.files["job_state.json"], JobStateRecord)
    return incoherent(summary, msgspec.structs.replace(record, state=state))


GREEN = {"status": "success", "failure_kind": None, "exit_code": 0, "state": "SUCCEEDED"}


@pytest.mark.spec("9")
@pytest.mark.parametrize(
    "members",
    [
        {},
        GREEN,
        {**GREEN, "cached_from_job_id": "job-0000000007"},
        {"failure_kind": "EXECUTOR", "failure_subkind": "INFRASTRUCTURE", "exit_code": 40},
        {"status": "cancelled", "failure_kind": "CANCELLED", "exit_code": 80, "state": "CANCELLED"},
    ],
)
def test_a_verdict_that_agrees_with_itself_is_taken(members: dict[str, Any]) -> None:
    assert coherence(**members) == []


@pytest.mark.spec("9")
@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"state": "QUEUED"}, "job_state.json: state QUEUED is no end"),
        ({**GREEN, "state": "FAILED"}, NO_GREEN),
        (
            {**GREEN, "state": "CANCELLED"},
            "summary.json: status 'success' does not go with state 'CANCELLED'",
        ),
        ({**GREEN, "exit_code": 65}, "summary.json: a success with exit code 65"),
        ({**GREEN, "failure_kind": "SWIFTPM"}, "summary.json: a success with exit code 0"),
        ({**GREEN, "cached_from_job_id": JOB_ID}, f"cached_from_job_id {JOB_ID!r} names no other job"),
        ({**GREEN, "cached_from_job_id": "../x"}, "cached_from_job_id '../x' names no other job"),
        ({"status": "odd"}, "summary.json: status 'odd' does not go with state 'FAILED'"),
        ({"failure_kind": None}, "summary.json: failure_kind None is not known"),
        ({"failure_kind": "ODD"}, "summary.json: failure_kind 'ODD' is not known"),
        ({"exit_code": 0}, "summary.json: exit code 0 is not that of SWIFTPM, 50"),
        ({"exit_code": 40}, "summary.json: exit code 40 is not that of SWIFTPM, 50"),
    ],
)
def test_a_verdict_that_contradicts_itself_is_no_verdict(members: dict[str, Any], told: str) -> None:
    errors = coherence(**members)
    assert len(errors) == 1
    assert told in errors[0]


def test_the_manifest_may_list_none_of_the_three_files_that_are_made_after_it() -> None:
    def listed(made: ArtifactSet) -> None:
        entry = Entry(path="job_index.json", type="file", size=1, sha256="0" * 64)
        made.put_manifest(sorted([*made.entries(), entry], key=lambda each: each.path.encode()))
        made.put_attestation()
        made.put_index()

    assert "job_index.json: may not be listed" in looked_at(listed).errors
    twice = manifest_of(lambda entries: [*entries, entries[-1]])
    assert any(line.endswith(": listed twice") for line in looked_at(twice).errors)
    assert isinstance(right_set().sealed(), Manifest)
