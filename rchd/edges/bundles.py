"""What a snapshot is made of and what comes of it, whether all of the tree is read or little."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rch.contract.records import SourceBase, SourceEntry
from rchd.edges.spool import EMPTY_SHA256
from rchd.edges.walk import Found

TICK_NS = 20_000_000  # twice the coarsest clock that kernels stamp files by
_COARSE_CLOCK = 5  # Linux's CLOCK_REALTIME_COARSE, by which it stamps files
_NAMED = 3


def tick_ns() -> int:
    """Within how many nanoseconds two changes may bear the same time on this machine, and some to spare."""
    if sys.platform != "linux":
        return TICK_NS
    return min(TICK_NS, max(2_000_000, int(2e9 * time.clock_getres(_COARSE_CLOCK))))


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A spooled bundle; `entries` are those of `source_manifest.json`, sorted by path.

    With a `base` the bundle is thin: it holds what is new or changed since.
    """

    source_sha256: str
    content_sha256: str
    spool_path: Path
    tar_bytes: int
    compressed_bytes: int
    entries: tuple[SourceEntry, ...]
    warnings: tuple[str, ...]
    base: SourceBase | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """A walk and what it saw: files and links by path, the times of folders, and when it `began` (ns)."""

    found: list[Found]
    folders: dict[str, int]
    began: int
    warnings: tuple[str, ...]


def entry_of(one: Found, digest: str | None) -> SourceEntry:
    """A line of the manifest; an empty file is never read."""
    return SourceEntry(
        path=one.path,
        type=one.kind,
        size=one.size,
        sha256=None if one.kind == "symlink" else digest or EMPTY_SHA256,
        symlink_target=msgspec.UNSET if one.target is None else one.target,
    )


def let_tick_pass(newest: int) -> None:
    """Wait until a write would give any file a new stamp: one in the same tick would not show."""
    age = time.time_ns() - newest
    if 0 <= age < TICK_NS:
        time.sleep((TICK_NS - age) / 1e9)


def pointer_warning(paths: Iterable[str]) -> list[str]:
    """That Git LFS pointers are bundled in the place of their files."""
    if not (found := sorted(paths)):
        return []
    named = ", ".join(found[:_NAMED]) + (", …" if len(found) > _NAMED else "")
    return [f"{len(found)} Git LFS pointers stand in for their files (git lfs pull): {named}"]
