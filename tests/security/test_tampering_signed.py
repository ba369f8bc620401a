"""What a worker signed, stripped, bent, swapped or replayed; and keys that come and go."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.sealed import (
    KEY,
    OTHER_KEY,
    OTHER_SEED,
    SEED,
    WORKER,
    Host,
    attestation_of,
    capabilities,
    edited,
    loaded,
    signed_anew,
)
from support.tampering import (
    INTEGRITY,
    TRUST,
    NoSync,
    Rooms,
    judged,
    looked_at,
    refused,
)

from rch.contract.attested import NO_STATEMENTS
from rch.contract.dsse import enclose
from rch.contract.records import DsseEnvelope, DsseSignature
from rch.files import durable
from rchd.edges import artifacts
from rchd.edges.check_sets import examine_set

pytestmark = [pytest.mark.spec("8"), pytest.mark.spec("10"), pytest.mark.fault("A1")]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "_sys", NoSync())


# --- the attestation ----------------------------------------------------------------------

LIES: dict[str, object] = {
    "run_id": "run-0000000009",
    "job_id": "job-0000000009",
    "job_key": "e" * 64,
    "source_sha256": "e" * 64,
    "manifest_sha256": "e" * 64,
    "host_nonce": "another",
    "simulated": True,
    "backend": {"name": "xcodebuild", "version": "6.3.1"},
    "created_at": "yesterday",
}


@pytest.mark.fault("A4")
@pytest.mark.parametrize("member", LIES)
def test_a_fact_that_is_not_so_is_refused_whoever_signed_it(rooms: Rooms, host: Host, member: str) -> None:
    made = loaded(rooms.right)
    edited(made, "attestation.json", **{member: LIES[member]})
    assert judged(host, made) == {TRUST}
    made = loaded(rooms.right)
    signed_anew(made, SEED, **{member: LIES[member]}, dsse=msgspec.UNSET)
    assert judged(host, made) == {TRUST}
    assert refused(host, made, KEY) == TRUST


SIGNATURE_MEMBERS = ("public_key", "public_key_fingerprint", "signature")


@pytest.mark.fault("A3")
def test_a_signature_that_was_stripped_is_missed(rooms: Rooms, host: Host) -> None:
    """Without a pin by what the worker said when it was selected."""
    made = loaded(rooms.right)
    bare = {**dict.fromkeys(SIGNATURE_MEMBERS, ...), "worker": {"name": WORKER, "fingerprint": None}}
    edited(made, "attestation.json", **bare)
    assert judged(host, made) == {TRUST}
    edited(made, "attestation.json", dsse=...)
    assert judged(host, made) == {TRUST}
    assert refused(host, made) == TRUST
    assert refused(host, made, KEY) == TRUST
    for member in SIGNATURE_MEMBERS:
        made = loaded(rooms.right)
        edited(made, "attestation.json", **{member: ...})
        assert judged(host, made) == {TRUST}


Change = Callable[[tuple[DsseEnvelope, ...], Rooms], tuple[DsseEnvelope, ...]]


def _with(envelope: DsseEnvelope, **members: object) -> DsseEnvelope:
    return msgspec.structs.replace(envelope, **members)


def _sig(envelope: DsseEnvelope, **members: str) -> DsseEnvelope:
    (given,) = envelope.signatures
    return _with(envelope, signatures=(msgspec.structs.replace(given, **members),))


def _dsse(folder: Path) -> tuple[DsseEnvelope, ...]:
    said = attestation_of(loaded(folder)).dsse
    assert isinstance(said, tuple)
    return said


def _edit(envelope: DsseEnvelope, *path: str, value: object) -> DsseEnvelope:
    """The statement with another member, signed by the worker's own key."""
    statement = json.loads(base64.b64decode(envelope.payload))
    inner = statement
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return enclose(statement, SEED)


