"""Folders that outlive jobs: one user at a time, and none after a user that did not come to its end.

    <folder>/.rch-dirty   there, durably, from before the first change until the user's processes are
                          gone: the job that uses the folder
    <folder>/.rch-last    who used it last and with what; written before the mark goes

The lock lies outside of the folder and is held by the job's supervisor. A folder that is found
dirty, or was made by another boot or toolchain, is thrown away whole: renamed aside, under a
name that a sweep removes. It is never repaired (spec section 11; faults W1, W9).
"""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path

import msgspec

from rch.contract.decoding import decode_json
from rch.contract.ids import is_id
from rch.contract.records import Job
from rch.files.durable import make_dirs, remove_tree, temp_name, write_atomic, write_whole
from rch.files.locks import FileLock
from rch.files.paths import WorkerPaths
from worker_agent.cache_keys import lock_path
from worker_agent.clock import boot_id
from worker_agent.jobs import Jobs
from worker_agent.toolchains.versions import tools_of

DIRTY = ".rch-dirty"
LAST = ".rch-last"


class Last(msgspec.Struct, frozen=True, kw_only=True):
    """The last use that came to its end. `used` is in nanoseconds of the wall clock."""

    job_id: str
    run_id: str
    source_sha256: str
    toolchain: dict[str, str]
    boot: str
    used: int
    tools: str = ""

    @classmethod
    def of(cls, job: Job, used: int) -> Last:
        """The use of a job that ended at `used`."""
        inputs = job.job_key_inputs
        return cls(
            job_id=job.job_id,
            run_id=job.run_id,
            source_sha256=inputs.source_sha256,
            toolchain=dict(inputs.toolchain),
            boot=boot_id(),
            used=used,
            tools=tools_of(inputs.toolchain),
        )


class KeptFolder:
    """One such folder. What is asked without the lock is a hint."""

    def __init__(self, paths: WorkerPaths, jobs: Jobs, folder: Path, job_id: str = "a sweep") -> None:
        """`job_id`: who wants it."""
        self.folder = folder
        self.lock = FileLock(lock_path(paths, folder), job_id if job_id == "a sweep" else f"job {job_id}")
        self._jobs = jobs
        self._job_id = job_id

    # --- asking -----------------------------------------------------------------------

    def last(self) -> Last | None:
        """Who used it last; None where that cannot be read."""
        try:
            return decode_json((self.folder / LAST).read_bytes(), Last)
        except (OSError, msgspec.DecodeError):
            return None

    def marked_by(self) -> str | None:
        """The job that began to use it and did not come to its end; "" for a mark that names none."""
        try:
            word = (self.folder / DIRTY).read_bytes().decode("ascii", "replace")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            return ""
        return word if is_id(word) else ""

    def objection(self, toolchain: dict[str, str]) -> str | None:
        """Why it cannot be used as it is; None if it can, or is not there. The caller owns the lock."""
        try:
            info = self.folder.lstat()
        except FileNotFoundError:
            return None
        if not stat.S_ISDIR(info.st_mode):
            return "it is no folder"
        marked = self.marked_by()
        if marked is not None:
            return f"job {marked or 'of an unreadable name'} did not come to its end in it"
        last = self.last()
        if last is None:
            return "it does not say who used it last"
        if last.boot != boot_id():
            return "the machine was restarted since"  # its files were not synced
        if last.toolchain != toolchain:
            return "it was made with another toolchain of the same key"
        if last.tools != tools_of(toolchain):
            return "the tools that made it were replaced"
        return None

    # --- using ------------------------------------------------------------------------

    def try_take(self) -> bool:
        """Have it to ourselves; False while another has it, or what its last job left still runs."""
        if not self.lock.try_acquire():
            return False
        marked = self.marked_by()
        if not marked or marked == self._job_id or not self._jobs.holds_slot(marked):
            return True
        self.lock.release()
        return False

    def throw_away(self) -> Path:
        """Rename it aside; where it lies now, for who wants the space at once."""
        aside = temp_name(self.folder)
        self.folder.rename(aside)
        return aside

    def begin(self) -> None:
        """Mark it before the first change."""
        make_dirs(self.folder)
        write_atomic(self.folder / DIRTY, self._job_id.encode("ascii"))

    def settle(self, last: Last) -> None:
        """The job is at its end and its processes are gone: the next one may build on what is there."""
        write_whole(self.folder / LAST, msgspec.json.encode(last))
        (self.folder / DIRTY).unlink()

    def discard(self) -> None:
        """Give the space back now: the disk is full."""
        with suppress(OSError):
            remove_tree(self.throw_away())

    def release(self) -> None:
        """Let others have it."""
        self.lock.release()
