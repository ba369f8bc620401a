"""How much of an artifact set is read into memory, file by file: a set comes from another machine."""

from __future__ import annotations

from rch.contract.junit_names import MAX_BYTES as MAX_JUNIT_BYTES

MAX_SMALL_BYTES = 1 << 20
"""Of the attestation and the index, which no manifest lists: what they hold comes with a request's line."""
MAX_RECORD_BYTES = 16 << 20
MAX_MANIFEST_BYTES = 128 << 20
"""Twice the longest header: here the manifest is indented."""
MAX_VALUES = 1 << 16
"""Of an attestation, of whatever kind: it is read as a whole, for all its members are signed."""
_MOST = {
    "manifest.json": MAX_MANIFEST_BYTES,
    "attestation.json": MAX_SMALL_BYTES,
    "job_index.json": MAX_SMALL_BYTES,
    "junit.xml": MAX_JUNIT_BYTES,
}


def most_bytes(name: str) -> int:
    """How long the file `name`, one of `rch.contract.sets.READ`, may be to be read into memory."""
    return _MOST.get(name, MAX_RECORD_BYTES)
