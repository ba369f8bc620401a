"""Section 10: what a worker signs."""

from __future__ import annotations

import base64
import binascii
import copy
from collections.abc import Iterator
from typing import Any

from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from rch.contract.framing import FrameError, decode_object
from rch_conformance.checks import Broken
from rch_conformance.worker.forms import jcs, pae, sha256
from rch_conformance.worker.rig import Outcome, Rig
from rch_conformance.worker.suite import check, expect, expect_same

_SIGNING = ("attestation_signing",)
_STATEMENT = "https://in-toto.io/Statement/v1"
_PROVENANCE = "https://slsa.dev/provenance/v1"
_TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"


def _outcomes(rig: Rig) -> Iterator[Outcome]:
    return rig.each(rig.built, rig.passed, rig.failed, rig.cancelled, rig.buried)


def attestation_of(outcome: Outcome) -> dict[str, Any]:
    """The attestation of its set."""
    return outcome.set.record("attestation.json")


def _decoded(text: Any, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError) as error:
        raise Broken(f"{what} is no base64") from error


def _key(attestation: dict[str, Any]) -> bytes:
    key = _decoded(attestation.get("public_key"), "public_key")
    expect(len(key) == 32, f"public_key is {attestation.get('public_key')!r}, not 32 bytes in base64")
    return key


def _verify(key: bytes, data: bytes, signature: bytes, what: str) -> None:
    try:
        VerifyKey(key).verify(data, signature)
    except (CryptoError, ValueError) as error:
        raise Broken(f"the signature of {what} is not that of its key") from error


@check("10", "the attestation names the job: run_id, job_id, job_key and source_sha256")
def attestation_names_the_job(rig: Rig) -> None:
    for outcome in _outcomes(rig):
        told, job = attestation_of(outcome), outcome.job
        wanted = {"run_id": job.run_id, "job_id": job.job_id, "job_key": job.key}
        wanted["source_sha256"] = job.inputs["source_sha256"]
        for name, value in wanted.items():
            expect_same(name, told.get(name), value)


@check("10", "the attestation repeats the host_nonce of its submit")
def attestation_repeats_the_nonce(rig: Rig) -> None:
    for outcome in _outcomes(rig):
        expect_same("host_nonce", attestation_of(outcome).get("host_nonce"), outcome.job.nonce)


@check("10", "the attestation names the manifest by the SHA-256 of its bytes")
def attestation_names_the_manifest(rig: Rig) -> None:
    for outcome in _outcomes(rig):
        wanted = sha256(outcome.set.files.get("manifest.json", b""))
        expect_same("manifest_sha256", attestation_of(outcome).get("manifest_sha256"), wanted)


@check("10", "capabilities_sha256 is that of the probed capabilities, without time, load and free disk")
def attestation_names_the_capabilities(rig: Rig) -> None:
    stable = copy.deepcopy(rig.capabilities)
    stable.pop("probed_at", None)
    for name in ("slots_free", "disk_free_bytes", "load_milli"):
        stable.get("capacity", {}).pop(name, None)
    digested = jcs(stable)
    for outcome in _outcomes(rig):
        told = attestation_of(outcome).get("capabilities_sha256")
        expect(
            told == sha256(digested),
            f"capabilities_sha256 is {told!r:.100}, not {sha256(digested)}: of what `probe` answered,"
            " without probed_at and capacity's slots_free, disk_free_bytes and load_milli: "
            + digested.decode(),
        )


@check("10", "the attestation names the backend and its version, and whether the tools were stand-ins")
def attestation_names_the_backend(rig: Rig) -> None:
    toolchain = rig.project().toolchain
    version = toolchain.get("swift_version") or toolchain.get("xcode_build")
    for outcome in _outcomes(rig):
        told = attestation_of(outcome)
        backend = told.get("backend")
        expect(isinstance(backend, dict), f"backend is {backend!r}, no object")
        expect_same(
            "backend", backend, {**(backend or {}), "name": rig.project().backend, "version": version}
        )
        expect_same("simulated", told.get("simulated"), bool(rig.capabilities.get("simulated")))


@check("10", "the attestation names the worker")
def attestation_names_the_worker(rig: Rig) -> None:
    for outcome in _outcomes(rig):
        worker = attestation_of(outcome).get("worker")
        name = worker.get("name") if isinstance(worker, dict) else None
        expect(isinstance(name, str) and name, f"worker of the attestation is {worker!r}, without a name")


@check("10", "a worker that offers attestation_signing advertises its key's fingerprint", needs=_SIGNING)
def fingerprint_is_advertised(rig: Rig) -> None:
    told = str(rig.capabilities.get("attestation_pubkey_fingerprint"))
    expect(
        told.startswith("SHA256:") and len(told) == 71,
        f"attestation_pubkey_fingerprint is {told!r}, not SHA256:…",
    )


@check("10", "the attestation is signed, by the key whose fingerprint is advertised", needs=_SIGNING)
def key_is_the_advertised_one(rig: Rig) -> None:
    for outcome in _outcomes(rig):
        _has_the_advertised_key(rig, attestation_of(outcome))


