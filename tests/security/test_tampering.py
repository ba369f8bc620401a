"""What a worker sealed, changed in every way on its way here or while it lies here: bytes and records."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from support import tars
from support.sealed import (
    KEY,
    OTHER_KEY,
    OTHER_SEED,
    SEED,
    Host,
    a_job,
    capabilities,
    edited,
    loaded,
    sealed,
    signed_anew,
)
from support.sets import ArtifactSet
from support.tampering import (
    FILES,
    INTEGRITY,
    PINS,
    TRUST,
    NoSync,
    Rooms,
    flipped,
    judged,
    looked_at,
    refused,
)

from rch.contract.manifest import UNLISTED
from rch.contract.records import Summary, encode_record
from rch.contract.sets import digest
from rch.files import durable
from rch.files.known import REJECTED
from rchctl.attesting import UNSEEN
from rchd.edges import artifacts
from rchd.edges.check_sets import examine_set

pytestmark = [pytest.mark.spec("8"), pytest.mark.spec("10"), pytest.mark.fault("A1")]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "_sys", NoSync())


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


KIND_OF = {"attestation.json": TRUST}


def test_the_files_that_are_tried_are_all_there_are(rooms: Rooms) -> None:
    assert sorted(loaded(rooms.right).files) == sorted(FILES)


@pytest.mark.parametrize("path", FILES)
def test_a_flipped_bit_is_found_wherever_it_is(rooms: Rooms, host: Host, path: str) -> None:
    made = loaded(rooms.right)
    data, header = made.files[path], made.sealed()
    wanted = KIND_OF.get(path, INTEGRITY)
    for at in sorted({0, 1, len(data) // 3, len(data) * 2 // 3, len(data) - 1}):
        made.files[path] = flipped(data, at)
        assert judged(host, made, header) == {wanted}
    made.files[path] = flipped(data, len(data) // 2)
    assert judged(host, made, header) == {wanted}
    assert refused(host, made, header=header) == wanted


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
def test_a_set_of_which_a_file_is_harmed_is_refused(rooms: Rooms, host: Host, harm: str) -> None:
    right = loaded(rooms.right)
    header = right.sealed()
    for path in FILES:
        made = replace(right, files=dict(right.files), folders=list(right.folders))
        HARMS[harm](made, path)
        wanted = TRUST if (path, harm) in UNREADABLE else INTEGRITY
        assert judged(host, made, header) == {wanted}, path
        if path in {"build.log", "summary.json", "attestation.json"}:
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
def test_a_manifest_that_was_edited_and_hashed_again_is_refused(rooms: Rooms, host: Host) -> None:
    told: dict[str, dict[str, object]] = {
        "summary.json": {"human_summary": "all is well"},
        "job_state.json": {"seq": 99},
        "test_summary.json": {"passed": 3},
    }
    for path in sorted({*FILES} - UNLISTED - {"job.json", "job_key_inputs.json"}):
        made = loaded(rooms.right)
        if path in told:
            edited(made, path, **told[path])
        else:
            made.files[path] += b"\n"
        relisted(made)
        assert judged(host, made) == {TRUST}, path
        if path in {"summary.json", "build.log"}:
            assert refused(host, made) == TRUST


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
def test_every_member_that_names_the_job_is_compared(rooms: Rooms, host: Host, name: str) -> None:
    for member, value in JOB.items():
        made = loaded(rooms.right)
        edited(made, name, **{member: value})
        if name not in UNLISTED:
            relisted(made)
        assert judged(host, made) == {INTEGRITY}, member
    assert refused(host, made, KEY) == INTEGRITY


INDEX: dict[str, dict[str, object]] = {
    "pointer to nothing": {"files": {"build_log": "nothing.log"}},
    "pointer elsewhere": {"files": {"build_log": "events.jsonl"}},
    "a mark": {"simulated": True},
    "another profile": {"artifact_profile": "minimal"},
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


@pytest.mark.parametrize("room", ["right", "unsigned"])
def test_a_published_set_that_is_changed_is_found_by_check_and_by_attest_alike(
    rooms: Rooms, tmp_path: Path, room: str
) -> None:
    host = Host(tmp_path, a_job(), told=capabilities(SEED if room == "right" else None))
    host.fetch(loaded(getattr(rooms, room)))
    assert artifacts.publish(host.at)
    for path in (host.at.step / name for name in ("build.log", "summary.json", *sorted(UNLISTED))):
        right = path.read_bytes()
        for harm, act in AT_REST.items():
            act(path)
            found = looked_at(host.at.step, ())
            assert found.result == "failed", (path.name, harm)
            said = examine_set(host.at.step, host.at.host, read_data=True)
            assert said == [*found.errors, *found.distrust]
            if harm != "flipped" or path.name in UNLISTED:
                assert examine_set(host.at.step, host.at.host, read_data=False), (path.name, harm)
            durable.remove_tree(path)
            path.with_name("aside").unlink(missing_ok=True)
            path.write_bytes(right)
            assert looked_at(host.at.step, ()).kind is None


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


def test_a_set_that_lies_in_the_place_of_another_is_told(rooms: Rooms, host: Host) -> None:
    host.fetch(loaded(rooms.right))
    artifacts.publish(host.at)
    other = host.at.step.parents[1] / "build" / host.at.step.name
    other.parent.mkdir()
    host.at.step.rename(other)
    assert "accepted.json: job job-0000000001 is a test, and lies as a build" in looked_at(other, ()).errors
    other.rename(host.at.step.with_name("job-0000000002"))
    errors = looked_at(host.at.step.with_name("job-0000000002"), ()).errors
    assert "accepted.json: the run has no job job-0000000002" in errors
    assert "rch-xcode/manifest@1: speaks of job job-0000000001" in errors


def test_a_set_by_itself_is_held_to_itself_and_its_ids_are_no_paths(tmp_path: Path) -> None:
    found = looked_at(sealed(tmp_path / "one", a_job(job_id="../../job-0000000001")), ())
    assert (found.kind, found.errors) == ("ARTIFACTS", ["job.json: run_id or job_id is no id"])
    found = looked_at(sealed(tmp_path / "two", a_job(job_key="e" * 64)), ())
    assert (found.kind, found.errors) == ("ARTIFACTS", ["job.json: job_key is not that of its inputs"])


def test_a_set_that_was_kept_as_rejected_is_never_good(rooms: Rooms, host: Host) -> None:
    """The header that came before it was wrong, say: the host's own words beside it are told."""
    made = loaded(rooms.right)
    host.fetch(made, KEY)
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
