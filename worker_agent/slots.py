"""Warm workspaces: a slot's tree and build products stay for the next job (spec section 11).

    workspaces/<namespace>/<toolchain_key>/<n>/
      tree, build           at the same paths for every job, so that builds are incremental
      record                what a sync left in the tree, see `sync_record`
      .rch-dirty, .rch-last see `kept`

A job has a slot to itself until its processes are gone and its set is sealed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from rch.contract.errors import Failure, Kind
from rch.contract.records import Job
from rch.contract.worker_rpc import RpcError
from rch.files.descent import FOLDER_FLAGS
from rch.files.durable import is_no_space, temp_name, write_whole
from worker_agent.cache_keys import CacheConfig, slots_folder, toolchain_key
from worker_agent.kept import KeptFolder, Last
from worker_agent.products import outlived
from worker_agent.source_index import Index
from worker_agent.sources import Sources
from worker_agent.sync import Synced, collector_at_rest, sync_tree
from worker_agent.sync_record import NOTHING, contents_of, decode_record, encode_record
from worker_agent.worker import Worker
from worker_agent.workspaces import RunRoom, Workspace

PATIENCE_SECONDS = 10.0
"""How long a job waits for a slot. There is one for each job that may run, so it hardly ever does."""

_SETTLED_NS = 1_000_000
_RECORD = "record"


class SlotRoom(Workspace):
    """A slot that a job looks for, and then has. `fresh`: it is to find nothing there."""

    stage = "sync"

    def __init__(self, worker: Worker, job: Job, config: CacheConfig, *, fresh: bool) -> None:
        super().__init__()
        self._worker = worker
        self._job = job
        self._fresh = fresh
        self._key = toolchain_key(job.job_key_inputs.toolchain)
        self._name = config.namespace or ""
        self._slots = slots_folder(worker.paths, self._name, self._key)
        self._slot: KeptFolder | None = None
        self._record = NOTHING
        self._last: Last | None = None
        self._ready = False
        self._since = time.monotonic()

    @property
    def folder(self) -> Path:
        """The slot that the job has."""
        return self._held.folder

    @property
    def _held(self) -> KeptFolder:
        if self._slot is None:
            raise ValueError("no slot is taken")
        return self._slot

    # --- having one -------------------------------------------------------------------

    def enter(self) -> bool:
        """Take the best slot that is free; what cannot be used in it is thrown away."""
        for slot in self._by_preference():
            if not slot.try_take():
                continue
            try:
                self._receive(slot)
            except OSError as error:  # such as a folder that may not be renamed
                slot.release()
                told = f"workspace {slot.folder.name} cannot be used: {error.strerror}"
                self.notes += [told] if told not in self.notes else []
            else:
                self._slot = slot
                self.tree, self.build = slot.folder / "tree", slot.folder / "build"
                return True
        return False

    def otherwise(self) -> Workspace:
        """A tree of the run's own, once it is plain that no slot can be had."""
        if time.monotonic() - self._since < PATIENCE_SECONDS:
            return self
        room = RunRoom(self._worker.paths, self._job.run_id, fresh=self._fresh)
        room.notes = [*self.notes, f"no workspace of {self._name} is free: the job has a tree of its own"]
        room.counts["workspace_warm"] = 0
        return room

    def _by_preference(self) -> Iterator[KeptFolder]:
        """The same source first, then the same run, then the last used; then what is not there or dirty."""
        ranked = []
        for number in range(self._worker.config.max_concurrent_jobs):
            slot = KeptFolder(
                self._worker.paths, self._worker.jobs, self._slots / str(number), self._job.job_id
            )
            last = slot.last() if slot.marked_by() is None else None
            rank = (1, 0, 0, number)
            if last is not None:
                source = last.source_sha256 == self._job.job_key_inputs.source_sha256
                rank = (0, -2 * source - (last.run_id == self._job.run_id), -last.used, number)
            if self._fresh:  # what is of use to others is left to them
                rank = (-rank[0], *rank[1:])
            ranked.append((rank, slot))
        return (slot for _, slot in sorted(ranked, key=lambda one: one[0]))

    def _receive(self, slot: KeptFolder) -> None:
        """Look at what a slot holds, and throw away what is of no use; the caller owns its lock."""
        self._record, self._last = NOTHING, None
        why = slot.objection(dict(self._job.job_key_inputs.toolchain))
        if why is None and os.path.lexists(slot.folder):
            if self._fresh:
                why = "an execution of this job was lost"
            else:
                try:
                    self._record = decode_record((slot.folder / _RECORD).read_bytes())
                    self._last = slot.last()
                except (OSError, msgspec.DecodeError):
                    why = "its record cannot be read"
        if why is not None:
            slot.throw_away()
            self.notes.append(f"workspace {slot.folder.name} of {self._name} was thrown away: {why}")

    # --- using it ---------------------------------------------------------------------

    def prepare(self, source_sha256: str, sources: Sources) -> None:
        """Have the source in `tree`, and what the last job built in `build`. `Failure` as `RunRoom`."""
        try:
            with collector_at_rest():
                members = sources.members(source_sha256)
                synced = self._synced(source_sha256, members, sources)
        except RpcError as error:
            raise Failure(Kind.EXECUTOR, error.message) from error
        except Failure:
            with suppress(RpcError, OSError):
                sources.require_sound(source_sha256)  # a damaged one goes, so that the next run sends it
            self.discard()
            raise
        except OSError as error:
            self.discard()
            subkind = "NO_SPACE" if is_no_space(error) else None
            message = f"the workspace was not brought to the source: {error.strerror}"
            raise Failure(Kind.EXECUTOR, message, subkind=subkind) from error
        warm = self._last is not None
        self.counts |= {
            "workspace_files_written": synced.written,
            "workspace_files_removed": synced.removed,
            "workspace_files_kept": synced.kept,
            "workspace_warm": int(warm),
        }
        state = f"last used by {self._last.job_id}" if self._last else "begun anew"
        self.notes.append(f"workspace {self.folder.name} of {self._name} / {self._key}, {state}")
        self._record, self._ready = synced.record, True

    def _synced(self, source_sha256: str, members: Index, sources: Sources) -> Synced:
        try:
            return self._sync(source_sha256, members, sources)
        except OSError as error:
            if is_no_space(error) or self._last is None:
                raise
            # Whatever the last build did to the tree: it is not repaired, and the job goes on.
            self._held.throw_away()
            self.notes.append(
                f"workspace {self.folder.name} of {self._name} was thrown away: {error.strerror}"
            )
        self._record, self._last = NOTHING, None
        return self._sync(source_sha256, members, sources)

    def _sync(self, source_sha256: str, members: Index, sources: Sources) -> Synced:
        self._held.begin()
        wanted = {member.path: (member.sha256, member.target) for member in members}
        self._begin_anew(outlived(contents_of(self._record), wanted))
        for folder in (self.tree, self.build):
            with suppress(FileExistsError):
                folder.mkdir(mode=0o755)
            os.close(os.open(folder, FOLDER_FLAGS))  # a build may have put a link in its place
        with sources.open(source_sha256) as reader:
            return sync_tree(
                self.tree,
                members,
                self._record,
                reader,
                newer_than=self._last.used + _SETTLED_NS if self._last else 0,
                aside=lambda: temp_name(self.folder),
            )

    def _begin_anew(self, why: str | None) -> None:
        """Put the build products aside where they may speak of what is not there any more."""
        if why is None or self._last is None:
            return
        with suppress(FileNotFoundError):
            self.build.rename(temp_name(self.folder))
        self.notes.append(f"the build products of workspace {self.folder.name} begin anew: {why}")

    def settle(self) -> None:
        """Write the record, then take the mark away."""
        if self._slot is None or not self._ready:
            return
        write_whole(self.folder / _RECORD, encode_record(self._record))
        used = max(time.time_ns(), self._last.used if self._last else 0)
        self._slot.settle(Last.of(self._job, used))

    def discard(self) -> None:
        """Throw it away now, for its space."""
        self._ready = False
        if self._slot is not None:
            self._slot.discard()

    def release(self) -> None:
        """Leave it to the next job."""
        if self._slot is not None:
            self._slot.release()
