"""What an attestation says, held to all that is known otherwise (spec section 10; faults A2-A4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import UNSET

from rch.contract.attestation import Trust, check
from rch.contract.canonical import jcs_sha256
from rch.contract.dsse import Statement, disclose
from rch.contract.ids import parse_timestamp
from rch.contract.provenance import (
    STATEMENT,
    Told,
    disagreements,
    statements,
    strange_subjects,
)
from rch.contract.records import (
    Attestation,
    AttestationVerification,
    Capabilities,
    Job,
    Manifest,
    stable_capabilities,
)
from rch.contract.signing import Untrusted
from rch.contract.toolchain import backend_of

NO_STATEMENTS = "there are no statements in DSSE envelopes: an older worker signed it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a job's set from elsewhere; None or empty: not known.

    `job` is what was asked for, `asked` what the host's records say of it where the job itself is not
    at hand (`run_id`, `job_id`, `action`, `source_sha256`, `artifact_profile`); `manifest` came before
    the set. `capabilities_sha256` and `fingerprint` are of what the worker said when it was selected,
    `noted` is of the time when the set was fetched, `pins` may have signed.
    """

    job: Job | None = None
    job_id: str | None = None
    asked: Mapping[str, str] = field(default_factory=dict)
    host_nonce: str | None = None
    manifest: Manifest | None = None
    capabilities_sha256: str | None = None
    fingerprint: str | None = None
    noted: AttestationVerification | None = None
    pins: tuple[str, ...] = ()


def capabilities_digest(told: Capabilities | dict[str, Any] | None) -> str | None:
    """`capabilities_sha256` of what a worker said; None where it said nothing that has a digest.

    A dict is what stood on the wire. Of a struct the unknown members are gone and defaults stand for
    what was left out: it has the same digest where there was neither.
    """
    try:
        return None if told is None else jcs_sha256(stable_capabilities(told))
    except ValueError:  # a number that no canonical JSON holds
        return None


@dataclass(slots=True)
class Attested:
    """What came of it."""

    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    trust: Trust | None = None
    statements: tuple[str, ...] = ()


def attested(told: Told, data: bytes, known: Known) -> Attested:
    """Of the attestation in `told`, whose bytes are `data`; which manifest it names is not looked at."""
    out, said = Attested(), told.attestation
    try:
        trust = check(data, known.pins)
    except Untrusted as error:
        out.errors = [f"attestation.json: {error}"]
        # The facts are told as well: which of them is wrong says more than that the signature is.
        out.errors += _facts(told, known)
        return out
    out.trust = trust
    if said.dsse is not UNSET:
        out.errors += _envelopes(told, trust, out)
    elif trust.public_key:
        out.notes.append(NO_STATEMENTS)
    out.errors += _facts(told, known)
    out.errors += _selected(said, trust, known, out.notes)
    return out


def _facts(told: Told, known: Known) -> Iterator[str]:
    """Every member that is known otherwise."""
    said, job = told.attestation, told.job
    name, version = backend_of(job.job_key_inputs.toolchain)
    facts: dict[str, tuple[Any, Any]] = {
        "run_id": (said.run_id, job.run_id),
        "job_id": (said.job_id, job.job_id),
        "job_key": (said.job_key, job.job_key),
        "source_sha256": (said.source_sha256, job.job_key_inputs.source_sha256),
        "simulated": (said.simulated, told.summary.simulated),
        "backend": (said.backend, {**said.backend, "name": name, "version": version}),
        "the summary's backend": (told.summary.backend, name),
    }
    if known.host_nonce is not None:
        facts["host_nonce"] = (said.host_nonce, known.host_nonce)
    for fact, (has, want) in facts.items():
        if has != want:
            yield f"attestation.json: {fact} {has!r}, not {want!r}"
    try:
        parse_timestamp(said.created_at)
    except ValueError as error:
        yield f"attestation.json: created_at {error}"


def _selected(said: Attestation, trust: Trust, known: Known, notes: list[str]) -> Iterator[str]:
    """What the worker said of itself when it was selected.

    A worker may change while a job runs (an upgrade, a new simulator): it signs what it has become, and
    that is noted. Where nothing is signed nobody says that it was the worker.
    """
    told = known.fingerprint
    if told is not None and not known.pins and trust.fingerprint != told:
        by = "unsigned" if trust.fingerprint is None else f"signed by {trust.fingerprint}"
        yield f"attestation.json: is {by}; when it was selected the worker said that it signs with {told}"
    wanted = known.capabilities_sha256
    if wanted is None or said.capabilities_sha256 == wanted:
        return
    if trust.fingerprint is None:
        yield f"attestation.json: capabilities_sha256 {said.capabilities_sha256!r}, not {wanted!r}"
    else:
        notes.append("the worker has other capabilities than when it was selected")


def _envelopes(told: Told, trust: Trust, out: Attested) -> Iterator[str]:
    """Each by the very key of the attestation, each statement once, each member as the set has it."""
    said = told.attestation
    found: list[tuple[str, Statement]] = []
    for at, envelope in enumerate(said.dsse or ()):
        try:
            statement = disclose(envelope, trust.public_key)
        except Untrusted as error:
            yield f"attestation.json: dsse[{at}] {error}"
            return
        kind = statement.get("predicateType")
        if statement.get("_type") != STATEMENT or not isinstance(kind, str):
            yield f"attestation.json: dsse[{at}] is no {STATEMENT}"
            return
        found.append((kind, statement))
    out.statements = tuple(kind for kind, _ in found)
    try:
        wanted = {each["predicateType"]: each for each in statements(told)}
    except (ValueError, OverflowError, OSError) as error:
        yield f"attestation.json: no statement can be made of this set: {error}"
        return
    if Counter(out.statements) != Counter(wanted.keys()):
        have = ", ".join(sorted(out.statements)) or "none"
        yield f"attestation.json: dsse has {have[:300]}, not {', '.join(sorted(wanted))}"
        return
    for kind, statement in found:
        wrong = [*disagreements(wanted[kind], statement), *strange_subjects(statement, told)]
        for where in dict.fromkeys(wrong):
            yield f"attestation.json: {kind}: {where} is not as the set has it"
