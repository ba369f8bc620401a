"""What a worker sealed and signed, changed in every way on its way here or while it lies here.

Each harm is met twice: by the host that fetches the set, and by `attest verify` on what the host kept.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from support import tars
from support.sealed import (
    KEY,
    NONCE,
    OTHER_KEY,
    OTHER_SEED,
    SEED,
    WORKER,
    Host,
    a_job,
    attestation_of,
    capabilities,
    edited,
    loaded,
    sealed,
    signed_anew,
)
from support.sets import ArtifactSet

from rch.contract.attested import NO_STATEMENTS
from rch.contract.dsse import enclose
from rch.contract.manifest import UNLISTED
from rch.contract.records import DsseEnvelope, DsseSignature, Manifest, Summary, encode_record
from rch.contract.sets import Found, digest, examine
from rch.files import durable
from rch.files.known import REJECTED, beside
from rch.files.sets import read_records, read_set, with_records
from rchctl.attesting import UNSEEN, Looked, Pins, look
from rchd.edges import artifacts
from rchd.edges.artifacts import Mismatch
from rchd.edges.check_sets import examine_set

pytestmark = [pytest.mark.spec("8"), pytest.mark.spec("10"), pytest.mark.fault("A1")]

INTEGRITY, TRUST = "INTEGRITY_MISMATCH", "ATTESTATION"
PINS = {"pinned": (KEY,), "unpinned": ()}


class NoSync(durable.System):
    """Power cuts are not what is tried here, and each sync costs milliseconds."""

    def sync(self, fd: int) -> None:
        del fd


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "_sys", NoSync())


@dataclass(frozen=True)
class Rooms:
    """Sets that were sealed once: the right one, one without a key, and others of the same worker."""

    right: Path
    unsigned: Path
    other_run: Path
    other_job: Path
    other_attempt: Path
    other_source: Path
    build: Path


@pytest.fixture(name="rooms", scope="module")
def fixture_rooms(tmp_path_factory: pytest.TempPathFactory) -> Rooms:
    root = tmp_path_factory.mktemp("sealed")
    return Rooms(
        right=sealed(root / "right"),
        unsigned=sealed(root / "unsigned", seed=None),
        other_run=sealed(root / "run", a_job(run_id="run-0000000002")),
        other_job=sealed(root / "job", a_job(job_id="job-0000000002")),
        other_attempt=sealed(root / "attempt", nonce="nonce-of-another-attempt"),
        other_source=sealed(root / "source", a_job(source_sha256="cd" * 32)),
        build=sealed(root / "build", a_job(action="build")),
    )


@pytest.fixture(name="host")
def fixture_host(tmp_path: Path) -> Host:
    return Host(tmp_path, a_job(), told=capabilities())


def pins_of(pins: tuple[str, ...]) -> Callable[[str | None], Pins]:
    return lambda _worker: Pins(pins, "the test")


def looked_at(place: Path, pins: tuple[str, ...]) -> Looked:
    (found,) = look(place, pins_of(pins))
    return found


def refused(
    host: Host,
    made: ArtifactSet,
    *pins: str,
    header: Manifest | None = None,
    tar: bytes | None = None,
) -> str:
    """The kind under which a set is refused; nothing of it stands, and what was kept is refused alike."""
    with pytest.raises(Mismatch) as caught:
        host.fetch(made, *pins, header=header, tar=tar)
    assert not host.at.staged.exists()
    assert not artifacts.publish(host.at)
    assert not host.at.step.exists()
    assert not (host.at.host / "attestation_verification.json").exists()
    kind = TRUST if caught.value.trust else INTEGRITY
    kept = looked_at(host.at.rejected, pins)
    assert kept.result == "failed"
    if "header" not in caught.value.errors[0]:  # the header is not kept
        assert kept.kind == ("ATTESTATION" if kind == TRUST else "ARTIFACTS"), kept
        assert UNSEEN not in kept.errors
    return kind


def test_the_right_set_is_verified_published_and_verified_again(rooms: Rooms, host: Host) -> None:
    for name, pins in PINS.items():
        verified = host.fetch(loaded(rooms.right), *pins)
        assert verified.looked.notes == []
        assert artifacts.publish(host.at)
        kept = looked_at(host.at.step, pins)
        assert (kept.kind, kept.errors, kept.distrust) == (None, [], [])
        assert kept.result == {"pinned": "verified", "unpinned": "unpinned"}[name]
        assert len(kept.statements) == 2
        assert examine_set(host.at.step, host.at.host, read_data=True) == []


# --- bytes --------------------------------------------------------------------------------


def flipped(data: bytes, at: int, bit: int = 0) -> bytes:
    return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]


FILES = (
    "attestation.json", "build.log", "build_summary.json", "classifier_policy.json", "destination.json",
    "effective_config.json", "events.jsonl", "executor_env.json", "invocation.json", "job.json",
    "job_index.json", "job_key_inputs.json", "job_state.json", "junit.xml", "manifest.json",
    "metrics.json", "result.xcresult/Data/data.0~x", "result.xcresult/Info.plist",
    "result.xcresult/database.sqlite3", "summary.json", "test_summary.json", "toolchain.json",
)  # fmt: skip
KIND_OF = {"attestation.json": TRUST}


def test_the_files_that_are_tried_are_all_there_are(rooms: Rooms) -> None:
    assert sorted(loaded(rooms.right).files) == sorted(FILES)


@pytest.mark.parametrize("pinned", PINS)
@pytest.mark.parametrize("path", FILES)
def test_a_flipped_bit_is_found_wherever_it_is(rooms: Rooms, host: Host, path: str, pinned: str) -> None:
    right = loaded(rooms.right)
    data, header = right.files[path], right.sealed()
    for at in sorted({0, len(data) // 3, len(data) // 2, len(data) - 1}):
        made = loaded(rooms.right)
        made.files[path] = flipped(data, at)
        assert refused(host, made, *PINS[pinned], header=header) == KIND_OF.get(path, INTEGRITY)


Harm = Callable[[ArtifactSet, str], None]


def truncate(made: ArtifactSet, path: str) -> None:
    made.files[path] = made.files[path][:-2]  # the last byte of some is a newline, which says nothing


def empty(made: ArtifactSet, path: str) -> None:
    made.files[path] = b""


def grow(made: ArtifactSet, path: str) -> None:
    made.files[path] += b"x"


def remove(made: ArtifactSet, path: str) -> None:
    del made.files[path]


def rename(made: ArtifactSet, path: str) -> None:
    made.files[path + ".old"] = made.files.pop(path)


def swap(made: ArtifactSet, path: str) -> None:
    other = "build.log" if path != "build.log" else "events.jsonl"
    made.files[path], made.files[other] = made.files[other], made.files[path]


def as_folder(made: ArtifactSet, path: str) -> None:
    del made.files[path]
    made.folders.append(path)


def add(made: ArtifactSet, path: str) -> None:
    made.files[path + ".more"] = b"x"


HARMS: dict[str, Harm] = {
    each.__name__: each for each in (truncate, empty, grow, remove, rename, swap, as_folder, add)
}
# What no manifest lists and is no JSON any more is not there as far as the attestation is asked.
UNREADABLE = {("attestation.json", name) for name in ("truncate", "empty", "grow")}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("path", FILES)
def test_a_set_of_which_a_file_is_harmed_is_refused(rooms: Rooms, host: Host, path: str, harm: str) -> None:
    made = loaded(rooms.right)
    header = made.sealed()
    HARMS[harm](made, path)
    wanted = TRUST if (path, harm) in UNREADABLE else INTEGRITY
    assert refused(host, made, KEY, header=header) == wanted


@pytest.mark.parametrize("path", ["build.log", "attestation.json", "result.xcresult/Info.plist"])
def test_a_link_in_a_files_place_is_refused(rooms: Rooms, host: Host, path: str) -> None:
    made = loaded(rooms.right)
    header, data = made.sealed(), made.files.pop(path)
    made.files["aside"] = data
    tar = made.tar().removesuffix(tars.END) + tars.link(path.encode(), b"aside") + tars.END
    assert refused(host, made, KEY, header=header, tar=tar) == INTEGRITY


# --- records that were edited, and hashed and signed again --------------------------------


def relisted(made: ArtifactSet) -> None:
    """Manifest, root and header as they would be for the files as they are now."""
    listing = msgspec.structs.replace(made.sealed(), entries=made.entries())
    made.put_manifest(listing.entries)


@pytest.mark.fault("A2")
@pytest.mark.parametrize("pinned", PINS)
@pytest.mark.parametrize("path", sorted({*FILES} - UNLISTED - {"job.json", "job_key_inputs.json"}))
def test_a_manifest_that_was_edited_and_hashed_again_is_refused(
    rooms: Rooms, host: Host, path: str, pinned: str
) -> None:
    made = loaded(rooms.right)
    if path == "summary.json":
        edited(made, path, human_summary="all is well")
    elif path == "job_state.json":
        edited(made, path, seq=99)
    elif path == "test_summary.json":
        edited(made, path, passed=3)
    else:
        made.files[path] += b"\n"
    relisted(made)
    assert refused(host, made, *PINS[pinned]) == TRUST


@pytest.mark.fault("A2")
@pytest.mark.fault("A3")
def test_a_set_that_was_edited_and_signed_by_another_key_is_refused(rooms: Rooms, host: Host) -> None:
    made = loaded(rooms.right)
    made.files["build.log"] += b"all is well\n"
    relisted(made)
    manifest = digest(made.files["manifest.json"])
    signed_anew(made, OTHER_SEED, manifest_sha256=manifest, dsse=msgspec.UNSET)
    for pins in PINS.values():  # unpinned too: when it was selected the worker told another key
        assert refused(host, made, *pins) == TRUST
    made = loaded(rooms.right)
    signed_anew(made, OTHER_SEED)  # the envelopes are still those of the first key
    assert refused(host, made, OTHER_KEY) == TRUST


JOB = {"run_id": "run-0000000009", "job_id": "job-0000000009", "job_key": "e" * 64}


@pytest.mark.parametrize("name", ["manifest.json", "job_index.json", "summary.json", "job_state.json"])
@pytest.mark.parametrize("member", JOB)
def test_every_member_that_names_the_job_is_compared(
    rooms: Rooms, host: Host, name: str, member: str
) -> None:
    made = loaded(rooms.right)
    edited(made, name, **{member: JOB[member]})
    if name not in UNLISTED:
        relisted(made)
    assert refused(host, made, KEY) == INTEGRITY


INDEX: dict[str, dict[str, object]] = {
    "pointer to nothing": {"files": {"build_log": "nothing.log"}},
    "pointer elsewhere": {"files": {"build_log": "events.jsonl"}},
    "a mark": {"simulated": True},
    "another schema": {"schema_id": "rch-xcode/job_index@2"},
}


@pytest.mark.parametrize("change", INDEX)
def test_an_index_that_was_edited_is_refused(rooms: Rooms, host: Host, change: str) -> None:
    made = loaded(rooms.right)
    members = dict(INDEX[change])
    if "files" in members:
        pointers = json.loads(made.files["job_index.json"])["files"]
        members["files"] = {**pointers, **members["files"]}  # type: ignore[dict-item]
    edited(made, "job_index.json", **members)
    assert refused(host, made, KEY) == INTEGRITY


@pytest.mark.parametrize("name", ["junit", "result_xcresult", "events", "test_summary", "job"])
def test_an_index_that_leaves_out_what_is_there_is_refused(rooms: Rooms, host: Host, name: str) -> None:
    made = loaded(rooms.right)
    pointers = json.loads(made.files["job_index.json"])["files"]
    del pointers[name]
    edited(made, "job_index.json", files=pointers)
    assert refused(host, made, KEY) == INTEGRITY


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
@pytest.mark.parametrize("pinned", PINS)
@pytest.mark.parametrize("member", LIES)
def test_a_fact_that_is_not_so_is_refused_whoever_signed_it(
    rooms: Rooms, host: Host, member: str, pinned: str
) -> None:
    made = loaded(rooms.right)
    edited(made, "attestation.json", **{member: LIES[member]})
    assert refused(host, made, *PINS[pinned]) == TRUST
    made = loaded(rooms.right)
    signed_anew(made, SEED, **{member: LIES[member]}, dsse=msgspec.UNSET)
    assert refused(host, made, *PINS[pinned]) == TRUST


SIGNATURE_MEMBERS = ("public_key", "public_key_fingerprint", "signature")


@pytest.mark.fault("A3")
@pytest.mark.parametrize("pinned", PINS)
def test_a_signature_that_was_stripped_is_missed(rooms: Rooms, host: Host, pinned: str) -> None:
    """Without a pin by what the worker said when it was selected."""
    made = loaded(rooms.right)
    bare = {**dict.fromkeys(SIGNATURE_MEMBERS, ...), "worker": {"name": WORKER, "fingerprint": None}}
    edited(made, "attestation.json", **bare)
    assert refused(host, made, *PINS[pinned]) == TRUST
    edited(made, "attestation.json", dsse=...)
    assert refused(host, made, *PINS[pinned]) == TRUST
    for member in SIGNATURE_MEMBERS:
        made = loaded(rooms.right)
        edited(made, "attestation.json", **{member: ...})
        assert refused(host, made, *PINS[pinned]) == TRUST


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
    return list(json.loads(base64.b64decode(envelope.payload))["subject"])


@pytest.mark.fault("A3")
@pytest.mark.fault("A4")
@pytest.mark.parametrize("pinned", PINS)
@pytest.mark.parametrize("change", DSSE)
def test_envelopes_that_are_not_of_this_set_are_refused_even_if_the_worker_signed_them(
    rooms: Rooms, host: Host, change: str, pinned: str
) -> None:
    """Once as somebody on the way would have to leave it, once with the attestation signed anew."""
    made = loaded(rooms.right)
    dsse = DSSE[change](_dsse(rooms.right), rooms)
    edited(made, "attestation.json", dsse=msgspec.to_builtins(dsse))
    assert refused(host, made, *PINS[pinned]) == TRUST
    made = loaded(rooms.right)
    signed_anew(made, SEED, dsse=dsse)
    assert refused(host, made, *PINS[pinned]) == TRUST


@pytest.mark.fault("A3")
def test_statements_that_were_stripped_or_turned_round_break_the_signature(
    rooms: Rooms, host: Host
) -> None:
    made = loaded(rooms.right)
    edited(made, "attestation.json", dsse=...)
    assert refused(host, made, KEY) == TRUST
    edited(made, "attestation.json", dsse=msgspec.to_builtins(_dsse(rooms.right)[::-1]))
    assert refused(host, made, KEY) == TRUST


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
@pytest.mark.parametrize("pinned", PINS)
def test_what_the_worker_signed_for_something_else_is_refused(
    rooms: Rooms, host: Host, name: str, pinned: str
) -> None:
    """The whole set, and its attestation beside this set's files."""
    other = loaded(getattr(rooms, name))
    assert refused(host, other, *PINS[pinned]) == (TRUST if name == "other_attempt" else INTEGRITY)
    made = loaded(rooms.right)
    made.files["attestation.json"] = other.files["attestation.json"]
    assert refused(host, made, *PINS[pinned]) in {TRUST, INTEGRITY}


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