def _has_the_advertised_key(rig: Rig, told: dict[str, Any]) -> None:
    for name in ("public_key", "public_key_fingerprint", "signature"):
        expect(told.get(name), f"the attestation has no {name}: it is not signed")
    fingerprint = f"SHA256:{sha256(_key(told))}"
    expect_same("public_key_fingerprint", told.get("public_key_fingerprint"), fingerprint)
    expect_same(
        "the advertised fingerprint", rig.capabilities.get("attestation_pubkey_fingerprint"), fingerprint
    )


@check("10", "the signature is Ed25519 over the canonical form of all other members", needs=_SIGNING)
def signature_is_right(rig: Rig) -> None:
    for outcome in _outcomes(rig):
        _is_signed(attestation_of(outcome))


def _is_signed(told: dict[str, Any]) -> None:
    signature = _decoded(told.get("signature"), "signature")
    rest = {name: value for name, value in told.items() if name != "signature"}
    _verify(_key(told), jcs(rest), signature, "attestation.json")


def signed_by_the_advertised_key(rig: Rig, outcome: Outcome) -> None:
    """`Broken` unless the attestation of its set is."""
    _has_the_advertised_key(rig, attestation_of(outcome))
    _is_signed(attestation_of(outcome))


@check(
    "10",
    "dsse[] holds SLSA provenance, and of a test job a test result, by the same key",
    needs=_SIGNING,
)
def envelopes_are_signed(rig: Rig) -> None:
    for outcome in _outcomes(rig):
        told = _statements(attestation_of(outcome))
        wanted = [_PROVENANCE] + ([_TEST_RESULT] if outcome.job.payload["job"]["action"] == "test" else [])
        expect_same("the types of the statements", sorted(told), sorted(wanted))


@check("10", "the provenance is about the manifest, and rests on the source", needs=_SIGNING)
def provenance_is_about_the_set(rig: Rig) -> None:
    for outcome in _outcomes(rig):
        statement = _statements(attestation_of(outcome)).get(_PROVENANCE)
        expect(statement is not None, "there is no provenance")
        told = statement or {}
        manifest = sha256(outcome.set.files.get("manifest.json", b""))
        expect(manifest in _digests(told.get("subject")), "manifest.json is no subject of the provenance")
        definition = told.get("predicate", {}).get("buildDefinition", {})
        source = outcome.job.inputs["source_sha256"]
        expect(
            source in _digests(definition.get("resolvedDependencies")), "the source is no dependency of it"
        )


@check("10", "each subject of a statement that is a file of the set has that file's digest", needs=_SIGNING)
def subjects_are_the_sets_files(rig: Rig) -> None:
    for outcome in _outcomes(rig):
        files = outcome.set.files
        for kind, statement in _statements(attestation_of(outcome)).items():
            for subject in statement.get("subject") or ():
                name = str(subject.get("name"))
                if name in files:
                    told = subject.get("digest", {}).get("sha256")
                    expect_same(f"sha256 of the subject {name} of {kind}", told, sha256(files[name]))


@check("10", "the provenance rests on the toolchain, too", needs=_SIGNING)
def provenance_names_the_toolchain(rig: Rig) -> None:
    told = _statements(attestation_of(rig.built())).get(_PROVENANCE, {})
    listed = told.get("predicate", {}).get("buildDefinition", {}).get("resolvedDependencies")
    source = rig.built().job.inputs["source_sha256"]
    others = [each for each in listed or () if isinstance(each, dict) and _digests([each]) != {source}]
    expect(others, "the source is the only dependency of the provenance: what built it is not named")


@check("10", "the test result of a job with a failed test is FAILED", needs=_SIGNING)
def failed_tests_are_attested(rig: Rig) -> None:
    for outcome, wanted in ((rig.passed(), {"PASSED", "WARNED"}), (rig.failed(), {"FAILED"})):
        told = _statements(attestation_of(outcome)).get(_TEST_RESULT, {})
        result = told.get("predicate", {}).get("result")
        expect(
            result in wanted,
            f"the result of a job that is {outcome.status.get('state')} is {result!r},"
            f" not {' or '.join(sorted(wanted))}",
        )


def _digests(listed: Any) -> set[str]:
    each = listed if isinstance(listed, list) else []
    return {str(one.get("digest", {}).get("sha256")) for one in each if isinstance(one, dict)}


def _statements(attestation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The statements by their types; `Broken` for one that is not signed by the attestation's key."""
    key, found = _key(attestation), dict[str, dict[str, Any]]()
    nobody: dict[str, Any] = {}
    envelopes = attestation.get("dsse")
    for envelope in envelopes if isinstance(envelopes, list) else ():
        payload = _decoded(envelope.get("payload"), "payload")
        expect_same("payloadType", envelope.get("payloadType"), _PAYLOAD_TYPE)
        signatures: list[Any] = list(envelope.get("signatures") or ())
        # DSSE allows more, a host does not: docs/attestation.md.
        expect(len(signatures) == 1, f"an envelope has {len(signatures)} signatures: hosts take one alone")
        signature = signatures[0] if isinstance(signatures[0], dict) else nobody
        expect_same("keyid", signature.get("keyid"), attestation.get("public_key_fingerprint"))
        _verify(key, pae(_PAYLOAD_TYPE, payload), _decoded(signature.get("sig"), "sig"), "an envelope")
        try:
            statement = decode_object(payload)
        except FrameError as error:
            raise Broken(f"the payload of an envelope is no JSON object: {error}") from error
        expect_same("_type", statement.get("_type"), _STATEMENT)
        found[str(statement.get("predicateType"))] = statement
    return found