RESOLVED = ("predicate", "buildDefinition", "resolvedDependencies")
CONFIGURED = ("predicate", "configuration")
STRANGER = {"name": "x", "digest": {"sha256": "e" * 64}}
DSSE: dict[str, Change] = {
    "none left": lambda _given, _rooms: (),
    "provenance gone": lambda given, _: given[1:],
    "test result gone": lambda given, _: given[:1],
    "twice": lambda given, _: (*given, given[0]),
    "of another job": lambda _, rooms: _dsse(rooms.other_job),
    "of another run": lambda _, rooms: _dsse(rooms.other_run),
    "of another attempt": lambda _, rooms: _dsse(rooms.other_attempt),
    "of another source": lambda _, rooms: _dsse(rooms.other_source),
    "one of another attempt": lambda given, rooms: (given[0], _dsse(rooms.other_attempt)[1]),
    "of a build": lambda given, rooms: (_dsse(rooms.build)[0], given[1]),
    "payload type": lambda given, _: (_with(given[0], payload_type="application/json"), given[1]),
    "payloads swapped": lambda given, _: (_with(given[0], payload=given[1].payload), given[1]),
    "signature cut": lambda given, _: (
        _sig(given[0], sig=base64.b64encode(base64.b64decode(given[0].signatures[0].sig)[:-1]).decode()),
        given[1],
    ),
    "signature spelled otherwise": lambda given, _: (
        _sig(given[0], sig=given[0].signatures[0].sig + "\n"),
        given[1],
    ),
    "signature unpadded": lambda given, _: (
        _sig(given[0], sig=given[0].signatures[0].sig.rstrip("=")),
        given[1],
    ),
    "two signatures": lambda given, _: (
        _with(given[0], signatures=(*given[0].signatures, DsseSignature(keyid=OTHER_KEY, sig="AA=="))),
        given[1],
    ),
    "another keyid": lambda given, _: (_sig(given[0], keyid=OTHER_KEY), given[1]),
    "signed by another": lambda given, _: (
        enclose(json.loads(base64.b64decode(given[0].payload)), OTHER_SEED),
        given[1],
    ),
    "statement type": lambda given, _: (_edit(given[0], "_type", value="x"), given[1]),
    "predicate type": lambda given, _: (_edit(given[0], "predicateType", value="x"), given[1]),
    "result": lambda given, _: (given[0], _edit(given[1], "predicate", "result", value="WARNED")),
    "names": lambda given, _: (given[0], _edit(given[1], "predicate", "passedTests", value=["M.A.x"])),
    "counts": lambda given, _: (
        given[0],
        _edit(given[1], "predicate", "rch_counts", "passed", value=7),
    ),
    "nonce": lambda given, _: (
        given[0],
        _edit(given[1], "predicate", "rch_facts", "host_nonce", value="another"),
    ),
    "argv": lambda given, _: (
        _edit(given[0], "predicate", "buildDefinition", "externalParameters", "argv", value=["build"]),
        given[1],
    ),
    "builder": lambda given, _: (
        _edit(given[0], "predicate", "runDetails", "builder", "id", value="rch-xcode:worker/other"),
        given[1],
    ),
    "finished": lambda given, _: (
        _edit(given[0], "predicate", "runDetails", "metadata", "finishedOn", value="2030-01-01T00:00:00Z"),
        given[1],
    ),
    "a dependency beside": lambda given, _: (
        _edit(given[0], *RESOLVED, value=[*_list(given[0], *RESOLVED), STRANGER]),
        given[1],
    ),
    "configuration beside": lambda given, _: (
        given[0],
        _edit(given[1], *CONFIGURED, value=[*_list(given[1], *CONFIGURED), STRANGER]),
    ),
    "a digest beside": lambda given, _: (
        given[0],
        _edit(
            given[1], *CONFIGURED, value=[_twice_digested(each) for each in _list(given[1], *CONFIGURED)]
        ),
    ),
    "a subject's digest beside": lambda given, _: (
        _edit(given[0], "subject", value=[_twice_digested(each) for each in _subjects(given[0])]),
        given[1],
    ),
    "no subject": lambda given, _: (_edit(given[0], "subject", value=[]), given[1]),
    "a subject beside": lambda given, _: (
        _edit(
            given[0], "subject", value=[*_subjects(given[0]), {"name": "x", "digest": {"sha256": "e" * 64}}]
        ),
        given[1],
    ),
    "a subject twice": lambda given, _: (
        _edit(given[0], "subject", value=[*_subjects(given[0]), _subjects(given[0])[0]]),
        given[1],
    ),
}


def _subjects(envelope: DsseEnvelope) -> list[object]:
    return _list(envelope, "subject")


