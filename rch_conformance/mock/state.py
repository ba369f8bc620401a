"""What one channel of a mock worker has to know of another: a folder of small files under one lock.

`worker.json` counts requests and holds leases and stored sources, `jobs/` a file a job, and
`transcript.jsonl` a line a request. It is no store of a worker: nothing is made durable.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from rch.contract.decoding import decode_json
from rch.contract.errors import Failure, Kind
from rch.contract.worker_rpc import SubmitRequest

T = TypeVar("T", bound=msgspec.Struct)


class Lease(msgspec.Struct, kw_only=True):
    """A slot that is given away; `until` is of this machine's monotonic clock."""

    lease_id: str
    run_id: str
    fence: int
    until: float


class WorkerState(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The whole worker but its jobs. `asked` counts requests by operation, and fetches also by job.

    `scenario` is the one that it follows, "" as long as none did. `unleased` are the jobs that have a
    slot and no lease; some of them may be over.
    """

    scenario: str = ""
    fence: int = 0
    asked: dict[str, int] = {}
    leases: list[Lease] = []
    unleased: list[str] = []
    sources: list[str] = []


class JobState(msgspec.Struct, kw_only=True):
    """One job as it was submitted, or `submit` None where it was only cancelled.

    `begun` and `cancelled_at` are of the monotonic clock; `created_at` is the wall clock's.
    """

    created_at: str
    begun: float
    submit: SubmitRequest | None = None
    cancelled_at: float | None = None
    reason: str = ""


class Folder:
    """The state of one worker at `root`, which is made; `Failure` CONFIG where that cannot be."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.transcript = root / "transcript.jsonl"
        with _told(root):
            (root / "jobs").mkdir(parents=True, exist_ok=True)

    def claim(self, scenario: str) -> None:
        """See that it can be used, for that scenario; `Failure` CONFIG where it is another's."""
        with self.changing() as state:
            if state.scenario not in {"", scenario}:
                what = f"is the state of scenario {state.scenario!r}, not of {scenario!r}"
                raise _unusable(self.root, what)
            state.scenario = scenario
        with _told(self.transcript):
            self.transcript.open("ab").close()

    @contextmanager
    def changing(self) -> Iterator[WorkerState]:
        """The worker's state, which nobody else changes meanwhile; it is kept at the end."""
        path = self.root / "worker.json"
        with self._locked():
            state = _decoded(path, WorkerState) or WorkerState()
            now = time.monotonic()
            state.leases = [lease for lease in state.leases if lease.until > now]
            yield state
            _put(path, state)

    def job(self, job_id: str) -> JobState | None:
        """A job that was heard of. The id has been validated."""
        return _decoded(self.root / "jobs" / f"{job_id}.json", JobState)

    def jobs(self) -> list[tuple[str, JobState]]:
        """Every job that was heard of, with its id."""
        ids = sorted(path.stem for path in (self.root / "jobs").glob("[!.]*.json"))
        return [(each, job) for each in ids if (job := self.job(each)) is not None]

    def put_job(self, job_id: str, job: JobState) -> None:
        """Keep a job."""
        _put(self.root / "jobs" / f"{job_id}.json", job)

    def note(self, line: Mapping[str, Any]) -> None:
        """One more line of the transcript."""
        with self._locked(), self.transcript.open("ab") as file:
            file.write(msgspec.json.encode(line) + b"\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with _told(self.root / "lock"):
            fd = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def _put(path: Path, value: msgspec.Struct) -> None:
    temp = path.with_name(f".{path.name}.{os.getpid()}")
    with _told(path):
        temp.write_bytes(msgspec.json.encode(value))
        temp.rename(path)


def _decoded(path: Path, kind: type[T]) -> T | None:
    """A file of ours, None where there is none."""
    with _told(path):
        try:
            return decode_json(path.read_bytes(), kind)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise _unusable(path, f"is damaged or not of a mock worker ({error})") from error


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the system refuses, as one line for people."""
    try:
        yield
    except OSError as error:
        raise _unusable(path, (error.strerror or str(error)).lower()) from error


def _unusable(place: Path, what: str) -> Failure:
    """The refusal of a folder that cannot be a worker's state."""
    return Failure(
        Kind.CONFIG,
        f"{place}: {what}: name another folder with --state, or remove it",
        subkind="BAD_VALUE",
    )
