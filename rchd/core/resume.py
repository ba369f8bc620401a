"""How a run goes on after a start (spec section 4): restart, crash and upgrade are one path.

What runs at a worker is followed and fetched at once: that needs no lease, and no leave. What is
still to be handed over waits for a probe: the worker may have become another one meanwhile.
"""

from __future__ import annotations

from rch.contract.errors import Failure, Kind
from rch.contract.ids import timestamp
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core import step as steps
from rchd.core.ask import ask, go, is_renewed, renew
from rchd.core.cancel import carry_out_cancel
from rchd.core.ends import leave
from rchd.core.holds import candidate, offered, reconsidered
from rchd.core.select import drifted
from rchd.core.trouble import line_cut
from rchd.core.upkeep import job_timers, renewal_timer, wait_timer

Effects = list[fx.Effect]


def resume(run: m.Run, at: float) -> Effects:
    """Go on where the persisted phase stands; every effect is idempotent."""
    effects: Effects = []
    if isinstance(run.phase, m.Waiting | m.Selecting | m.Reserving | m.Coalescing):
        effects.append(wait_timer(run))
    else:
        run.resumed_at = timestamp(at)
    run.unchecked = not isinstance(run.phase, m.Waiting | m.Selecting | m.Coalescing)
    if run.lease is not None and is_renewed(run) and run.choice is not None:
        # It may have run out meanwhile: within its grace the same run is given it again.
        effects += [renew(run), renewal_timer(run, run.lease.ttl_seconds)]
    run.phase = _taken_up(run)
    if isinstance(run.phase, m.Following):
        effects += job_timers(run, run.phase.step)
    if run.cancel is not None:
        return effects + carry_out_cancel(run, timestamp(at), resumed=True)
    run.tries = 0
    run.op += 1
    return effects + ask(run)


def _taken_up(run: m.Run) -> m.AnyPhase:
    """The phase in which the run goes on; a cancelled one goes its own way from where it was."""
    match run.phase:
        case m.Following(step=step, unsure=unsure):
            # How much of the log lies here is the edge's own memory: it is read anew, over the same bytes.
            return m.Following(step=step, unsure=unsure)
        case m.Waiting() | m.Selecting() | m.Coalescing():
            return m.Waiting(reason="the daemon was started again")
        case m.Reserving() if isinstance(offered(candidate(run, run.phase).probe), m.Unleased):
            return m.Waiting(reason="the daemon was started again")
        case m.Reserving():
            # It may have been granted: the same run is given the same lease again, and can give it back.
            return run.phase
        case _ if run.cancel is not None:
            return run.phase
        case m.Submitting(step=step):
            # It may have arrived, and then the job runs, or has ended: its log says so.
            return m.Following(step=step, unsure=True)
        case m.CheckingSource() | m.Uploading():
            return m.Rechecking()
        case m.Rereserving(step=step):
            return m.Rechecking(step=step)
        case _:
            return run.phase


def rechecked(run: m.Run, phase: m.Rechecking, event: ev.Probed, now: str) -> Effects:
    """The worker was asked what it is now."""
    choice = run.choice
    if choice is None:
        raise AssertionError("a run without a worker has none to ask again")
    report = next((each for each in event.reports if each.worker == choice.worker), None)
    if report is None or report.result is None:
        return line_cut(run, _unanswered(choice.worker, report, event), now)
    drift = drifted(choice, report.result)
    if drift is not None:
        return _another(run, phase, drift, now)
    run.unchecked = False
    run.hold = reconsidered(run.hold, report.result)
    return go(run, m.CheckingSource() if phase.step is None else m.Submitting(step=phase.step))


def _unanswered(worker: str, report: ev.ProbeReport | None, event: ev.Probed) -> ev.LineCut:
    """A probe that failed is as a line that was cut; an entry that is gone may come back."""
    gone = f"worker {worker} is not in the inventory"
    return ev.LineCut(
        at=event.at,
        run_id=event.run_id,
        op=event.op,
        ms=event.ms,
        operation="probe",
        kind=report.error_kind or Kind.SSH if report else Kind.SSH,
        subkind=report.error_subkind if report else "UNREACHABLE",
        message=report.error or "no answer" if report else gone,
        hint=report.hint if report else "put it back into workers.toml",
    )


def _another(run: m.Run, phase: m.Rechecking, drift: Failure, now: str) -> Effects:
    """The worker is not what the plan says; never another one in mid-run."""
    run.trouble = m.Trouble(kind=drift.kind, subkind=drift.subkind, message=drift.message, hint=drift.hint)
    if phase.step is not None:
        steps.end_here(run, phase.step, run.trouble, now)
    return leave(run, now)
