"""Trees on disk, made from a mapping, and the bundles that come of them."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rch.contract.tar import Member
from rch.contract.tar_reader import Limits, TarReader
from rch.files.unzstd import bounded_reader
from rchd.edges.snapshot import Snapshot

NOBODY = 65534
GIT_ENV = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.invalid",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.invalid",
}


@dataclass(frozen=True)
class Link:
    """A symbolic link to be made."""

    target: str


def make(root: Path, tree: Mapping[str, str | bytes | Link | None]) -> Path:
    """Files from text or bytes, links, and folders from None; in the mapping's order."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(exist_ok=True)
        elif isinstance(content, Link):
            path.symlink_to(content.target)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def bundled(snapshot: Snapshot) -> dict[str, bytes | Link]:
    """What a spooled bundle holds, read back strictly."""
    with snapshot.spool_path.open("rb") as file:
        data = bounded_reader(io.BytesIO(file.read()), max_output=snapshot.tar_bytes).read()
    reader = TarReader(limits=Limits(max_entries=10_000, max_bytes=1 << 30), canonical=True)
    held: dict[str, bytes | Link] = {}
    last = ""
    for event in reader.feed(data):
        if not isinstance(event, Member):
            content = held[last]
            assert isinstance(content, bytes)
            held[last] = content + bytes(event)
        else:
            last = event.path
            held[last] = b"" if event.target is None else Link(event.target)
    reader.close()
    return held


def git(root: Path, *arguments: str) -> str:
    """Run git there, without this machine's configuration."""
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *arguments],
        cwd=root,
        env=os.environ | GIT_ENV,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def checkout(root: Path, tree: Mapping[str, str | bytes | Link | None]) -> Path:
    """A git checkout with `tree` committed on branch `main`."""
    make(root, tree)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", "first")
    return root


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's rights to read everything, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
