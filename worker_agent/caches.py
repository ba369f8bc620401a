"""Caches that a job uses while it runs: shared build products, and SwiftPM's own (spec section 11).

Build products are one job's at a time, from its first phase until its processes are gone: whoever
comes meanwhile waits, and says in the log for whom. So are the packages that an Xcode job checks out,
from which it compiles. The cache of dependencies and manifests of `swift` is locked by that itself
wherever it is touched, so that jobs share it; what a job holds there is a lock of its own, which keeps
the sweep away.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from rch.contract.errors import Failure, Kind
from rch.contract.records import Job
from rch.contract.worker_rpc import RpcError
from rch.files.durable import make_dirs, write_whole
from rch.files.locks import FileLock, is_free
from rch.files.paths import WorkerPaths
from worker_agent.cache_keys import CacheConfig, build_folder, lock_path, spm_folder, toolchain_key
from worker_agent.kept import LAST, KeptFolder, Last
from worker_agent.products import outlived
from worker_agent.worker import Worker

_LOOK_SECONDS = 0.02
_TELL_SECONDS = 30.0


class JobCaches:
    """The caches of one job. `build` and `spm` are None where it uses none.

    `look` says whether the job is to end; `tell` takes a line for its log.
    """

    def __init__(
        self,
        worker: Worker,
        job: Job,
        config: CacheConfig,
        *,
        look: Callable[[], bool],
        tell: Callable[[str], None],
    ) -> None:
        inputs = job.job_key_inputs
        self._worker = worker
        self._job = job
        self._look = look
        self._tell = tell
        self.build = build_folder(worker.paths, config, inputs.toolchain, job.job_key)
        self.spm: Path | None = None
        if config.namespace is not None and config.spm == "shared":
            self.spm = spm_folder(worker.paths, config.namespace, toolchain_key(inputs.toolchain))
        self._own_packages = "xcode_build" in inputs.toolchain
        self._kept: list[KeptFolder] = []
        self._use: FileLock | None = None

    def enter(self) -> bool:
        """Have them; False if the job is ended before. `Failure` CACHE_BUSY after `cache_wait_seconds`."""
        if self.spm is not None and not self._own_packages:
            self._use = use_spm(self._worker.paths, self.spm, self._job.job_id)
        # In this order for every job, so that no two wait for each other.
        whole = (self.spm if self._own_packages else None, self.build)
        return all(self._enter(folder) for folder in whole if folder is not None)

    def _enter(self, folder: Path) -> bool:
        name = str(folder.relative_to(self._worker.paths.caches))
        kept = KeptFolder(self._worker.paths, self._worker.jobs, folder, self._job.job_id)
        if not self._waited_for(kept, name):
            return False
        self._kept.append(kept)
        why = kept.objection(dict(self._job.job_key_inputs.toolchain))
        if why is None and folder == self.build:
            why = self._outlived(kept)
        if why is not None:
            try:
                kept.throw_away()
            except OSError as error:
                message = f"cache {name} is of no use ({why}) and stays: {error.strerror}"
                raise Failure(Kind.EXECUTOR, message) from error
            self._tell(f"cache {name} was thrown away: {why}")
        kept.begin()
        return True

    def _outlived(self, kept: KeptFolder) -> str | None:
        """Why build products of another source are of no use for this one's."""
        last, source = kept.last(), self._job.job_key_inputs.source_sha256
        if last is None or last.source_sha256 == source:
            return None
        sources = self._worker.sources
        try:
            before, after = sources.members(last.source_sha256), sources.members(source)
        except RpcError:
            return "what it was made of is not known any more"
        return outlived(
            {one.path: (one.sha256, one.target) for one in before},
            {one.path: (one.sha256, one.target) for one in after},
        )

    @property
    def waits(self) -> bool:
        """Whether the job may have to wait for another one."""
        return self.build is not None or (self.spm is not None and self._own_packages)

    def _waited_for(self, kept: KeptFolder, name: str) -> bool:
        began, told = time.monotonic(), 0.0
        while not kept.try_take():
            now = time.monotonic()
            holder = kept.lock.holder() or f"what job {kept.marked_by() or 'of before'} left running"
            if now - began > self._worker.config.cache_wait_seconds:
                waited = self._worker.config.cache_wait_seconds
                message = f"cache {name} was not free for {waited} s: held by {holder}"
                raise Failure(Kind.EXECUTOR, message, subkind="CACHE_BUSY")
            if now - told > _TELL_SECONDS or not told:
                self._tell(f"waiting for cache {name}, held by {holder}")
                told = now
            if self._look():
                return False
            time.sleep(_LOOK_SECONDS)
        return True

    def settle(self) -> None:
        """The job is over and its processes are gone."""
        for kept in self._kept:
            kept.settle(Last.of(self._job, time.time_ns()))

    def discard(self) -> None:
        """Give up what nobody else uses, for its space."""
        for kept in self._kept:
            kept.discard()

    def release(self) -> None:
        """Leave them to others."""
        for kept in self._kept:
            kept.release()
        if self._use is not None and self.spm is not None and self._use.held:
            with suppress(OSError):
                write_whole(self.spm / LAST, msgspec.json.encode(Last.of(self._job, time.time_ns())))
            with suppress(OSError):
                self._use.path.unlink()
            self._use.release()


def use_spm(paths: WorkerPaths, folder: Path, job_id: str) -> FileLock:
    """Make SwiftPM's cache at `folder` if need be; gives the held lock that marks our use."""
    use = FileLock(uses_folder(paths, folder) / f"{job_id}.lock", f"job {job_id}")
    with FileLock(lock_path(paths, folder), f"job {job_id}"):
        use.try_acquire()
        make_dirs(folder)
    return use


def spm_in_use(paths: WorkerPaths, folder: Path) -> bool:
    """Whether a job uses SwiftPM's cache at `folder`; for who holds its lock, the answer stands."""
    uses = uses_folder(paths, folder)
    return any(not is_free(path) for path in (uses.iterdir() if uses.is_dir() else ()))


def uses_folder(paths: WorkerPaths, folder: Path) -> Path:
    """Where each job that uses SwiftPM's cache at `folder` has a lock of its own."""
    return lock_path(paths, folder).with_suffix(".uses")
