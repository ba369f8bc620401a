"""The runs that wait, by what they ask of a worker: who of them waits for what nobody has.

A run that no worker could ever serve is not kept until its turn to be told so. It fails as soon as
a probe that takes no old snapshot has shown it (fault W12). There is no pause before that: whatever
is missing is not there a few seconds later, and a user who mistyped a version wants to know now.
While one worker that might have it cannot be reached, nothing is settled and the run waits.
"""

from __future__ import annotations

from rch.contract.records import RunOptions
from rchd.core import effects as fx
from rchd.core import model as m
from rchd.core.able import Need, need_of
from rchd.core.ask import UNAWAITED
from rchd.core.fleet import FLEET, Fleet


class Needs:
    """Waiting runs by need: kept up run by run, looked at need by need."""

    def __init__(self) -> None:
        self._waiting: dict[Need, dict[str, RunOptions]] = {}
        self._asked: Need | None = None

    @property
    def is_asking(self) -> bool:
        """Whether an answer is awaited."""
        return self._asked is not None

    @property
    def waiting(self) -> tuple[str, ...]:
        """The runs that wait, need by need: told of them in this order another one stands as this does."""
        return tuple(run_id for waiting in self._waiting.values() for run_id in waiting)

    def update(self, run: m.Run) -> None:
        """Take note of what became of `run`."""
        options = run.accepted.options
        if isinstance(run.phase, m.Waiting):
            self._waiting.setdefault(need_of(options), {})[run.run_id] = options
            return
        need = need_of(options)
        waiting = self._waiting.get(need)
        if waiting is not None and waiting.pop(run.run_id, None) is not None and not waiting:
            del self._waiting[need]

    def settle(self, fleet: Fleet) -> list[fx.Effect]:
        """Ask the workers anew for what no worker has, for all that was last heard; one at a time."""
        if self._asked is not None:
            return []
        for need, waiting in self._waiting.items():
            options = next(iter(waiting.values()))
            if fleet.servable(options).answer == "no":
                self._asked = need
                return [_anew(options, fleet)]
        return []

    def answered(self) -> None:
        """The workers were asked in vain."""
        self._asked = None

    def given_up(self, fleet: Fleet) -> list[str]:
        """The runs that the answer leaves without hope, in the order in which they began to wait."""
        need, self._asked = self._asked, None
        waiting = {} if need is None else self._waiting.get(need, {})
        return [run_id for run_id, options in waiting.items() if fleet.servable(options).answer == "no"]


def _anew(options: RunOptions, fleet: Fleet) -> fx.Probe:
    """Ask the workers anew, for no run in particular."""
    return fx.Probe(
        run_id=FLEET,
        op=UNAWAITED,
        max_age=0,
        tags=options.tags,
        deadline=float(options.connect_timeout_seconds),
        aside=fleet.spared(),
        simulate=options.simulate,
    )
