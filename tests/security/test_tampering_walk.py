"""Every byte of a set, changed one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support.sealed import (
    KEY,
    NONCE,
    SEED,
    Host,
    a_job,
    attestation_of,
    capabilities,
    loaded,
    signed_anew,
)
from support.sets import ArtifactSet
from support.tampering import (
    FILES,
    Rooms,
    flipped,
    in_memory,
)

from rch.contract.sets import Found, examine
from rch.files.sets import with_records

pytestmark = [pytest.mark.spec("8"), pytest.mark.spec("10"), pytest.mark.fault("A1")]


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
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", FILES)
def test_every_byte_of_every_file_counts(rooms: Rooms, host: Host, path: str) -> None:
    made = loaded(rooms.right)
    good = missed(made, path, host, KEY)
    if path == "job_index.json":
        good = [data for data in good if not unknowable(made.files[path], data)]
    assert good == []


@pytest.mark.faults_long
@pytest.mark.timeout(600)
def test_every_bit_of_an_index_counts_that_anybody_knows(rooms: Rooms, tmp_path: Path) -> None:
    """Nothing signs it: its time and version are on nobody else's record before the set is fetched."""
    host = Host(tmp_path, a_job(), told=capabilities(None))
    made = loaded(rooms.unsigned)
    right = made.files["job_index.json"]
    good = missed(made, "job_index.json", host, every_bit=True)
    assert all(unknowable(right, data) for data in good)


def test_the_nonce_of_the_sets_is_the_one_that_is_asked_for(rooms: Rooms) -> None:
    assert attestation_of(loaded(rooms.right)).host_nonce == NONCE
