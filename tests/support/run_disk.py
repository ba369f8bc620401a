"""What lies in the folder of a run as it goes on, and runs that have come to an end there."""

from __future__ import annotations

import msgspec
from support.playbook import Playbook, accepted

from rch.contract.records import JobStateRecord, encode_record
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.restore import Restored, restore


class Disk(Playbook):
    """Keeps what lies in the run's folder, the worker's sets included, and makes the run out anew."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}
        self.points: list[tuple[m.Run, Restored]] = []

    def feed(self, event: ev.AnyEvent) -> list[fx.Effect]:
        """As the playbook, and what is written is kept; `points` has the run, and what its files tell."""
        before = {run_id: run.phase for run_id, run in self.core.runs.items()}
        effects = super().feed(event)
        phase = before.get(event.run_id) if isinstance(event, ev.RunEvent) else None
        if isinstance(event, ev.Published) and isinstance(phase, m.Publishing):
            self._publish(self.core.runs[event.run_id], phase)
        if isinstance(event, ev.TailNews) and event.log_bytes and isinstance(phase, m.Following):
            job_id = self.core.runs[event.run_id].accepted.steps[phase.step].job_id
            self.files[f"host/{job_id}/live.log"] = b""
        for each in effects:
            if isinstance(each, fx.WriteRecord):
                self.files[each.path.partition("/")[2]] = each.data
        for run in self.core.runs.values():
            again = restore(run.run_id, self.files, embedded={"mac"} if run.embedded else ())
            copy = msgspec.json.decode(msgspec.json.encode(run), type=m.Run)
            self.points.append((copy, again))
        return effects

    def _publish(self, run: m.Run, phase: m.Publishing) -> None:
        step = run.steps[phase.step]
        assert step.job is not None
        place = f"steps/{step.job.action}/{step.job.job_id}"
        state = JobStateRecord(
            created_at=phase.end.summary.created_at,
            run_id=run.run_id,
            job_id=step.job.job_id,
            job_key=step.job.job_key,
            state=phase.end.state,
            seq=phase.end.seq,
            updated_at=step.updated_at or "",
        )
        set_ = {"job": step.job, "summary": phase.end.summary, "job_state": state}
        self.files |= {f"{place}/{name}.json": encode_record(record) for name, record in set_.items()}
        self.files |= {f"{place}/manifest.json": b"", f"{place}/job_index.json": b"{}"}


def succeeded(play: Playbook) -> m.Run:
    """Both steps are green."""
    run = play.accept(accepted())
    play.to_step(run)
    play.finish_step(run, 0)
    play.finish_step(run, 1)
    play.answer(run, ev.Released)
    return run


def first_failed(play: Playbook) -> m.Run:
    """The first step is red."""
    run = play.accept(accepted())
    play.to_step(run)
    play.finish_step(run, 0, "failed")
    play.answer(run, ev.Released)
    return run
