"""A job's phases in its workspace, and once more after trouble of the place (spec sections 4, 9, 11).

`run.retry_infrastructure` allows one more try of a job whose runner, simulator or build database
failed it: inside the same execution and under the same id, with a result bundle of its own, never
for failed tests. The log keeps both; the verdict rests on the last one alone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rch.contract.errors import Failure, Kind
from rch.contract.records import Job
from rch.files.durable import make_dirs, remove_tree
from worker_agent.backends import backend_for
from worker_agent.backends.config import config_of
from worker_agent.backends.env import job_env
from worker_agent.buildfiles import BuildLog, EventFile
from worker_agent.life import Life
from worker_agent.model import EndedByUs, JobLayout, Parted, Phase, PhaseExit
from worker_agent.output import JobOutput
from worker_agent.processes import end_adopted, own_group
from worker_agent.results.buildlog import LogReader
from worker_agent.results.facts import Facts, how
from worker_agent.results.finish import Ending, gather
from worker_agent.results.sources import sources_of
from worker_agent.results.verdict import decide
from worker_agent.runner import PhaseRunner, Rules
from worker_agent.simctl import Simctl
from worker_agent.simulators import JobSimulator, is_ephemeral, runs_on_simulator, sweep_simulators
from worker_agent.worker import Worker

INFRASTRUCTURE = "INFRASTRUCTURE"
_LOOK_SECONDS = 0.1
_NOT_IN_TIME = EndedByUs("BOOT")


class Tries:
    """What is run for one execution, and what came of the last try.

    `look` says why the job is to end, `end` takes what a phase found out of that; `idle` and `grace`
    are as of `Rules`.
    """

    def __init__(
        self,
        worker: Worker,
        life: Life,
        layout: JobLayout,
        *,
        look: Callable[[], EndedByUs | None],
        end: Callable[[EndedByUs | None], None],
        idle: float,
        grace: float,
    ) -> None:
        self.layout = layout
        self.phases: list[PhaseExit] = []
        self.earlier: list[str] = []
        self.stages: Counter[str] = Counter()
        self._worker = worker
        self._life = life
        self._job = job = life.request.job
        self._look = look
        self._end = end
        self._rules = Rules(look=look, idle=idle, grace=grace)
        self._backend = backend_for(job)
        toolchain = job.job_key_inputs.toolchain
        self.env = job_env(
            worker.env,
            tmp=layout.tmp,
            toolchain_dir=toolchain.get("toolchain_dir"),
            developer_dir=toolchain.get("developer_dir"),
            programs=None if worker.apple is None else Path(worker.apple.root) / "bin",
            pass_env=worker.config.pass_env,
        )
        self.reader = self._reader()
        self._simulator: JobSimulator | None = None
        if runs_on_simulator(job):
            simctl = Simctl.of(worker.apple, self.env, layout.tree)
            self._simulator = JobSimulator(worker, job, simctl)

    def run(self, log: BuildLog, events: EventFile) -> None:
        """Every try; `Failure` where the last one came to no phase that could tell."""
        most = 1 + retries_of(self._job)
        if self._simulator is not None:
            sweep_simulators(self._worker)
        try:
            for number in range(1, most + 1):
                why, failure = self._once(log, events, last=number == most)
                if why is None or number == most or self._look() is not None:
                    break
                self._begin_anew(number, why, log, events)
        finally:
            if self._simulator is not None and self._look() is not None:
                self._simulator.shut_down()
        if failure is not None:
            raise failure

    def _once(self, log: BuildLog, events: EventFile, *, last: bool) -> tuple[str | None, Failure | None]:
        """One try: what troubled it if another may do better, and a failure that is the worker's own."""
        try:
            if self._have_simulator():
                self._run_phases(log, events)
        except Failure as failure:
            return (failure.message if failure.subkind == INFRASTRUCTURE else None), failure
        return (None if last else self._trouble()), None

    def _trouble(self) -> str | None:
        """Why this try is worth another; None if it is not."""
        if not self.phases or self.phases[-1].ok or self._look() is not None:
            return None
        ending = Ending(
            phases=tuple(self.phases),
            ended=None,
            state=self._life.state,
            attempts=1,
            duration_ms=0,
            log=self.reader.facts(),
            env=self.env,
        )
        sources = sources_of(self._job, self.layout, self.env)
        facts = gather(self.layout, self._life.request, ending, sources)
        return trouble_in(facts)

    def _begin_anew(self, number: int, why: str, log: BuildLog, events: EventFile) -> None:
        """Put a try on record and leave nothing of it that the next one might find."""
        told = f"attempt {number} ended as {INFRASTRUCTURE}: {why}"
        self.earlier.append(told)
        self.stages["earlier_attempts"] += sum(phase.duration_ms for phase in self.phases)
        log.write(f"\n[rch-worker: {told}; attempt {number + 1} begins]\n".encode(errors="replace"))
        events.write("note", {"text": f"{told}; attempt {number + 1} begins"})
        if self._simulator is not None:
            self._simulator.renew()
        scratch = self.layout.scratch
        for entry in scratch.iterdir():
            remove_tree(entry)
        self.layout = replace(self.layout, scratch=scratch / f"attempt-{number + 1}", udid=None)
        make_dirs(self.layout.scratch)
        self.phases, self.reader = [], self._reader()

    # --- the phases -------------------------------------------------------------------

    def _run_phases(self, log: BuildLog, events: EventFile) -> None:
        for phase in self._backend.phases(self._job, self.layout):
            if phase.name == "test":
                self._boot(log, events)
            if self._look() is not None:
                return
            output = JobOutput(log, events, self.reader, self.env)
            events.write("stage", {"name": phase.name, "state": "started"})
            self.reader.begin(phase.name)
            result, ended = self._process(phase, self._rules, output)
            self.phases.append(result)
            self._end(ended)
            output.close(ended)
            events.write("stage", {"name": phase.name, "state": "ended", "ms": result.duration_ms})
            if ended is not None or not result.ok:
                return

    def _process(self, phase: Phase, rules: Rules, output: JobOutput) -> tuple[PhaseExit, EndedByUs | None]:
        """Run one process to the end of its whole group."""
        jobs, job_id = self._worker.jobs, self._job.job_id
        runner = PhaseRunner(phase, self.env, rules, output.take)
        try:
            result = runner.run(
                lambda: jobs.write_group(job_id, own_group(self.layout.tmp)), lambda: jobs.group(job_id)
            )
        finally:
            jobs.end_leftovers(job_id)
            end_adopted()
        return result, runner.ended

    def _reader(self) -> LogReader:
        return LogReader(self.layout.tree, self.layout.build, tool=self._backend.name)

    # --- the simulator ----------------------------------------------------------------

    def _have_simulator(self) -> bool:
        """Have the job's simulator, if it runs on one; False if the job is ended before."""
        if self._simulator is None:
            return True
        while self._look() is None:
            if self._simulator.take():
                self.layout = replace(self.layout, udid=self._simulator.udid)
                return True
            time.sleep(_LOOK_SECONDS)
        return False

    def _boot(self, log: BuildLog, events: EventFile) -> None:
        """Boot it, in a time of its own; what `simctl` says is in the log and no evidence."""
        phase = self._simulator.boot(self.layout.tree) if self._simulator else None
        if phase is None or self._simulator is None or self._look() is not None:
            return
        seconds = self._worker.config.boot_seconds
        deadline = time.monotonic() + seconds

        def look() -> EndedByUs | None:
            return self._look() or (_NOT_IN_TIME if time.monotonic() > deadline else None)

        output = JobOutput(log, events, self._reader(), self.env)
        rules = replace(self._rules, look=look, idle=seconds + 1.0)
        result, ended = self._process(phase, rules, output)
        self.stages[phase.name] += result.duration_ms
        if ended is _NOT_IN_TIME:
            output.close(None)
            raise self._simulator.not_booted(f"it had {seconds} s")
        self._end(ended)
        output.close(ended)
        if ended is None and not result.ok:
            raise self._simulator.not_booted(output.last_line or how(result))

    def part(self) -> Parted:
        """Give up what was made for the job; what is told of its simulator."""
        return Parted() if self._simulator is None else self._simulator.part()

    def leave(self) -> None:
        """Let others have what was there before."""
        if self._simulator is not None:
            self._simulator.release()


def trouble_in(facts: Facts) -> str | None:
    """Why the verdict is that the place is broken; None for any other, and where a test failed beside it.

    Another try would put such a failure off the record.
    """
    decision = decide(facts)
    broken = decision.kind is Kind.EXECUTOR and decision.subkind == INFRASTRUCTURE
    return decision.why if broken and not facts.failed_tests else None


def part_unused(worker: Worker, life: Life) -> Parted:
    """Delete the simulator that a lost execution made for a job which is not executed again."""
    job = life.request.job
    if not is_ephemeral(job):
        return Parted()
    toolchain = job.job_key_inputs.toolchain
    env = {key: worker.env[key] for key in ("HOME", "PATH", "TMPDIR") if key in worker.env}
    developer = {"DEVELOPER_DIR": toolchain.get("developer_dir", "")}
    return JobSimulator(worker, job, Simctl.of(worker.apple, {**env, **developer})).part()


def retries_of(job: Job) -> int:
    """`run.retry_infrastructure`: 0 or 1 more tries."""
    run = config_of(job).get("run")
    value = run.get("retry_infrastructure") if isinstance(run, dict) else 0
    return min(1, value) if isinstance(value, int) and value > 0 else 0
