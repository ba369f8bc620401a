"""An attestation and its envelopes, held to all that is known of the set: a lie is named by its member."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from support.playbook import capabilities
from support.sets import NONCE, ArtifactSet, a_job, right_set

from rch.contract.attestation import named, sign
from rch.contract.attested import NO_STATEMENTS, Attested, Known, attested, capabilities_digest
from rch.contract.canonical import jcs_sha256
from rch.contract.dsse import enclose
from rch.contract.provenance import (
    MAX_BUNDLE_SUBJECTS,
    PROVENANCE,
    SIMULATED_BUILD_TYPE,
    TEST_RESULT,
    Told,
    disagreements,
    statements,
    strange_subjects,
)
from rch.contract.records import (
    Attestation,
    Entry,
    JobStateRecord,
    Summary,
    TestSummary,
    decode_record,
    encode_record,
    stable_capabilities,
)
from rch.contract.signing import fingerprint_of, public_key_of

SEED, OTHER_SEED = bytes(range(32)), bytes(range(1, 33))
KEY, OTHER_KEY = (fingerprint_of(public_key_of(seed)) for seed in (SEED, OTHER_SEED))

pytestmark = pytest.mark.spec("10")

Statements = list[dict[str, Any]]


def told(made: ArtifactSet | None = None, *, seed: bytes | None = SEED, **members: Any) -> Told:
    """What a right set says of itself, its key named; `members` lie in the attestation."""
    made = made or right_set()
    said = decode_record(made.files["attestation.json"], Attestation)
    said = msgspec.structs.replace(said, **members)
    return Told(
        attestation=said if seed is None else named(said, public_key_of(seed)),
        job=made.job,
        summary=decode_record(made.files["summary.json"], Summary),
        state=decode_record(made.files["job_state.json"], JobStateRecord),
        entries=made.entries(),
    )


def signed(
    before: Told,
    *,
    seed: bytes | None = SEED,
    change: Callable[[Statements], Statements] = list,
) -> tuple[Told, bytes]:
    """The same with its envelopes and its signature, and the bytes of the attestation."""
    said = before.attestation
    if seed is not None:
        envelopes = tuple(enclose(each, seed) for each in change([*statements(before)]))
        said = sign(msgspec.structs.replace(said, dsse=envelopes), seed)
    return replace(before, attestation=said), encode_record(said)


def verdict(pair: tuple[Told, bytes], **knows: Any) -> Attested:
    known = Known(
        **{"job": a_job(), "host_nonce": NONCE, "capabilities_sha256": "d" * 64, "pins": (KEY,), **knows}
    )
    return attested(*pair, known)


def test_what_is_right_is_verified_and_names_its_statements() -> None:
    out = verdict(signed(told()))
    assert (out.errors, out.notes, out.statements) == ([], [], (PROVENANCE, TEST_RESULT))
    assert out.trust is not None
    assert (out.trust.result, out.trust.fingerprint) == ("verified", KEY)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("run_id", "run-0000000009"),
        ("job_id", "job-0000000009"),
        ("job_key", "0" * 64),
        ("source_sha256", "0" * 64),
        ("simulated", True),
        ("host_nonce", "another"),
        ("backend", {"name": "xcodebuild", "version": "6.3.1"}),
        ("backend", {"name": "swiftpm", "version": "5.0"}),
    ],
)
def test_each_fact_that_is_known_otherwise_is_held_to_that(member: str, value: Any) -> None:
    out = verdict(signed(told(**{member: value})))
    assert any(line.startswith(f"attestation.json: {member} ") for line in out.errors)
    assert verdict(signed(told(**{member: value}, seed=None), seed=None), pins=()).errors


def test_a_nonce_that_nobody_knows_is_not_compared() -> None:
    pair = signed(told(host_nonce="another"))
    assert verdict(pair, host_nonce=None).errors == []


def test_a_time_that_is_none_is_named() -> None:
    out = verdict(signed(told(created_at="yesterday")))
    assert [line for line in out.errors if "created_at" in line]


def test_a_summary_of_another_backend_is_named() -> None:
    before = told()
    pair = signed(before)
    other = msgspec.structs.replace(before.summary, backend="xcodebuild")
    out = attested(replace(pair[0], summary=other), pair[1], Known(pins=(KEY,)))
    assert "attestation.json: the summary's backend 'xcodebuild', not 'swiftpm'" in out.errors


def test_where_the_signature_is_wrong_the_facts_are_told_as_well() -> None:
    pair = signed(told(run_id="run-0000000009"))
    out = verdict(pair, pins=(OTHER_KEY,))
    assert out.trust is None
    assert out.errors[0] == f"attestation.json: is signed by {KEY}; pinned is {OTHER_KEY}"
    assert any("run_id" in line for line in out.errors[1:])


# --- who signs, and with what capabilities ------------------------------------------------


def test_who_signs_with_another_key_than_it_told_at_selection_is_not_believed() -> None:
    pair = signed(told())
    assert verdict(pair, pins=(), fingerprint=KEY).errors == []
    (line,) = verdict(pair, pins=(), fingerprint=OTHER_KEY).errors
    assert line.endswith(
        f"is signed by {KEY}; when it was selected the worker said that it signs with {OTHER_KEY}"
    )
    (line,) = verdict(signed(told(seed=None), seed=None), pins=(), fingerprint=KEY).errors
    assert "is unsigned; when it was selected" in line
    assert verdict(pair, pins=(KEY,), fingerprint=OTHER_KEY).errors == []  # a pin is the stronger word


def test_other_capabilities_are_noted_where_they_are_signed_and_refused_where_nobody_signs() -> None:
    out = verdict(signed(told()), capabilities_sha256="0" * 64)
    assert (out.errors, out.notes) == ([], ["the worker has other capabilities than when it was selected"])
    out = verdict(signed(told(seed=None), seed=None), pins=(), capabilities_sha256="0" * 64)
    assert out.errors == [f"attestation.json: capabilities_sha256 {'d' * 64!r}, not {'0' * 64!r}"]
    assert verdict(signed(told()), capabilities_sha256=None).notes == []


def test_the_digest_of_capabilities_leaves_out_what_varies_and_is_none_where_there_is_none() -> None:
    base = capabilities()
    busy = msgspec.structs.replace(base, capacity=msgspec.structs.replace(base.capacity, load_milli=900))
    assert capabilities_digest(base) == capabilities_digest(busy) == jcs_sha256(stable_capabilities(base))
    assert capabilities_digest(None) is None
    huge = msgspec.structs.replace(base, capacity=msgspec.structs.replace(base.capacity, cpus=1 << 53))
    assert capabilities_digest(huge) is None


def test_the_digest_of_what_stood_on_the_wire_has_its_unknown_members_and_none_that_was_left_out() -> None:
    said = msgspec.to_builtins(capabilities())
    assert capabilities_digest(said) == capabilities_digest(capabilities())
    del said["tools"]
    said["capacity"]["gpus"], said["virtual"] = 2, True
    rest = {name: said["capacity"][name] for name in ("cpus", "memory_bytes", "slots_total", "gpus")}
    kept = {name: value for name, value in said.items() if name != "probed_at"} | {"capacity": rest}
    assert capabilities_digest(said) == jcs_sha256(kept)
    assert said["probed_at"]
    assert capabilities_digest({**said, "load": 0.5}) is None


# --- envelopes ----------------------------------------------------------------------------


def test_a_signed_attestation_without_envelopes_is_noted_as_an_older_worker() -> None:
    before = told()
    said = sign(before.attestation, SEED)
    out = verdict((replace(before, attestation=said), encode_record(said)))
    assert (out.errors, out.notes) == ([], [NO_STATEMENTS])


def test_an_envelope_of_another_key_is_refused() -> None:
    before = told()
    envelopes = tuple(enclose(each, OTHER_SEED) for each in statements(before))
    said = sign(msgspec.structs.replace(before.attestation, dsse=envelopes), SEED)
    out = verdict((replace(before, attestation=said), encode_record(said)))
    assert len(out.errors) == 1
    assert out.errors[0].startswith("attestation.json: dsse[0] ")


def changed(at: int, *path: str, value: object = "lie") -> Callable[[Statements], Statements]:
    """Another value at a place of one statement."""

    def change(made: Statements) -> Statements:
        *way, last = path
        inner: dict[str, Any] = made[at]
        for key in way:
            inner = inner[key]
        inner[last] = value
        return made

    return change


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (changed(0, "_type"), "dsse[0] is no https://in-toto.io/Statement/v1"),
        (changed(1, "predicateType", value=7), "dsse[1] is no https://in-toto.io/Statement/v1"),
        (lambda made: made[:1], f"dsse has {PROVENANCE}, not {TEST_RESULT}, {PROVENANCE}"),
        (lambda made: [*made, made[0]], f"dsse has {TEST_RESULT}, {PROVENANCE}, {PROVENANCE}, not"),
        (lambda _: [], f"dsse has none, not {TEST_RESULT}, {PROVENANCE}"),
        (
            changed(0, "predicate", "runDetails", "metadata", "invocationId"),
            f"{PROVENANCE}: predicate.runDetails.metadata.invocationId is not as the set has it",
        ),
        (
            changed(1, "predicate", "result", value="WARNED"),
            f"{TEST_RESULT}: predicate.result is not as the set has it",
        ),
        (
            changed(1, "subject", value=[{"name": "x", "digest": {"sha256": "0" * 64}}]),
            f"{TEST_RESULT}: subject[source] is not as the set has it",
        ),
    ],
)
def test_a_statement_that_does_not_say_what_the_set_says_is_named_by_its_place(
    change: Callable[[Statements], Statements], line: str
) -> None:
    out = verdict(signed(told(), change=change))
    assert out.errors
    assert out.errors[0].startswith(f"attestation.json: {line}")


def test_of_a_set_whose_times_are_none_no_statement_can_be_made() -> None:
    before = told()
    pair = signed(before)
    late = msgspec.structs.replace(before.state, updated_at="never")
    out = attested(replace(pair[0], state=late), pair[1], Known(pins=(KEY,)))
    assert any("no statement can be made of this set" in line for line in out.errors)


# --- what the statements say --------------------------------------------------------------


def _tests() -> TestSummary:
    counts = {"total": 3, "passed": 2, "failed": 1, "skipped": 0, "expected_failures": 0}
    return msgspec.convert({**right_set().head(), **counts, "duration_ms": 1, "failures": ()}, TestSummary)


def test_a_build_has_provenance_alone_and_a_test_its_counts_and_names() -> None:
    made = told()
    build = replace(made, job=msgspec.structs.replace(made.job, action="build"))
    assert [each["predicateType"] for each in statements(build)] == [PROVENANCE]
    junit = b'<testsuites><testsuite><testcase classname="A" name="one"/></testsuite></testsuites>'
    full = replace(made, tests=_tests(), junit=junit)
    predicate = statements(full)[1]["predicate"]
    assert predicate["rch_counts"] == {
        "total": 3,
        "passed": 2,
        "failed": 1,
        "skipped": 0,
        "expected_failures": 0,
        "flaky": 0,
    }
    assert (predicate["passedTests"], predicate["rch_names_left_out"]) == (["A.one"], 0)
    assert "rch_counts" not in statements(made)[1]["predicate"]


def test_a_simulation_passes_nothing_and_has_a_build_type_of_its_own() -> None:
    provenance, result = statements(told(simulated=True))
    assert provenance["predicate"]["buildDefinition"]["buildType"] == SIMULATED_BUILD_TYPE
    assert result["predicate"]["result"] == "WARNED"
    assert statements(told())[1]["predicate"]["result"] == "PASSED"


def test_a_result_from_a_cache_names_where_it_is_from() -> None:
    made = told()
    cached = msgspec.structs.replace(made.summary, cached_from_job_id="job-0000000007")
    parameters = statements(replace(made, summary=cached))[0]["predicate"]["buildDefinition"]
    assert parameters["internalParameters"]["cached_from_job_id"] == "job-0000000007"
    assert "cached_from_job_id" not in str(statements(made))


@pytest.mark.parametrize(("count", "left"), [(MAX_BUNDLE_SUBJECTS, None), (MAX_BUNDLE_SUBJECTS + 1, 1)])
def test_of_a_large_bundle_the_first_files_are_subjects_and_the_rest_is_counted(
    count: int, left: int | None
) -> None:
    made = told()
    files = [
        Entry(path=f"result.xcresult/{n:03}", type="file", size=1, sha256="0" * 64) for n in range(count)
    ]
    provenance = statements(replace(made, entries=files))[0]
    assert len(provenance["subject"]) == 1 + MAX_BUNDLE_SUBJECTS
    inner = provenance["predicate"]["buildDefinition"]["internalParameters"]
    assert inner.get("subjects_left_out") == left


@pytest.mark.parametrize(
    ("want", "have", "places"),
    [
        ({"a": 1}, {"a": 1, "more": 2}, []),
        ({"a": 1}, {"a": 2}, ["a"]),
        ({"a": 1}, {}, ["a"]),
        ({"a": 1}, [], ["statement"]),
        ({"a": {"b": 1}}, {"a": 1}, ["a"]),
        ({"a": True}, {"a": 1}, ["a"]),
        ({"a": 1}, {"a": True}, ["a"]),
        (
            {"x": {"digest": {"sha256": "0"}}},
            {"x": {"digest": {"sha256": "0", "md5": "1"}}},
            ["x.digest.md5"],
        ),
        ({"a": [{"name": "n", "v": 1}]}, {"a": [{"name": "n", "v": 2}]}, ["a[n].v"]),
        ({"a": [{"name": "n"}]}, {"a": [{"name": "n"}, {"name": "m"}]}, ["a[m]"]),
        ({"subject": [{"name": "n"}]}, {"subject": [{"name": "n"}, {"name": "m"}]}, []),
        ({"a": [{"name": "n"}]}, {"a": [{"name": "n"}, {"name": "n"}]}, ["a"]),
        ({"a": [{"name": "n"}]}, {"a": [{"name": 1}]}, ["a"]),
        ({"a": [{"name": "n"}]}, {"a": "n"}, ["a"]),
        ({"a": [{"name": "n"}, {"name": "m"}]}, {"a": [{"name": "m"}, {"name": "n"}]}, []),
        ({"a": []}, {"a": [{"name": "n"}]}, ["a"]),
        ({"a": ["x"]}, {"a": ["x"]}, []),
    ],
)
def test_a_disagreement_is_named_by_its_path(want: object, have: object, places: list[str]) -> None:
    assert list(disagreements(want, have)) == places


def test_a_subject_that_is_not_of_the_set_is_strange() -> None:
    made = told()
    right = statements(made)[0]
    assert list(strange_subjects(right, made)) == []
    log = {"name": "build.log", "digest": {"sha256": "0" * 64}}
    beside = {"name": "elsewhere", "digest": {"sha256": "0" * 64}}
    for subjects, places in (
        ([log, beside], ["subject[build.log]", "subject[elsewhere]"]),
        ([{"name": 7}, "x"], ["subject", "subject"]),
        (None, ["subject"]),
        ([{"name": "build.log"}], ["subject[build.log]"]),
    ):
        assert list(strange_subjects({"subject": subjects}, made)) == places
