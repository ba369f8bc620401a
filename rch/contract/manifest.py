"""Manifest entries: their order, their root, and what differs (spec section 8)."""

from __future__ import annotations

from collections.abc import Iterable

from rch.contract.canonical import jcs_sha256
from rch.contract.neutral import one_line
from rch.contract.records import Entry

MAX_ERRORS = 50
"""Lines of one kind that are told of a set; of more only how many."""
MAX_ERROR_CHARS = 400

UNLISTED = frozenset({"manifest.json", "attestation.json", "job_index.json"})


def sort_entries(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Entries by the bytes of their path."""
    return tuple(sorted(entries, key=lambda entry: entry.path.encode()))


def root_sha256(entries: Iterable[Entry]) -> str:
    """`artifact_root_sha256`: the digest over the JCS of sorted entries."""
    return jcs_sha256(list(entries))


def differences(listed: Iterable[Entry], found: Iterable[Entry]) -> list[str]:
    """One line a difference, by path, the first of them; empty when the set is what the manifest says."""
    errors: list[str] = []
    expected: dict[str, Entry] = {}
    for entry in listed:
        if entry.path in expected:
            errors.append(f"{entry.path}: listed twice")
        if entry.path in UNLISTED:
            errors.append(f"{entry.path}: may not be listed")
        expected[entry.path] = entry
    actual = {entry.path: entry for entry in found if entry.path not in UNLISTED}
    errors += [f"{path}: missing" for path in expected.keys() - actual.keys() - UNLISTED]
    errors += [f"{path}: not in the manifest" for path in actual.keys() - expected.keys()]
    for path in expected.keys() & actual.keys():
        want, have = expected[path], actual[path]
        if want.type != have.type:
            errors.append(f"{path}: is a {have.type}, not a {want.type}")
        elif want.size != have.size:
            errors.append(f"{path}: {have.size} bytes, not {want.size}")
        elif want.sha256 != have.sha256:
            errors.append(f"{path}: sha256 {have.sha256}, not {want.sha256}")
    if list(expected) != sorted(expected, key=str.encode):
        errors.append("manifest.json: entries are not sorted by the bytes of their path")
    return shortly(sorted(errors))


def shortly(lines: Iterable[str]) -> list[str]:
    """The first of the lines, each cut and harmless, and how many more there are.

    They come from names and records of a worker's, and go to files, the database and terminals.
    """
    told: list[str] = []
    more = 0
    for line in lines:
        if len(told) < MAX_ERRORS:
            told.append(one_short_line(line))
        else:
            more += 1
    return [*told, f"and {more} more"] if more else told


def one_short_line(text: str) -> str:
    """A line that may hold what a worker said, cut and harmless."""
    line = one_line(text[: 2 * MAX_ERROR_CHARS])
    return line if len(line) <= MAX_ERROR_CHARS else f"{line[:MAX_ERROR_CHARS]}…"
