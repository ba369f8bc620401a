"""Thin uploads as a host sends them, and what the store has of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zstandard
from support.worker_pipe import MANIFEST, Bench, Pipe, tar

from worker_agent.worker import Worker

Files = Mapping[str, bytes | str]

CONFIG = ".rch/xcode.toml"
BASE: dict[str, bytes | str] = {
    CONFIG: "schema_version = 1\n",
    "Package.swift": MANIFEST,
    "Sources/a/main.swift": "print(1)\n",
    "Sources/b/other.swift": os.urandom(200_000),
    "build.sh": "exit 0\n",
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def with_changes(base: Files, changes: Files, removed: tuple[str, ...] = ()) -> dict[str, bytes | str]:
    return {name: data for name, data in {**base, **changes}.items() if name not in removed}


def payload(
    body: bytes, source_sha256: str, base: str, removed: tuple[str, ...] = (), **more: Any
) -> dict[str, Any]:
    stream = {"content_length": len(body), "content_sha256": sha256(body), "compression": "zstd"}
    return {
        "source_sha256": source_sha256,
        "stream": stream,
        "base": {"source_sha256": base, "removed": list(removed)},
        **more,
    }


def send(
    pipe: Pipe, base: Files, changes: Files, removed: tuple[str, ...] = (), *, over: str = "", **more: Any
) -> str:
    """Upload `base` with its changes over `base`; the digest of the whole."""
    whole = sha256(tar(with_changes(base, changes, removed)))
    body = zstandard.compress(tar(changes))
    asked = payload(body, whole, over or sha256(tar(base)), removed, **more)
    assert pipe.ask("upload_source", body, **asked) == {"stored": True}
    return whole


def files(bench: Bench, suffix: str) -> set[str]:
    return {path.stem for path in (bench.data / "sources").glob(f"*.{suffix}")}


def leavings(bench: Bench) -> list[Path]:
    return list((bench.data / "sources" / "incoming").glob("*"))


def content(bench: Bench, digest: str) -> bytes:
    with Worker(bench.env).sources.open(digest) as source:
        return b"".join(source.pieces())


def is_whole(bench: Bench, digest: str) -> None:
    """The bytes, the members and the facts of a source are those that a whole upload would have."""
    sources = Worker(bench.env).sources
    data = content(bench, digest)
    assert sha256(data) == digest
    with sources.open(digest) as source:
        members = sources.members(digest)
        for member in members:
            held = b"".join(source.content(member))
            assert data[member.content :][: member.size] == held
            assert member.sha256 is None or sha256(held) == member.sha256
        assert source.read(700) == data[:700]
        assert source.read(700) == data[700:1400]
    facts = sources.facts(digest)
    assert facts.entries == len(members)
    assert facts.content_bytes == sum(member.size for member in members)
    assert facts.top_level == tuple(sorted({member.path.partition("/")[0] for member in members}))
