"""Jobs as a host submits them, and what came of one: log, states, set (sections 3.3, 8)."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import zstandard

from rch.contract.decoding import decode_json
from rch_conformance.checks import Broken
from rch_conformance.worker.channel import Channel, Silence
from rch_conformance.worker.forms import jcs_sha256
from rch_conformance.worker.peer import Answer, Peer, new_id, request_line
from rch_conformance.worker.project import Project

TERMINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
_MOST_SET_BYTES = 1 << 30
_HOLD_SECONDS = 5.0


def timestamp() -> str:
    """Now, as the contract writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Job:
    """A submit's payload without its lease."""

    payload: Mapping[str, Any]

    @property
    def job_id(self) -> str:
        """Its id."""
        return str(self.payload["job"]["job_id"])

    @property
    def run_id(self) -> str:
        """The id of its run."""
        return str(self.payload["job"]["run_id"])

    @property
    def key(self) -> str:
        """Its job key."""
        return str(self.payload["job"]["job_key"])

    @property
    def inputs(self) -> dict[str, Any]:
        """Its identity."""
        return dict(self.payload["job"]["job_key_inputs"])

    @property
    def nonce(self) -> str:
        """The host's nonce."""
        return str(self.payload["host_nonce"])


def make_job(
    project: Project,
    run_id: str,
    argv: Sequence[str],
    *,
    profile: str = "rich",
    job_id: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    job_key: str | None = None,
) -> Job:
    """A job of a project; `inputs` replace members of its identity, `job_key` what follows from it."""
    identity = {
        "source_sha256": project.source_sha256,
        "sanitized_argv": list(argv),
        "toolchain": dict(project.toolchain),
        "destination": dict(project.destination),
        **(inputs or {}),
    }
    now, policy = timestamp(), {"backend": project.backend}
    head = {
        "schema_version": "1.0.0",
        "created_at": now,
        "run_id": run_id,
        "job_id": job_id or new_id(),
        "job_key": job_key or jcs_sha256(identity),
    }
    config = {**project.config, "cache": {"results": False}}
    source = {"origin": "repo", "path": ".rch/xcode.toml", "sha256": jcs_sha256(config)}
    job = {
        **head,
        "schema_id": "rch-xcode/job@1",
        "action": argv[0],
        "job_key_inputs": identity,
        "effective_config": {"config": config, "sources": [source], "redactions": []},
        "artifact_profile": profile,
        "original_constraint": project.constraint,
        **project.job,
    }
    tool = "swift" if project.backend == "swiftpm" else "xcodebuild"
    invocation = {
        **head,
        "schema_id": "rch-xcode/invocation@1",
        "original_argv": [tool, *argv],
        "sanitized_argv": list(argv),
        "accepted_action": argv[0],
        "rejected_flags": [],
        "classifier_policy_sha256": jcs_sha256(policy),
    }
    return Job(
        {
            "job": job,
            "invocation": invocation,
            "classifier_policy": {**head, "schema_id": "rch-xcode/classifier_policy@1", "policy": policy},
            "job_state_seq": 1,
            "host_nonce": f"nonce-{new_id()}",
            "host_timings": {"upload": 1},
        }
    )


@dataclass(slots=True)
class Log:
    """What tailing gave: pieces of text in order, events, and (state, seq) as they were told."""

    pieces: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    stood: list[tuple[str, int]] = field(default_factory=list)
    early_ends: int = 0

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.pieces)


def follow(
    peer: Peer,
    job_id: str,
    timeout: float,
    *,
    cursor: str | None = None,
    log: Log | None = None,
    **limits: Any,
) -> Log:
    """Tail a job to its end, or status by status where tails are not offered.

    `limits` go into each request. A null cursor before the end is counted, and the tail begun anew
    where it stood.
    """
    log, deadline = Log() if log is None else log, time.monotonic() + timeout
    while time.monotonic() < deadline:
        hold = {"wait_seconds": _HOLD_SECONDS, **limits}
        news = peer.result("tail", job_id=job_id, cursor=cursor, **hold)
        take(news, log)
        state = str(news.get("state"))
        if news.get("next_cursor") is None:
            if state in TERMINAL:
                return log
            log.early_ends += 1
            raise Broken(f"next_cursor is null while the job is {state}")
        cursor = str(news["next_cursor"])
    raise Silence(f"job {job_id} is not at its end after {timeout:g} s")


