"""DSSE envelopes and the statements in them, checked with another implementation."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]
from support.sealed import (
    KEY,
    OTHER_KEY,
    OTHER_SEED,
    SEED,
    a_job,
    attestation_of,
    capabilities,
    loaded,
    sealed,
)

from rch.contract.canonical import jcs
from rch.contract.dsse import PAYLOAD_TYPE, disclose, enclose, pae
from rch.contract.junit_names import MAX_NAMES, names_in
from rch.contract.provenance import (
    BUILD_TYPE,
    MAX_BUNDLE_SUBJECTS,
    PROVENANCE,
    SIMULATED_BUILD_TYPE,
    TEST_RESULT,
    disagreements,
)
from rch.contract.records import DsseEnvelope, DsseSignature, Summary, decode_record
from rch.contract.signing import Untrusted, public_key_of

PUBLIC = public_key_of(SEED)
STATEMENT: dict[str, Any] = {"_type": "https://in-toto.io/Statement/v1", "subject": [], "n": 1}
ENVELOPE = enclose(STATEMENT, SEED)

pytestmark = [pytest.mark.spec("10")]


def elsewhere(envelope: DsseEnvelope) -> Envelope:
    """As the other library reads it."""
    return Envelope.from_dict(json.loads(msgspec.json.encode(envelope)))


def their_key(fingerprint: str, public: bytes) -> SSlibKey:
    return SSlibKey(fingerprint, "ed25519", "ed25519", {"public": public.hex()})


def test_another_implementation_verifies_what_the_worker_signed(tmp_path: Path) -> None:
    said = attestation_of(loaded(sealed(tmp_path)))
    assert isinstance(said.dsse, tuple)
    assert len(said.dsse) == 2
    for envelope in said.dsse:
        read = elsewhere(envelope)
        assert read.pae() == pae(PAYLOAD_TYPE, base64.b64decode(envelope.payload))
        assert list(read.verify([their_key(KEY, PUBLIC)], 1)) == [KEY]
        with pytest.raises(VerificationError):
            read.verify([their_key(KEY, public_key_of(OTHER_SEED))], 1)


def test_what_another_implementation_signed_is_verified_here() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    signer = CryptoSigner(Ed25519PrivateKey.from_private_bytes(SEED), their_key(KEY, PUBLIC))
    theirs = Envelope(jcs(STATEMENT), PAYLOAD_TYPE, {})
    theirs.sign(signer)
    envelope = msgspec.convert(theirs.to_dict(), DsseEnvelope)
    assert disclose(envelope, PUBLIC) == STATEMENT
    assert envelope == ENVELOPE  # Ed25519 has one signature for a message


def test_the_encoding_is_that_of_the_published_example() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def with_signature(**members: str) -> DsseEnvelope:
    (given,) = ENVELOPE.signatures
    return msgspec.structs.replace(ENVELOPE, signatures=(msgspec.structs.replace(given, **members),))


def with_payload(payload: bytes, seed: bytes = SEED) -> DsseEnvelope:
    """Other bytes with a right signature over them."""
    from rch.contract.signing import encoded, signature_of

    sig = DsseSignature(keyid=KEY, sig=encoded(signature_of(pae(PAYLOAD_TYPE, payload), seed)))
    return DsseEnvelope(payload=encoded(payload), payload_type=PAYLOAD_TYPE, signatures=(sig,))


SIG = ENVELOPE.signatures[0].sig
ALTERED: dict[str, tuple[Callable[[], DsseEnvelope], str]] = {
    "another type": (lambda: msgspec.structs.replace(ENVELOPE, payload_type="text/plain"), "payloadType"),
    "no type": (lambda: msgspec.structs.replace(ENVELOPE, payload_type=""), "payloadType"),
    "no signature": (lambda: msgspec.structs.replace(ENVELOPE, signatures=()), "has 0 signatures"),
    "two": (
        lambda: msgspec.structs.replace(ENVELOPE, signatures=ENVELOPE.signatures * 2),
        "has 2 signatures",
    ),
    "another keyid": (lambda: with_signature(keyid=OTHER_KEY), "is signed by"),
    "no keyid": (lambda: with_signature(keyid=""), "is signed by"),
    "cut": (lambda: with_signature(sig=base64.b64encode(base64.b64decode(SIG)[:-1]).decode()), "64 bytes"),
    "unpadded": (lambda: with_signature(sig=SIG.rstrip("=")), "in base64"),
    "a newline": (lambda: with_signature(sig=SIG + "\n"), "in base64"),
    "other spelling": (lambda: with_signature(sig=SIG[:-3] + chr(ord(SIG[-3]) + 1) + "=="), "in base64"),
    "urlsafe": (lambda: msgspec.structs.replace(ENVELOPE, payload="_-__"), "payload"),
    "another payload": (
        lambda: msgspec.structs.replace(ENVELOPE, payload=enclose({}, SEED).payload),
        "signature that is not",
    ),
    "another key": (lambda: with_payload(jcs(STATEMENT), OTHER_SEED), "signature that is not"),
    "no JSON": (lambda: with_payload(b"{"), "canonical"),
    "no end": (lambda: with_payload(b"[" * 200_000 + b"]" * 200_000), "canonical"),
    "a list": (lambda: with_payload(b"[]"), "canonical"),
    "spaces": (lambda: with_payload(b'{"a": 1}'), "canonical"),
    "a member twice": (lambda: with_payload(b'{"a":1,"a":2}'), "canonical"),
    "a float": (lambda: with_payload(b'{"a":1.5}'), "canonical"),
}


@pytest.mark.fault("A3")
@pytest.mark.parametrize("name", ALTERED)
def test_an_envelope_that_is_not_as_it_was_made_is_refused(name: str) -> None:
    make, why = ALTERED[name]
    with pytest.raises(Untrusted, match=why):
        disclose(make(), PUBLIC)


@given(st.integers(0, len(base64.b64decode(ENVELOPE.payload)) - 1), st.integers(0, 7))
def test_no_bit_of_the_payload_can_be_another(at: int, bit: int) -> None:
    raw = bytearray(base64.b64decode(ENVELOPE.payload))
    raw[at] ^= 1 << bit
    with pytest.raises(Untrusted):
        disclose(msgspec.structs.replace(ENVELOPE, payload=base64.b64encode(raw).decode()), PUBLIC)


# --- what stands in the statements --------------------------------------------------------


def statements_of(folder: Path) -> dict[str, dict[str, Any]]:
    said = attestation_of(loaded(folder))
    assert isinstance(said.dsse, tuple)
    told = [disclose(envelope, PUBLIC) for envelope in said.dsse]
    return {each["predicateType"]: each for each in told}


def test_provenance_has_the_published_members(tmp_path: Path) -> None:
    folder = sealed(tmp_path)
    made, job = loaded(folder), a_job()
    told = statements_of(folder)[PROVENANCE]
    said = attestation_of(made)
    assert set(told) == {"_type", "subject", "predicateType", "predicate"}
    definition, details = told["predicate"]["buildDefinition"], told["predicate"]["runDetails"]
    assert set(definition) == {
        "buildType",
        "externalParameters",
        "internalParameters",
        "resolvedDependencies",
    }
    assert definition["buildType"] == BUILD_TYPE
    assert definition["externalParameters"]["argv"] == ["test"]
    source, toolchain = definition["resolvedDependencies"]
    assert source["digest"] == {"sha256": job.job_key_inputs.source_sha256}
    assert toolchain["annotations"] == job.job_key_inputs.toolchain
    assert "digest" not in toolchain
    assert details["builder"]["id"] == f"rch-xcode:worker/{KEY}"
    assert details["metadata"] == {
        "invocationId": job.job_id,
        "startedOn": "2026-01-02T03:04:04.444Z",
        "finishedOn": "2026-01-02T03:04:05.678Z",
    }
    facts = definition["internalParameters"]
    assert (facts["host_nonce"], facts["manifest_sha256"]) == ("nonce-1", said.manifest_sha256)
    subjects = {each["name"]: each["digest"]["sha256"] for each in told["subject"]}
    assert {"manifest.json", "build.log", "summary.json", "junit.xml"} <= subjects.keys()
    assert {"result.xcresult/Info.plist", "result.xcresult/Data/data.0~x"} <= subjects.keys()
    listed = {entry.path: entry.sha256 for entry in made.sealed().entries}
    assert all(listed[name] == digest for name, digest in subjects.items() if name != "manifest.json")


def test_a_test_job_has_its_result_and_names(tmp_path: Path) -> None:
    told = statements_of(sealed(tmp_path))[TEST_RESULT]
    predicate = told["predicate"]
    assert predicate["result"] == "PASSED"
    assert predicate["passedTests"] == ["M.A.testOne", "M.A.testTwo"]
    assert (predicate["warnedTests"], predicate["failedTests"]) == ([], [])
    assert predicate["rch_counts"]["passed"] == 2
    assert predicate["rch_names_left_out"] == 0
    assert [each["name"] for each in predicate["configuration"]] == [
        "effective_config.json",
        "invocation.json",
        "toolchain.json",
        "destination.json",
    ]
    assert [each["name"] for each in told["subject"]] == ["source", "manifest.json"]


def test_a_build_has_no_test_result(tmp_path: Path) -> None:
    from support import jobs

    folder = sealed(tmp_path, jobs.job("build"))
    assert set(statements_of(folder)) == {PROVENANCE}


def test_a_simulation_says_so_and_passes_nothing(tmp_path: Path) -> None:
    told = statements_of(sealed(tmp_path, simulated=True))
    definition = told[PROVENANCE]["predicate"]["buildDefinition"]
    assert definition["buildType"] == SIMULATED_BUILD_TYPE
    assert definition["internalParameters"]["simulated"] is True
    assert told[TEST_RESULT]["predicate"]["result"] == "WARNED"
    assert told[TEST_RESULT]["predicate"]["rch_facts"]["simulated"] is True


def test_a_job_that_failed_is_told_as_failed(tmp_path: Path) -> None:
    folder = sealed(tmp_path, tests=())  # no test ran
    assert decode_record((folder / "summary.json").read_bytes(), Summary).status == "failed"
    assert statements_of(folder)[TEST_RESULT]["predicate"]["result"] == "FAILED"


def test_lists_that_would_be_too_long_are_cut_and_say_so(tmp_path: Path) -> None:
    many = tuple(f"test{number}" for number in range(MAX_NAMES + 7))
    bundle = {f"Data/{number:03}": b"x" for number in range(MAX_BUNDLE_SUBJECTS + 3)}
    told = statements_of(sealed(tmp_path, tests=many, bundle=bundle))
    predicate = told[TEST_RESULT]["predicate"]
    assert len(predicate["passedTests"]) == MAX_NAMES
    assert predicate["rch_names_left_out"] == 7
    assert predicate["rch_counts"]["passed"] == MAX_NAMES + 7
    internal = told[PROVENANCE]["predicate"]["buildDefinition"]["internalParameters"]
    assert internal["subjects_left_out"] == 3
    in_bundle = [each for each in told[PROVENANCE]["subject"] if each["name"].startswith("result.")]
    assert len(in_bundle) == MAX_BUNDLE_SUBJECTS


def test_no_capabilities_are_told_but_their_digest(tmp_path: Path) -> None:
    told = json.dumps(statements_of(sealed(tmp_path)))
    assert capabilities().hostname != ""
    assert "memory_bytes" not in told


MIXED = (
    b'<testsuites><testsuite><testcase classname="S" name="f"><failure/></testcase>'
    b'<testcase classname="S" name="e"><error/></testcase>'
    b'<testcase classname="S" name="s"><skipped/></testcase>'
    b'<testcase classname="S" name="w"><flakyFailure/></testcase>'
    b'<testcase classname="S" name="p"><system-out/></testcase></testsuite></testsuites>'
)


@pytest.mark.parametrize(
    ("junit", "wanted"),
    [
        (b"", None),
        (b"<testsuites>", None),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><testsuites/>', None),
        (b"<a>" * 40 + b"</a>" * 40, None),
        (b"<testsuites/>", ([], [], [])),
        (
            MIXED,
            (["S.p"], ["S.w"], ["S.f", "S.e"]),
        ),
    ],
)
def test_names_are_read_from_junit_or_there_are_none(
    junit: bytes, wanted: tuple[list[str], list[str], list[str]] | None
) -> None:
    found = names_in(junit)
    assert (None if found is None else (found.passed, found.warned, found.failed)) == wanted


@given(st.binary(max_size=300), st.integers(0, len(MIXED)))
def test_no_bytes_do_more_than_have_no_names(junk: bytes, at: int) -> None:
    for data in (junk, MIXED[:at] + junk + MIXED[at:]):
        found = names_in(data)
        assert found is None or found.left_out == 0


def test_what_was_failed_is_named_first_where_names_are_left_out() -> None:
    cases = "".join(f'<testcase classname="S" name="p{number}"/>' for number in range(MAX_NAMES))
    bad = '<testcase classname="S" name="bad"><failure/></testcase>'
    found = names_in(f"<testsuites>{cases}{bad}</testsuites>".encode())
    assert found is not None
    assert (found.failed, len(found.passed), found.left_out) == (["S.bad"], MAX_NAMES - 1, 1)


@pytest.mark.parametrize(
    ("want", "told", "where"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, []),
        ({"a": 1}, {"a": True}, ["a"]),
        ({"a": {"b": 1}}, {"a": 1}, ["a"]),
        ({"a": 1}, {}, ["a"]),
        ({"a": []}, {"a": [1]}, ["a"]),
        ({"a": [{"name": "x", "d": 1}]}, {"a": [{"name": "y"}, {"name": "x", "d": 1}]}, ["a[y]"]),
        ({"subject": [{"name": "x"}]}, {"subject": [{"name": "y"}, {"name": "x"}]}, []),
        ({"a": {"digest": {"s": 1}}}, {"a": {"digest": {"s": 1, "t": 2}}}, ["a.digest.t"]),
        ({"a": [{"name": "x", "d": 1}]}, {"a": [{"name": "x", "d": 2}]}, ["a[x].d"]),
        ({"a": [{"name": "x", "d": 1}]}, {"a": [{"name": "y", "d": 1}]}, ["a[x]", "a[y]"]),
        ({"a": [{"name": "x"}]}, {"a": [{"name": "x"}, {"name": "x", "d": 2}]}, ["a"]),
        ({"a": {"b": 1}}, [], ["statement"]),
    ],
)
def test_what_does_not_agree_is_named_by_its_place(want: Any, told: Any, where: list[str]) -> None:
    assert list(disagreements(want, told)) == where
