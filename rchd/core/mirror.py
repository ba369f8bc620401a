"""Follows a worker's word of a job: forward, never back, and never without end (spec section 4, fault W7).

Each function gives what is wrong with the word, or None. A wrong word ends the step as
`PROTOCOL_ERROR`, and the worker is struck (`rchd.core.fleet`).
"""

from __future__ import annotations

from msgspec import UNSET

from rch.contract.states import JobState, can_mirror, is_terminal
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.ask import MAX_ARTIFACT_BYTES
from rchd.core.fit import may_be_served

MAX_LEAP = 1000
"""Transitions of a job between two words of it; it makes a dozen in its life."""
MAX_RISES = 32
"""Words of a job that name a higher `seq`: each is a row that all runs share the room for. A worker has two
transitions to tell of before the end, and the first of them anew when it has lost the job."""
MAX_RESETS = 8
"""How often a job's log may begin anew; it does with each execution, of which there are two."""
LOG_SLACK_BYTES = 1 << 20
"""What may stand in a log beyond the worker's limit: the line that says so, and a last piece."""


def mirror(step: m.StepRun, state: str, seq: int | None, now: str) -> str | None:
    """Take over the worker's `(state, seq)`, but not an end: that waits until the set is verified."""
    if state not in set(JobState):
        return f"the job's state {state[:80]!r} is not known"
    to = JobState(state)
    if step.over is not None and to != step.over:
        return f"the job's state went from {step.over} to {to}"
    if seq is None or step.state is None:
        return None
    last = max(step.seq, step.told)
    if seq < last:
        return f"the job's seq fell from {last} to {seq}"
    if seq > last + MAX_LEAP:
        return f"the job's seq leapt from {last} to {seq}"
    step.rises += seq > last
    if step.rises > MAX_RISES:
        return f"the job's seq rose {step.rises} times"
    step.told = seq
    if is_terminal(to):
        step.over = to
        return None
    if not can_mirror(step.state, step.seq, to, seq):
        return f"the job's state went from {step.state} with seq {step.seq} to {to} with seq {seq}"
    if seq > step.seq:
        step.state, step.seq, step.updated_at = to, seq, now
    return None


def log_trouble(run: m.Run, step: m.StepRun, event: ev.TailNews) -> str | None:
    """Whether the log grows beyond what the worker itself allows, or begins again and again."""
    step.resets += event.reset
    if step.resets > MAX_RESETS:
        return f"the job's log began anew {step.resets} times"
    most = max_log_bytes(run)
    size = event.log_offset + event.log_bytes
    if size > most + LOG_SLACK_BYTES:
        return f"the job's log has {size} bytes, over the {most} of its worker's own limit"
    return None


def max_log_bytes(run: m.Run) -> int:
    """How long a live log of this run may be; a worker that names no limit may fill a set with it."""
    told = 0 if run.choice is None else run.choice.capabilities.limits.max_log_bytes
    return min(told, MAX_ARTIFACT_BYTES) if told > 0 else MAX_ARTIFACT_BYTES


def end_trouble(run: m.Run, step: m.StepRun, event: ev.Fetched) -> str | None:
    """Whether a verified set fits what the worker said before, and what it was asked."""
    state, seq = event.state, event.seq
    if seq <= step.seq:
        return f"the job's end has seq {seq}, its state before had {step.seq}"
    if step.over is not None and (state != step.over or seq < step.told):
        return f"the job's end is {state} with seq {seq}, and was {step.over} with seq {step.told}"
    served = event.summary.cached_from_job_id is not UNSET
    if served and run.choice is not None and not may_be_served(run, run.choice):
        return "the result of another job, which nobody asked for, stands for the job"
    return None


def fell(run: m.Run, event: ev.Reserved) -> str | None:
    """Whether a lease came with a lower fence than the run's own: that rises, or stays."""
    if run.lease is None or event.fence >= run.lease.fence:
        return None
    return f"the fence of the run's lease fell from {run.lease.fence} to {event.fence}"
