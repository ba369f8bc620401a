"""One execution of a job: unpack, run the phases, seal what they left (spec sections 4, 8, 11)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from rch.config.redact import is_secret
from rch.contract.errors import Failure, Kind
from rch.contract.records import JobStateRecord
from rch.files.durable import is_no_space, make_dirs, remove_tree
from worker_agent.backends import backend_for
from worker_agent.backends.env import job_env
from worker_agent.buildfiles import BuildLog, EventFile, Redactor
from worker_agent.cache_keys import cache_config
from worker_agent.caches import JobCaches
from worker_agent.clock import now
from worker_agent.life import Life, note_trace
from worker_agent.model import EndedByUs, Phase, PhaseExit
from worker_agent.processes import adopt_orphans, end_adopted, own_group
from worker_agent.results.buildlog import LogReader
from worker_agent.results.finish import Ending, finish
from worker_agent.results.logfacts import Happening
from worker_agent.runner import PhaseRunner, Rules
from worker_agent.watch import Watch
from worker_agent.worker import Worker
from worker_agent.workspaces import RunRoom, Workspace

GRACE_VARIABLE = "RCH_WORKER_KILL_GRACE"
DEFAULT_GRACE_SECONDS = 5.0
_LOCK_LOOK_SECONDS = 0.02
_SHORTEST_SECRET = 4
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
        self._phases: list[PhaseExit] = []
        self._reader: LogReader | None = None
        self._truncated = False
        self._env: dict[str, str] = {}
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
            for told in self._losses():
                events.write("note", {"text": told})
            if self._enter_caches(log, events):
                self._prepare(events)
                self._run_phases(log, events)
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
        if caches.build is not None:
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

    def _run_phases(self, log: BuildLog, events: EventFile) -> None:
        self._env = job_env(
            self._worker.env,
            toolchain_dir=self._job.job_key_inputs.toolchain.get("toolchain_dir", ""),
            tmp=self._layout.tmp,
            pass_env=self._worker.config.pass_env,
        )
        backend = backend_for(self._job)
        reader = self._reader = LogReader(self._layout.tree, self._layout.build, tool=backend.name)
        for phase in backend.phases(self._job, self._layout):
            if self._look() is not None:
                return
            output = _Output(log, events, reader, self._env)
            events.write("stage", {"name": phase.name, "state": "started"})
            reader.begin(phase.name)
            result = self._run_phase(phase, output)
            self._phases.append(result)
            output.close(self._ended)
            events.write("stage", {"name": phase.name, "state": "ended", "ms": result.duration_ms})
            if self._ended is not None or not result.ok:
                return

    def _settle(self) -> None:
        """Let others build on what the job leaves, if nothing changes it now and no tool was torn down.

        What is not settled is thrown away by whoever comes next.
        """
        if self._failure is not None or not (
            self._worker.jobs.end_leftovers(self._job.job_id) and end_adopted()
        ):
            return
        if any(phase.term_signal not in _SOFT_ENDS for phase in self._phases):
            return
        with suppress(OSError):
            self._workspace.settle()
        with suppress(OSError):
            if self._caches is not None:
                self._caches.settle()

    def _run_phase(self, phase: Phase, output: _Output) -> PhaseExit:
        jobs, job_id = self._worker.jobs, self._job.job_id
        rules = Rules(look=self._look, idle=self._watch.idle_seconds, grace=_grace(self._worker.env))
        runner = PhaseRunner(phase, self._env, rules, output.take)
        try:
            return runner.run(
                lambda: jobs.write_group(job_id, own_group(self._layout.tmp)), lambda: jobs.group(job_id)
            )
        finally:
            self._ended = runner.ended
            jobs.end_leftovers(job_id)
            end_adopted()

    def _look(self) -> EndedByUs | None:
        """Why the job is to end; what comes from outside is a state of its own."""
        if self._ended is None and (stop := self._watch.look()) is not None:
            self._ended = EndedByUs(stop.reason)
            if stop.requested:
                self._life.request_cancel()
        return self._ended

    # --- ending -----------------------------------------------------------------------

    def seal(self) -> JobStateRecord:
        """Write every remaining file and the commit marker; gives the terminal state.

        May be called again after an `OSError`: what an earlier sealing wrote is removed first.
        """
        make_dirs(self._layout.artifacts)
        _keep_only(self._layout.artifacts, {"build.log", "events.jsonl"})
        sealed = finish(
            self._layout,
            self._life.request,
            Ending(
                phases=tuple(self._phases),
                ended=self._ended,
                state=self._life.state,
                attempts=self._life.attempt,
                duration_ms=int((time.monotonic() - self._began) * 1000),
                log=self._reader.facts() if self._reader else None,
                failure=self._failure,
                env=dict(self._env),
                stages_ms=self._stages,
                counts=self._workspace.counts,
                log_truncated=self._truncated,
                lost=self._losses(),
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
        if self._caches is not None:
            self._caches.release()

    def clean_up(self) -> None:
        """Remove what the tools alone needed."""
        for folder in (self._layout.scratch, self._layout.tmp):
            remove_tree(folder)


class _Output:
    """The way of a phase's bytes: secrets out, into the log, read for what they say."""

    def __init__(self, log: BuildLog, events: EventFile, reader: LogReader, env: Mapping[str, str]) -> None:
        self._log = log
        self._events = events
        self._reader = reader
        secrets = (value for key, value in env.items() if is_secret(key, value))
        self._redactor = Redactor(os.fsencode(value) for value in secrets if len(value) >= _SHORTEST_SECRET)

    def take(self, data: bytes) -> None:
        """Bytes as they come from the pipe; they are in the log on return."""
        self._happened(self._reader.feed(self._log.write(self._redactor.feed(data))))

    def close(self, ended: EndedByUs | None) -> None:
        """The end of the phase; the log of a job that we ended says so itself."""
        self._happened(self._reader.feed(self._log.write(self._redactor.flush(), final=True)))
        self._happened(self._reader.end())
        if ended is not None:
            self._log.write(f"\n[rch-worker: the job was ended: {ended.reason}]\n".encode(), final=True)

    def _happened(self, found: list[Happening]) -> None:
        for happening in found:
            self._events.write(happening.type, happening.data)


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