def take(news: Mapping[str, Any], log: Log) -> None:
    """Add what a tail gave."""
    log.pieces.append(str(news.get("log_chunk", "")))
    log.events += [each for each in news.get("events") or () if isinstance(each, dict)]
    seq = news.get("seq")
    if isinstance(seq, int):
        log.stood.append((str(news.get("state")), seq))


def wait_for_end(peer: Peer, job_id: str, timeout: float) -> dict[str, Any]:
    """Ask for the status until the job is at its end; the last status."""
    deadline, pause = time.monotonic() + timeout, 0.02
    while time.monotonic() < deadline:
        status = peer.result("status", job_id=job_id)
        if status.get("state") in TERMINAL:
            return status
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)
    raise Silence(f"job {job_id} is not at its end after {timeout:g} s")


# --- sets ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fetched:
    """A framed answer of `fetch` as it came: the header, and the bytes that followed it."""

    header: dict[str, Any]
    body: bytes

    @property
    def stream(self) -> dict[str, Any]:
        """What the header says of the body."""
        stream = self.header.get("stream")
        if not isinstance(stream, dict):
            raise Broken("the header of the set has no stream")
        return stream


def fetch(peer: Peer, job_id: str, offset: int | None = None) -> Fetched:
    """A set, on a channel of its own."""
    payload = {"job_id": job_id} | ({} if offset is None else {"offset": offset})
    with peer.open() as channel:
        channel.send(request_line("fetch", payload))
        channel.end_input()
        return read_set(peer.read(channel), channel)


def read_set(answer: Answer, channel: Channel) -> Fetched:
    """The bytes behind a header; `Broken` for a refusal, or too few of them."""
    if not answer.ok:
        raise Broken(f"the set was refused: {answer.shown()}")
    stream = answer.raw.get("stream")
    length = stream.get("content_length") if isinstance(stream, dict) else None
    if not isinstance(length, int) or not 0 <= length <= _MOST_SET_BYTES:
        raise Broken(f"the header of the set names no length of a body: {answer.shown()}")
    body = channel.body(length)
    if len(body) != length:
        raise Broken(f"{len(body)} bytes of the set came, stream.content_length is {length}")
    return Fetched(answer.raw, body)


@dataclass(frozen=True, slots=True)
class ArtifactSet:
    """A set unpacked in memory: files with their bytes, folders, and what is neither."""

    header: dict[str, Any]
    files: dict[str, bytes]
    folders: frozenset[str]
    others: tuple[str, ...]
    twice: tuple[str, ...]

    def record(self, name: str) -> dict[str, Any]:
        """A JSON file of the set; `Broken` where it is not there, or no object."""
        data = self.files.get(name)
        if data is None:
            raise Broken(f"the set has no {name}; it has {', '.join(sorted(self.files))}")
        try:
            return dict(decode_json(data, dict[str, Any]))
        except ValueError as error:
            raise Broken(f"{name} is no JSON object: {error}") from error


def unpack(fetched: Fetched) -> ArtifactSet:
    """The members of a set; `Broken` where the stream is no tar."""
    data = fetched.body
    try:
        if fetched.stream.get("compression") == "zstd":
            reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data))
            data = reader.read(_MOST_SET_BYTES)
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            return _members(fetched.header, tar)
    except (tarfile.TarError, zstandard.ZstdError) as error:
        raise Broken(f"the set is no tar: {error}") from error


def _members(header: dict[str, Any], tar: tarfile.TarFile) -> ArtifactSet:
    held: dict[str, bytes] = {}
    folders, others, twice = set(), [], []
    for member in tar:
        if member.name in held or member.name in folders:
            twice.append(member.name)
        if member.isdir():
            folders.add(member.name)
        elif member.isreg() and (content := tar.extractfile(member)) is not None:
            held[member.name] = content.read()
        else:
            others.append(member.name)
    return ArtifactSet(header, held, frozenset(folders), tuple(others), tuple(twice))