def _list(envelope: DsseEnvelope, *path: str) -> list[object]:
    found = json.loads(base64.b64decode(envelope.payload))
    for name in path:
        found = found[name]
    return list(found)


def _twice_digested(descriptor: Any) -> object:
    return {**descriptor, "digest": {**descriptor["digest"], "sha512": "e" * 128}}


@pytest.mark.fault("A3")
@pytest.mark.fault("A4")
@pytest.mark.parametrize("change", DSSE)
def test_envelopes_that_are_not_of_this_set_are_refused_even_if_the_worker_signed_them(
    rooms: Rooms, host: Host, change: str
) -> None:
    """Once as somebody on the way would have to leave it, once with the attestation signed anew."""
    made = loaded(rooms.right)
    dsse = DSSE[change](_dsse(rooms.right), rooms)
    edited(made, "attestation.json", dsse=msgspec.to_builtins(dsse))
    assert judged(host, made) == {TRUST}
    made = loaded(rooms.right)
    signed_anew(made, SEED, dsse=dsse)
    assert judged(host, made) == {TRUST}
    assert refused(host, made, KEY) == TRUST


@pytest.mark.fault("A3")
def test_statements_that_were_stripped_or_turned_round_break_the_signature(
    rooms: Rooms, host: Host
) -> None:
    made = loaded(rooms.right)
    edited(made, "attestation.json", dsse=...)
    assert judged(host, made) == {TRUST}
    edited(made, "attestation.json", dsse=msgspec.to_builtins(_dsse(rooms.right)[::-1]))
    assert judged(host, made) == {TRUST}


def test_a_worker_that_is_older_and_signs_no_statements_is_believed_and_that_is_noted(
    rooms: Rooms, host: Host
) -> None:
    made = loaded(rooms.right)
    signed_anew(made, SEED, dsse=msgspec.UNSET)
    assert host.fetch(made, KEY).looked.notes == [NO_STATEMENTS]
    noted = json.loads((host.at.host / "attestation_verification.json").read_bytes())
    assert (noted["result"], noted["notes"]) == ("verified", [NO_STATEMENTS])


def test_a_worker_that_has_changed_since_it_was_selected_signs_so_and_that_is_noted(
    rooms: Rooms, host: Host
) -> None:
    host.told = msgspec.structs.replace(capabilities(), gui_session=True)
    (note,) = host.fetch(loaded(rooms.right), KEY).looked.notes
    assert "other capabilities" in note


@pytest.mark.fault("A4")
@pytest.mark.parametrize("name", ["other_run", "other_job", "other_attempt", "other_source"])
def test_what_the_worker_signed_for_something_else_is_refused(rooms: Rooms, host: Host, name: str) -> None:
    """The whole set, and its attestation beside this set's files."""
    other = loaded(getattr(rooms, name))
    wanted = TRUST if name == "other_attempt" else INTEGRITY
    assert judged(host, other) == {wanted}
    assert refused(host, other, KEY) == wanted
    made = loaded(rooms.right)
    made.files["attestation.json"] = other.files["attestation.json"]
    assert judged(host, made) == {TRUST}


# --- A6: keys that come and go ------------------------------------------------------------


@pytest.mark.fault("A6")
def test_a_stored_set_can_be_checked_again_while_a_key_is_rotated_and_not_after(
    rooms: Rooms, host: Host
) -> None:
    host.fetch(loaded(rooms.right), KEY)
    artifacts.publish(host.at)
    rotating, after = (OTHER_KEY, KEY), (OTHER_KEY,)
    assert looked_at(host.at.step, rotating).result == "verified"
    revoked = looked_at(host.at.step, after)
    assert (revoked.result, revoked.kind) == ("failed", "ATTESTATION")
    assert f"is signed by {KEY}; pinned is {OTHER_KEY}" in revoked.distrust[0]
    assert looked_at(host.at.step, ()).result == "unpinned"
    noted = json.loads((host.at.host / "attestation_verification.json").read_bytes())
    assert (noted["result"], noted["fingerprint"]) == ("verified", KEY)
    # What the daemon checks at rest asks for bytes, not for keys that may have been retired since.
    assert examine_set(host.at.step, host.at.host, read_data=True) == []
