"""A set verified as the host does, and what is left when it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.sets import (
    NONCE,
    NOW,
    a_job,
    compressed,
    header_of,
    places_of,
)

from rch.contract.attested import Known
from rch.contract.records import Job, Manifest
from rch.files import durable
from rchd.edges import artifacts
from rchd.edges.artifacts import Mismatch, Places, Verified

MAX = 8 << 30


class NoSync(durable.System):
    """Power cuts are not what is tried here, and each sync costs milliseconds."""

    def sync(self, fd: int) -> None:
        del fd


def ready_places(folder: Path) -> Places:
    """A job's places, ready for a fetch, with what the host wrote before."""
    found = places_of(folder, a_job())
    artifacts.prepare(found)
    found.step.mkdir(parents=True)
    (found.step / "job_state.json").write_text("the host's own")
    return found


def verify(
    at: Places,
    tar: bytes,
    manifest: Manifest,
    *,
    job: Job | None = None,
    max_bytes: int = MAX,
    stream: bytes | None = None,
    compression: str = "zstd",
) -> Verified:
    data = compressed(tar) if stream is None else stream
    at.stream.write_bytes(data)
    return artifacts.unpack_and_verify(
        at,
        header_of(manifest, data, compression),
        Known(job=job or a_job(), host_nonce=NONCE),
        max_bytes=max_bytes,
        now=NOW,
    )


def refused(at: Places, tar: bytes, manifest: Manifest, **options: object) -> Mismatch:
    """The mismatch, after which nothing stands as good and the bad set is kept beside."""
    with pytest.raises(Mismatch) as caught:
        verify(at, tar, manifest, **options)  # type: ignore[arg-type]
    assert not at.staged.exists()
    assert not at.stream.exists()
    assert not artifacts.publish(at)
    assert [path.name for path in at.step.iterdir()] == ["job_state.json"]
    assert not (at.host / "attestation_verification.json").exists()
    return caught.value


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
