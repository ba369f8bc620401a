"""Ways to look at a set that was tampered with: as a fetch would, as a check of what it kept would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest
from support.sealed import KEY, Host, a_job, sealed
from support.sets import ArtifactSet

from rch.contract.manifest import UNLISTED
from rch.contract.records import Manifest
from rch.contract.sets import Found, examine
from rch.files import durable
from rch.files.sets import with_records
from rchctl.attesting import UNSEEN, Looked, Pins, look
from rchd.edges import artifacts
from rchd.edges.artifacts import Mismatch

INTEGRITY, TRUST = "INTEGRITY_MISMATCH", "ATTESTATION"
PINS = {"pinned": (KEY,), "unpinned": ()}
FILES = (
    "attestation.json", "build.log", "build_summary.json", "classifier_policy.json", "destination.json",
    "effective_config.json", "events.jsonl", "executor_env.json", "invocation.json", "job.json",
    "job_index.json", "job_key_inputs.json", "job_state.json", "junit.xml", "manifest.json",
    "metrics.json", "result.xcresult/Data/data.0~x", "result.xcresult/Info.plist",
    "result.xcresult/database.sqlite3", "summary.json", "test_summary.json", "toolchain.json",
)  # fmt: skip


class NoSync(durable.System):
    """Power cuts are not what is tried here, and each sync costs milliseconds."""

    def sync(self, fd: int) -> None:
        del fd


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


def sealed_rooms(root: Path) -> Rooms:
    return Rooms(
        right=sealed(root / "right"),
        unsigned=sealed(root / "unsigned", seed=None),
        other_run=sealed(root / "run", a_job(run_id="run-0000000002")),
        other_job=sealed(root / "job", a_job(job_id="job-0000000002")),
        other_attempt=sealed(root / "attempt", nonce="nonce-of-another-attempt"),
        other_source=sealed(root / "source", a_job(source_sha256="cd" * 32)),
        build=sealed(root / "build", a_job(action="build")),
    )


def flipped(data: bytes, at: int, bit: int = 0) -> bytes:
    return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]


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


def in_memory(made: ArtifactSet) -> Found:
    entries = [*made.entries()]
    entries += [
        msgspec.structs.replace(entries[0], path=name, type="file")
        for name in UNLISTED
        if name in made.files
    ]
    return Found(with_records(entries, made.files), made.files)


def judged(host: Host, made: ArtifactSet, header: Manifest | None = None) -> set[str | None]:
    """The kinds under which the set is refused with a pin and without: as in a fetch, without the disk."""
    kinds: set[str | None] = set()
    for pins in PINS.values():
        known = replace(host.known(*pins), manifest=header or made.sealed())
        errors, trust = (looked := examine(in_memory(made), known)).failure()
        assert bool(errors) is not looked.good
        kinds.add((TRUST if trust else INTEGRITY) if errors else None)
    return kinds
