"""A published set against its own manifest, on the disk as it is now (spec section 8; fault A1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rch.contract.attested import Known
from rch.contract.records import Entry, Manifest, decode_record
from rch.contract.sets import examine, outline
from rch.files.known import beside, noted
from rch.files.sets import Read, read_outline, read_set


def examine_set(step: Path, host: Path, *, read_data: bool, read: Read = lambda _bytes: None) -> list[str]:
    """What is wrong with the set at `step`, a line each; `host` is the job's folder of the host.

    Names, kinds and sizes, and what the host wrote down of the three unlisted files are always compared.
    `read_data` reads every file, and checks what the records, the attestation and its envelopes say
    too. Who may sign is asked when a set is fetched, not later: keys are rotated. `read` is told of bytes.
    """
    if read_data:
        told = beside(step)
        looked = examine(read_set(step, read), told.known)
        return [*looked.errors, *looked.distrust, *told.problems]
    problems: list[str] = []
    known = Known(job_id=step.name, noted=noted(host, problems))
    looked = outline(read_outline(step, _listed), known)
    return [*looked.errors, *looked.distrust, *problems]


def _listed(records: Mapping[str, bytes]) -> dict[str, Entry]:
    """By the manifest of the set; nothing where it cannot be read, which is told."""
    try:
        manifest = decode_record(records["manifest.json"], Manifest)
    except (KeyError, ValueError):
        return {}
    return {entry.path: entry for entry in manifest.entries}