# --- at rest ------------------------------------------------------------------------------


def _linked(path: Path) -> None:
    path.rename(path.with_name("aside"))
    path.symlink_to("aside")


def _piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _foldered(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _flipped(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(flipped(data, len(data) // 2))


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


AT_REST: dict[str, Callable[[Path], None]] = {
    "linked": _linked,
    "a pipe": _piped,
    "a folder": _foldered,
    "flipped": _flipped,
    "removed": Path.unlink,
    "emptied": _emptied,
}


@pytest.mark.parametrize("harm", AT_REST)
@pytest.mark.parametrize("path", ["build.log", "summary.json", *sorted(UNLISTED)])
@pytest.mark.parametrize("room", ["right", "unsigned"])
def test_a_published_set_that_is_changed_is_found_by_check_and_by_attest_alike(
    rooms: Rooms, tmp_path: Path, path: str, harm: str, room: str
) -> None:
    host = Host(tmp_path, a_job(), told=capabilities(SEED if room == "right" else None))
    host.fetch(loaded(getattr(rooms, room)))
    assert artifacts.publish(host.at)
    assert looked_at(host.at.step, ()).kind is None
    AT_REST[harm](host.at.step / path)
    found = looked_at(host.at.step, ())
    assert found.result == "failed"
    assert examine_set(host.at.step, host.at.host, read_data=True) == [*found.errors, *found.distrust]
    assert harm == "flipped" or examine_set(host.at.step, host.at.host, read_data=False)


@pytest.mark.parametrize("name", ["attestation_verification.json", "accepted.json", "capabilities.json"])
def test_a_record_of_the_host_that_is_damaged_is_told_and_never_taken_for_none(
    rooms: Rooms, host: Host, name: str
) -> None:
    host.fetch(loaded(rooms.right))
    artifacts.publish(host.at)
    path = next(host.root.rglob(name))
    path.write_bytes(b"{")
    found = looked_at(host.at.step, ())
    assert (found.kind, found.errors[0].partition(":")[0]) == ("ARTIFACTS", name)


def test_a_set_that_was_kept_as_rejected_is_never_good(rooms: Rooms, host: Host) -> None:
    """The header that came before it was wrong, say: the host's own words beside it are told."""
    made = loaded(rooms.right)
    host.fetch(made, KEY)
    host.at.staged.rename(host.at.rejected) if host.at.rejected.parent.exists() else None
    if not host.at.rejected.exists():
        host.at.rejected.parent.mkdir(parents=True)
        host.at.staged.rename(host.at.rejected)
    assert host.at.rejected.name.endswith(REJECTED)
    assert looked_at(host.at.rejected, (KEY,)).errors == [UNSEEN]
    summary = msgspec.json.decode(made.files["summary.json"], type=Summary)
    host.at.step.mkdir(parents=True)
    (host.at.step / "summary.json").write_bytes(
        encode_record(
            msgspec.structs.replace(
                summary, failure_kind="ATTESTATION", integrity_errors=("attestation.json: it lied",)
            )
        )
    )
    found = looked_at(host.at.rejected, (KEY,))
    assert (found.kind, found.distrust) == (
        "ATTESTATION",
        ["when it was fetched: attestation.json: it lied"],
    )


# --- A7 -----------------------------------------------------------------------------------


@pytest.mark.fault("A7")
def test_what_is_told_of_a_set_is_what_its_verified_bytes_say(rooms: Rooms, host: Host) -> None:
    """A writer swaps a record all the time: whatever is called good was read from the very bytes."""
    host.fetch(loaded(rooms.right), KEY)
    artifacts.publish(host.at)
    path = host.at.step / "summary.json"
    right = path.read_bytes()
    evil = right.replace(b'"simulated": false', b'"simulated":  true')
    assert (len(evil), evil != right) == (len(right), True)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for data in (evil, right):
                temp = path.parent.with_name("summary.next")
                temp.write_bytes(data)
                temp.replace(path)

    told = beside(host.at.step).known
    racer = threading.Thread(target=write)
    racer.start()
    try:
        for _ in range(60):
            looked = examine(read_set(host.at.step), told)
            assert looked.summary is None or looked.good is not looked.summary.simulated
    finally:
        stop.set()
        racer.join()


@pytest.mark.fault("A7")
def test_a_record_that_is_swapped_between_unpacking_and_reading_is_found(
    rooms: Rooms, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = loaded(rooms.right)

    def late(folder: Path) -> dict[str, bytes]:
        path = folder / "summary.json"
        path.write_bytes(path.read_bytes().replace(b"success", b"SUCCESS"))
        return read_records(folder)

    monkeypatch.setattr(artifacts, "read_records", late)
    assert refused(host, made, KEY) == INTEGRITY


# --- every byte ---------------------------------------------------------------------------


def in_memory(made: ArtifactSet) -> Found:
    entries = [*made.entries()]
    entries += [
        msgspec.structs.replace(entries[0], path=name, type="file")
        for name in UNLISTED
        if name in made.files
    ]
    return Found(with_records(entries, made.files), made.files)


def walk(data: bytes, *, every_bit: bool) -> Iterator[bytes]:
    for at in range(len(data)):
        for bit in range(8) if every_bit else (at % 8,):
            yield flipped(data, at, bit)


# Of an attestation that nobody signed these are known to nobody else (docs/attestation.md).
UNKNOWABLE = ("created_at", "schema_version", "worker")


def missed(made: ArtifactSet, path: str, host: Host, *pins: str, every_bit: bool = False) -> list[bytes]:
    """The changed forms of a file that are called good."""
    right, known = made.files[path], host.known(*pins)
    good = []
    for data in walk(right, every_bit=every_bit):
        made.files[path] = data
        found = Found(with_records(in_memory(made).entries, {path: data}), {**made.files})
        if examine(found, known).good:
            good.append(data)
    made.files[path] = right
    return good


def unknowable(right: bytes, changed: bytes) -> bool:
    """Whether two attestations differ in nothing that anybody knows."""
    one, other = json.loads(right), json.loads(changed)
    return {name for name in one | other if one.get(name) != other.get(name)} <= set(UNKNOWABLE)


@pytest.mark.parametrize("every_bit", [False, pytest.param(True, marks=pytest.mark.faults_long)])
def test_every_byte_of_a_signed_attestation_counts(rooms: Rooms, host: Host, *, every_bit: bool) -> None:
    made = loaded(rooms.right)
    assert examine(in_memory(made), host.known(KEY)).good
    made.files["attestation.json"] = attestation_short(made)
    assert examine(in_memory(made), host.known(KEY)).good
    assert missed(made, "attestation.json", host, KEY, every_bit=every_bit) == []


def attestation_short(made: ArtifactSet) -> bytes:
    """Without its envelopes, whose every bit is tried by itself: ten times shorter."""
    signed_anew(made, SEED, dsse=msgspec.UNSET)
    return made.files["attestation.json"]


@pytest.mark.parametrize("every_bit", [False, pytest.param(True, marks=pytest.mark.faults_long)])
def test_every_byte_of_an_unsigned_attestation_counts_that_anybody_knows(
    rooms: Rooms, tmp_path: Path, *, every_bit: bool
) -> None:
    host = Host(tmp_path, a_job(), told=capabilities(None))
    made = loaded(rooms.unsigned)
    right = made.files["attestation.json"]
    assert examine(in_memory(made), host.known()).good
    good = missed(made, "attestation.json", host, every_bit=every_bit)
    assert all(unknowable(right, data) for data in good)
    assert good  # else the docs claim less than there is


@pytest.mark.faults_long
@pytest.mark.parametrize("path", FILES)
def test_every_bit_of_every_file_counts(rooms: Rooms, host: Host, path: str) -> None:
    made = loaded(rooms.right)
    good = missed(made, path, host, KEY, every_bit=True)
    if path == "job_index.json":  # its time and version are on nobody else's record before it is fetched
        good = [data for data in good if not unknowable(made.files[path], data)]
    assert good == []


def test_the_nonce_of_the_sets_is_the_one_that_is_asked_for(rooms: Rooms) -> None:
    assert attestation_of(loaded(rooms.right)).host_nonce == NONCE
