"""A job on disk: its records, its lock, and what stands when its owner is gone (spec section 3.3).

    locks/<job_id>.lock       held by the supervisor as long as it lives, outside of the folder
    cancels/<job_id>          the intent to end the job; without a job it is the tombstone
    jobs/<job_id>/
      request.json            the submit as it came
      attempt.json            which execution this is; it counts before anything is done
      state.json              the state, written by the owner of the lock alone
      group.json              the process group of the phase that runs
      attempt-<n>/            artifacts, scratch and tmp of one execution

A job whose state is not terminal and whose lock is free was lost. If its set is already
sealed only the last write is missing and is made good; else `submit` runs it again, and
until then it is answered as not found, with `lost` in the data.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from rch.contract.decoding import decode_json
from rch.contract.records import JobStateRecord, Summary, decode_record, encode_record
from rch.contract.states import is_terminal
from rch.contract.worker_rpc import SubmitRequest
from rch.files.durable import is_temp_name, make_dirs, remove_tree, sync_dir, write_atomic
from rch.files.locks import FileLock, is_free
from rch.files.paths import WorkerPaths
from worker_agent.model import JobLayout
from worker_agent.processes import Group, end_at_once

MAX_ATTEMPTS = 2
_PIECE = 1 << 16
_GROUP_DRAFT = "group.new"

T = TypeVar("T")


class Loss(msgspec.Struct, frozen=True, kw_only=True):
    """An execution that was found dead at `found`. `rebooted`: it ended with its machine."""

    number: int
    found: str
    rebooted: bool = False


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """Which execution is on, the lease and the boot that it came under, and those lost before it."""

    number: int
    lease_id: str | None = None
    boot: str | None = None
    lost: tuple[Loss, ...] = ()


class CancelIntent(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job is to end, and when that was asked; the first one stands."""

    reason: str
    at: str


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a job. `lost`: not terminal, and nobody owns it."""

    state: JobStateRecord | None
    attempt: int
    lost: bool

    @property
    def terminal(self) -> bool:
        """Whether the job is at its end."""
        return self.state is not None and is_terminal(self.state.state)


class Jobs:
    """All jobs of a worker."""

    def __init__(self, paths: WorkerPaths) -> None:
        self._paths = paths
        # As text: what is asked again and again has no time to join paths.
        self._jobs, self._locks = str(paths.jobs), str(paths.locks)

    # --- places -----------------------------------------------------------------------

    def folder(self, job_id: str) -> Path:
        """The job's own folder."""
        return self._paths.jobs / job_id

    def lock(self, job_id: str) -> FileLock:
        """The job's lock, not taken yet."""
        return FileLock(self.lock_path(job_id), f"job {job_id}")

    def lock_path(self, job_id: str) -> Path:
        """Where the job's lock lies."""
        return self._paths.locks / f"job-{job_id}.lock"

    def attempt_folder(self, job_id: str, number: int) -> Path:
        """What one execution leaves."""
        return self.folder(job_id) / f"attempt-{number}"

    def layout(self, job_id: str, run_id: str, number: int, *, own_build: bool = False) -> JobLayout:
        """The folders of one execution; with `own_build` it shares no build products with its run."""
        attempt, run = self.attempt_folder(job_id, number), self._paths.runs / run_id
        return JobLayout(
            root=self.folder(job_id),
            tree=run / "tree",
            build=attempt / "build" if own_build else run / "build",
            scratch=attempt / "scratch",
            tmp=attempt / "tmp",
            artifacts=attempt / "artifacts",
        )

    # --- reading ----------------------------------------------------------------------

    def state(self, job_id: str) -> JobStateRecord | None:
        """The last state; None for a job that never began."""
        data = _bytes(f"{self._jobs}/{job_id}/state.json")
        return None if data is None else decode_record(data, JobStateRecord)

    def request(self, job_id: str) -> SubmitRequest | None:
        """The submit as it came."""
        return _decoded(self.folder(job_id) / "request.json", SubmitRequest)

    def attempt(self, job_id: str) -> Attempt | None:
        """The execution that is on or was the last."""
        return _decoded(f"{self._jobs}/{job_id}/attempt.json", Attempt)

    def group(self, job_id: str) -> Group | None:
        """The process group of the last phase; a record that a power cut tore tells of none alive."""
        try:
            return _decoded(self.folder(job_id) / "group.json", Group)
        except msgspec.DecodeError:
            return None

    def cancel_intent(self, job_id: str) -> CancelIntent | None:
        """Why the job is to end, if it is."""
        try:
            reason, _, at = str(self._cancel_path(job_id).readlink()).partition(" ")
        except FileNotFoundError:
            return None
        return CancelIntent(reason=reason, at=at)

    def summary(self, job_id: str) -> Summary | None:
        """The sealed summary of the last execution, None while there is none."""
        attempt = self.attempt(job_id)
        if attempt is None:
            return None
        folder = f"{self._jobs}/{job_id}/attempt-{attempt.number}/artifacts"
        sealed = os.path.exists(f"{folder}/job_index.json")  # noqa: PTH110  (asked again and again)
        data = _bytes(f"{folder}/summary.json") if sealed else None
        return None if data is None else decode_record(data, Summary)

    def artifacts(self, job_id: str) -> Path | None:
        """The sealed set: its index is the commit marker. None without one."""
        attempt = self.attempt(job_id)
        if attempt is None:
            return None
        artifacts = self.attempt_folder(job_id, attempt.number) / "artifacts"
        return artifacts if (artifacts / "job_index.json").is_file() else None

    def log_bytes(self, job_id: str, number: int) -> int:
        """How long the log of an execution is by now."""
        try:
            return os.stat(f"{self._jobs}/{job_id}/attempt-{number}/artifacts/build.log").st_size  # noqa: PTH116
        except FileNotFoundError:
            return 0

    def alive(self, job_id: str) -> bool:
        """Whether somebody owns the job now."""
        return not is_free(f"{self._locks}/job-{job_id}.lock")

    def standing(self, job_id: str) -> Standing:
        """What stands, as every asker must see it: a sealed job is at its end, a lost one is lost."""
        state = self.state(job_id)
        if state is None or is_terminal(state.state) or self.alive(job_id):
            return self._standing(job_id, state, lost=False)
        state = self.state(job_id)  # its last word may have come just before the lock went free
        if state is None or is_terminal(state.state) or self.artifacts(job_id) is None:
            return self._standing(job_id, state, lost=state is not None and not is_terminal(state.state))
        lock = self.lock(job_id)
        if not lock.try_acquire():
            return self._standing(job_id, state, lost=False)
        try:
            return self.settle(job_id)
        finally:
            lock.release()

    def settle(self, job_id: str) -> Standing:
        """As `standing`, for the owner of the lock: makes good the last write of a sealed job."""
        state = self.state(job_id)
        if state is None or is_terminal(state.state):
            return self._standing(job_id, state, lost=False)
        artifacts = self.artifacts(job_id)
        if artifacts is None:
            return self._standing(job_id, state, lost=True)
        sealed = decode_record((artifacts / "job_state.json").read_bytes(), JobStateRecord)
        self.write_state(sealed)
        return self._standing(job_id, sealed, lost=False)

    def _standing(self, job_id: str, state: JobStateRecord | None, *, lost: bool) -> Standing:
        attempt = self.attempt(job_id)
        return Standing(state=state, attempt=attempt.number if attempt else 0, lost=lost)

    # --- writing ----------------------------------------------------------------------

    def write_request(self, request: SubmitRequest) -> None:
        """Keep the submit; the caller owns the lock."""
        folder = self.folder(request.job.job_id)
        make_dirs(folder)
        write_atomic(folder / "request.json", msgspec.json.encode(request), mode=0o600)

    def write_attempt(self, job_id: str, attempt: Attempt) -> None:
        """Count an execution before it begins; the caller owns the lock."""
        write_atomic(self.folder(job_id) / "attempt.json", msgspec.json.encode(attempt), mode=0o600)

    def write_state(self, state: JobStateRecord) -> None:
        """The durable point of a transition; the caller owns the lock."""
        write_atomic(self.folder(state.job_id) / "state.json", encode_record(state), mode=0o600)

    def write_group(self, job_id: str, group: Group) -> None:
        """Put a process group on record. It need outlive us, not the power: no fsync."""
        path = self.folder(job_id) / "group.json"
        fresh = path.with_name(_GROUP_DRAFT)
        fresh.write_bytes(msgspec.json.encode(group))
        fresh.replace(path)

    def request_cancel(self, job_id: str, reason: str, at: str) -> None:
        """Note durably that the job is to end, also one that is not known yet.

        The note is a link that leads nowhere: it is made at one stroke, the first one stands, and
        it needs no block of a disk that may be full.
        """
        path = self._cancel_path(job_id)
        make_dirs(path.parent)
        with suppress(FileExistsError):
            path.symlink_to(f"{reason} {at}")
        sync_dir(path.parent)

    def is_cancelled(self, job_id: str) -> bool:
        """Whether an intent stands: one `stat`, for those who look often."""
        return os.path.lexists(self._cancel_path(job_id))

    def end_leftovers(self, job_id: str) -> bool:
        """End what a lost execution left running; False if something stays. The caller owns the lock."""
        group = self.group(job_id)
        if group is None or not end_at_once(group):
            return group is None
        (self.folder(job_id) / "group.json").unlink(missing_ok=True)
        return True

    def has_litter(self, job_id: str) -> bool:
        """Whether something lies there that `tidy` might remove."""
        return any(self._litter(job_id))

    def tidy(self, job_id: str) -> None:
        """Remove what a dead owner left half-written or no longer needed. The caller owns the lock."""
        for path in self._litter(job_id):
            remove_tree(path)

    def _litter(self, job_id: str) -> Iterator[Path]:
        """Files without their name yet, and, of a job at its end, what the tools alone needed."""
        folder = self.folder(job_id)
        state = self.state(job_id)
        over = state is not None and is_terminal(state.state)
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            if path.name == _GROUP_DRAFT or is_temp_name(path.name):
                yield path
            elif path.name.startswith("attempt-"):
                yield from (each for each in path.glob("artifacts/.*") if is_temp_name(each.name))
                if over:
                    yield from (path / name for name in ("scratch", "tmp") if (path / name).exists())

    def holds_slot(self, job_id: str) -> bool:
        """Whether a job that was let in still has an owner or processes; sweeps a lost one."""
        lock = self.lock(job_id)
        if not lock.try_acquire():
            return True
        try:
            return not self.end_leftovers(job_id)
        finally:
            lock.release()

    def _cancel_path(self, job_id: str) -> Path:
        return self._paths.state_dir / "cancels" / job_id


def _bytes(path: str | Path) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        data = b""
        while piece := os.read(fd, _PIECE):
            data += piece
            if len(piece) < _PIECE:
                break
        return data
    finally:
        os.close(fd)


def _decoded(path: str | Path, kind: type[T]) -> T | None:
    data = _bytes(path)
    return None if data is None else decode_json(data, kind)
