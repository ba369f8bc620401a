"""What of a run is worth a commit and news of its own."""

from __future__ import annotations

from rchd.core import model as m


def durable(run: m.Run) -> tuple[object, ...]:
    """Where this differs the run has changed; a tail's cursor is no change."""
    phase = run.phase
    shown: object = (type(phase), getattr(phase, "step", None)) if isinstance(phase, m.Following) else phase
    steps = tuple((s.state, s.seq, s.summary is not None, s.followed, s.resubmitted) for s in run.steps)
    return (
        run.state,
        run.seq,
        shown,
        steps,
        run.cancel,
        run.waiting,
        run.hold,
        run.chosen,
        len(run.warnings),
    )
