"""Sources in a worker's store, put there without a channel."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import msgspec
from support import jobs

from rch.contract.canonical import jcs_sha256
from rch.contract.records import Job
from rch.contract.tar import Member, write_tar
from rch.contract.worker_rpc import Stream
from worker_agent.worker import Worker

Files = Mapping[str, str | Path]
"""Names and what is there: text, or a path for a link; a name that ends in .sh may be executed."""


def a_tar(files: Files) -> bytes:
    """The canonical tar of these files."""
    members: list[tuple[Member, tuple[bytes, ...]]] = []
    for name in sorted(files, key=str.encode):
        content = files[name]
        if isinstance(content, Path):
            members.append((Member(path=name, kind="symlink", target=str(content)), ()))
        else:
            data = content.encode()
            member = Member(path=name, size=len(data), executable=name.endswith(".sh"))
            members.append((member, (data,)))
    return b"".join(write_tar(members, canonical=True))


def stored(worker: Worker, files: Files) -> str:
    """Put a source into the store; its digest."""
    body = a_tar(files)
    digest = hashlib.sha256(body).hexdigest()
    stream = Stream(content_length=len(body), content_sha256=digest, compression="none", format="tar")
    worker.sources.receive(digest, stream, io.BytesIO(body))
    return digest


def a_worker(root: Path, config: str = "") -> Worker:
    """A worker of its own below `root`."""
    home = root / "worker"
    (home / "config").mkdir(parents=True, exist_ok=True)
    (home / "config" / "worker.toml").write_text(config)
    return Worker({"RCH_WORKER_HOME": str(home), "PATH": "/usr/bin:/bin", "HOME": str(root)})


def job_of(
    source_sha256: str, name: str, *, run: str = "", toolchain: Mapping[str, str] | None = None
) -> Job:
    """A job of that source whose id has `name` in it."""
    job = jobs.job("build")
    inputs = msgspec.structs.replace(job.job_key_inputs, source_sha256=source_sha256)
    if toolchain is not None:
        inputs = msgspec.structs.replace(inputs, toolchain=dict(toolchain))
    return msgspec.structs.replace(
        job,
        job_id=f"job-{name:0>10}",
        run_id=f"run-{run or name:0>10}",
        job_key_inputs=inputs,
        job_key=jcs_sha256(inputs),
    )


def contents(tree: Path) -> dict[str, str | Path]:
    """What a tree holds, as `Files`."""
    found: dict[str, str | Path] = {}
    for path in tree.rglob("*"):
        name = str(path.relative_to(tree))
        if path.is_symlink():
            found[name] = path.readlink()
        elif path.is_file():
            found[name] = path.read_text()
    return found
