"""One execution of a job: unpack, run the phases, seal what they left (spec sections 4, 8, 11)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from rch.contract.errors import Failure, Kind
from rch.contract.records import JobStateRecord
from rch.files.durable import is_no_space, make_dirs, remove_tree
from worker_agent.buildfiles import BuildLog, EventFile
from worker_agent.cache_keys import cache_config
from worker_agent.caches import JobCaches
from worker_agent.clock import now
from worker_agent.life import Life, note_trace
from worker_agent.model import EndedByUs
from worker_agent.processes import adopt_orphans, end_adopted
from worker_agent.results.finish import Ending, finish
from worker_agent.tries import Tries, part_unused
from worker_agent.watch import Watch
from worker_agent.worker import Worker
from worker_agent.workspaces import RunRoom, Workspace

GRACE_VARIABLE = "RCH_WORKER_KILL_GRACE"
DEFAULT_GRACE_SECONDS = 5.0
_LOCK_LOOK_SECONDS = 0.02
_SIMULATED = "simulated: stand-in tools, no verdict"
# How a tool may end whose products are of use: by itself, or by what it can answer in an orderly way.
_SOFT_ENDS = frozenset({None, signal.SIGINT, signal.SIGTERM})


class Execution:
    """What is done and what came of it."""

    def __init__(self, worker: Worker, life: Life) -> None:
        self._worker = worker
        self._life = life
        self._job = job = life.request.job
        self._began = time.monotonic()
        self._watch = Watch(
            job, life.request.lease_id, jobs=worker.jobs, leases=worker.leases, began=self._began
        )
        self._cache = cache_config(job)
        own_build = self._cache.own_build
        self._layout = worker.jobs.layout(job.job_id, job.run_id, life.attempt, own_build=own_build)
        self._workspace = self._workspace_of()
        self._caches: JobCaches | None = None
        self._ended = life.over
        self._failure: Failure | None = None
        self._tries: Tries | None = None
        self._truncated = False
        self._stages: dict[str, int] = {}

    # --- running ----------------------------------------------------------------------

    def run(self) -> None:
        """Execute. What goes wrong on our side is kept and told by the summary."""
        adopt_orphans()
        try:
            self._make_folders()
            if self._enter():
                self._run_in()
        except Failure as failure:
            self._failure = failure
        except OSError as error:
            subkind = "NO_SPACE" if is_no_space(error) else None
            self._failure = Failure(
                Kind.EXECUTOR, f"the job could not go on: {error.strerror}", subkind=subkind
            )
        except Exception as error:  # noqa: BLE001  (whatever it is, the job comes to an end)
            note_trace()
            self._failure = Failure(Kind.EXECUTOR, f"rch-worker failed: {type(error).__name__}")
        finally:
            self._settle()

    def _make_folders(self) -> None:
        for number in range(1, self._life.attempt):
            remove_tree(self._worker.jobs.attempt_folder(self._job.job_id, number))
        for folder in (self._layout.artifacts, self._layout.scratch, self._layout.tmp):
            make_dirs(folder)

    def _workspace_of(self) -> Workspace:
        """Where the job is to work; `fresh` after an execution that was lost."""
        fresh = self._life.attempt > 1
        if self._cache.workspace == "warm":
            from worker_agent.slots import SlotRoom

            return SlotRoom(self._worker, self._job, self._cache, fresh=fresh)
        return RunRoom(self._worker.paths, self._job.run_id, fresh=fresh)

    def _enter(self) -> bool:
        """Have a tree to ourselves; False if the job is ended before that."""
        while self._look() is None:
            if self._workspace.enter():
                return True
            self._workspace = self._workspace.otherwise()
            time.sleep(_LOCK_LOOK_SECONDS)
        return False

    def _run_in(self) -> None:
        log = BuildLog(self._layout.log, self._worker.config.max_log_bytes)
        events = EventFile(self._layout.events, now)
        try:
            if self._worker.simulated:
                events.write("note", {"text": _SIMULATED, "simulated": True})
            for told in self._losses():
                events.write("note", {"text": told})
            if self._enter_caches(log, events):
                self._prepare(events)
                self._run_tries(log, events)
        finally:
            events.close()
            log.close()
            self._truncated = log.truncated

    def _enter_caches(self, log: BuildLog, events: EventFile) -> bool:
        """Have the caches that the job uses, and with them its folders; False if it is ended before."""

        def tell(text: str) -> None:
            log.write(f"[rch-worker: {text}]\n".encode())
            events.write("note", {"text": text})

        caches = self._caches = JobCaches(
            self._worker, self._job, self._cache, look=lambda: self._look() is not None, tell=tell
        )
        began = time.monotonic()
        entered = caches.enter()
        if caches.waits:
            self._stages["cache_wait"] = int((time.monotonic() - began) * 1000)
        build = self._layout.build if self._cache.own_build else caches.build or self._workspace.build
        self._layout = replace(self._layout, tree=self._workspace.tree, build=build, spm=caches.spm)
        return entered

    def _prepare(self, events: EventFile) -> None:
        """Have the source in the tree."""
        stage, began = self._workspace.stage, time.monotonic()
        events.write("stage", {"name": stage, "state": "started"})
        try:
            self._workspace.prepare(self._job.job_key_inputs.source_sha256, self._worker.sources)
        finally:
            for told in self._workspace.notes:
                events.write("note", {"text": told})
        self._layout.build.mkdir(exist_ok=True)
        self._stages[stage] = int((time.monotonic() - began) * 1000)
        events.write("stage", {"name": stage, "state": "ended", "ms": self._stages[stage]})

    def _run_tries(self, log: BuildLog, events: EventFile) -> None:
        self._tries = Tries(
            self._worker,
            self._life,
            self._layout,
            look=self._look,
            end=self._end,
            idle=self._watch.idle_seconds,
            grace=_grace(self._worker.env),
        )
        self._tries.run(log, events)

    def _settle(self) -> None:
        """Let others build on what the job leaves, if nothing changes it now and no tool was torn down.

        What is not settled is thrown away by whoever comes next.
        """
        if self._failure is not None or not (
            self._worker.jobs.end_leftovers(self._job.job_id) and end_adopted()
        ):
            return
        if self._tries and any(phase.term_signal not in _SOFT_ENDS for phase in self._tries.phases):
            return
        with suppress(OSError):
            self._workspace.settle()
        with suppress(OSError):
            if self._caches is not None:
                self._caches.settle()

    def _look(self) -> EndedByUs | None:
        """Why the job is to end; what comes from outside is a state of its own."""
        if self._ended is None and (stop := self._watch.look()) is not None:
            self._ended = EndedByUs(stop.reason)
            if stop.requested:
                self._life.request_cancel()
        return self._ended

    def _end(self, found: EndedByUs | None) -> None:
        """What a phase was ended for."""
        self._ended = self._ended or found

    # --- ending -----------------------------------------------------------------------

    def seal(self) -> JobStateRecord:
        """Write every remaining file and the commit marker; gives the terminal state.

        May be called again after an `OSError`: what an earlier sealing wrote is removed first.
        """
        make_dirs(self._layout.artifacts)
        _keep_only(self._layout.artifacts, {"build.log", "events.jsonl"})
        tries = self._tries
        earlier = tries.earlier if tries else []
        sealed = finish(
            tries.layout if tries else self._layout,
            self._life.request,
            Ending(
                phases=tuple(tries.phases) if tries else (),
                ended=self._ended,
                state=self._life.state,
                attempts=self._life.attempt + len(earlier),
                duration_ms=int((time.monotonic() - self._began) * 1000),
                log=tries.reader.facts() if tries else None,
                failure=self._failure,
                env=tries.env if tries else {},
                stages_ms={**self._stages, **(tries.stages if tries else {})},
                counts=self._workspace.counts,
                log_truncated=self._truncated,
                lost=(*self._losses(), *earlier),
                part=tries.part if tries else partial(part_unused, self._worker, self._life),
            ),
            worker_name=self._worker.config.name or os.uname().nodename,
            capabilities=self._worker.capabilities(),
            now=now,
            seed=bytes.fromhex(self._worker.key.seed),
        )
        return sealed.state

    def _losses(self) -> tuple[str, ...]:
        """The executions before this one that were lost, each in a sentence."""
        return tuple(
            f"execution {loss.number} was lost"
            f" ({'the worker restarted' if loss.rebooted else 'its supervisor ended'}),"
            f" found at {loss.found}"
            for loss in self._life.lost
        )

    def make_room(self, *, no_space: bool) -> None:
        """Give up all that is not the set, for a disk that did not take it; the job has failed by that."""
        if self._failure is None:
            subkind = "NO_SPACE" if no_space else None
            self._failure = Failure(Kind.EXECUTOR, "the artifacts could not be written", subkind=subkind)
        self.clean_up()
        if self._caches is not None:
            self._caches.discard()
        if self._cache.own_build:
            remove_tree(self._layout.build)
        self._workspace.discard()

    def leave(self) -> None:
        """Let others have workspace and caches: our processes are gone, and the set is sealed."""
        self._workspace.release()
        if self._tries is not None:
            self._tries.leave()
        if self._caches is not None:
            self._caches.release()

    def clean_up(self) -> None:
        """Remove what the tools alone needed."""
        for folder in (self._layout.scratch, self._layout.tmp):
            remove_tree(folder)


def _grace(env: Mapping[str, str]) -> float:
    """Seconds between INT, TERM and KILL."""
    try:
        return float(env.get(GRACE_VARIABLE, ""))
    except ValueError:
        return DEFAULT_GRACE_SECONDS


def _keep_only(folder: Path, names: set[str]) -> None:
    for entry in folder.iterdir():
        if entry.name not in names:
            remove_tree(entry)
