"""A core whose runs come one after another, and what its workers say."""

from __future__ import annotations

from typing import Any

from support.playbook import Playbook, accepted, report

from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.fleet import FLEET


def wrong_key(worker: str = "mac", mark: str = "m") -> ev.ProbeReport:
    return report(
        worker, mark=mark, result=None, error="another key", error_kind="SSH", error_subkind="HOST_KEY"
    )


def garbage(worker: str = "mac") -> ev.ProbeReport:
    return report(
        worker, mark="m", result=None, broken=True, error="no JSON", error_kind="EXECUTOR",
        error_subkind="PROTOCOL_ERROR",
    )  # fmt: skip


def good(worker: str = "mac", **changes: Any) -> ev.ProbeReport:
    return report(worker, **{"mark": "m", **changes})


class Fleet(Playbook):
    """A core whose runs come one after another."""

    count = 0

    def submit(self, *reports: ev.ProbeReport, **options: Any) -> m.Run:
        """A run comes and looks; the workers say this."""
        self.count += 1
        run = self.accept(accepted(f"run-{self.count:08d}", ("build",), **options))
        self.answer(run, ev.Probed, reports=reports, embedded=False)
        return run

    def breaks(self, *reports: ev.ProbeReport) -> m.Run:
        """A run whose worker answers a submit with garbage."""
        run = self.submit(*(reports or (good(),)))
        self.grant(run, self.one(fx.Reserve).target.worker)
        self.answer(run, ev.SourceKnown, exists=True)
        self.broken(run)
        self.answer(run, ev.Released)
        return run

    def broken(self, run: m.Run) -> None:
        members = {"kind": "EXECUTOR", "subkind": "PROTOCOL_ERROR", "message": "no JSON"}
        self.answer(run, ev.LineCut, operation="submit", **members)

    def aside(self, worker: str = "mac") -> bool:
        return self.core.fleet.aside(worker) is not None

    def pauses(self) -> list[float]:
        """How long workers were set aside, one after another."""
        timers = [each for each in self.all_effects if isinstance(each, fx.StartTimer)]
        return [timer.seconds for timer in timers if timer.run_id == FLEET]

    def pause_is_over(self, worker: str = "mac") -> None:
        timers = [each for each in self.all_effects if isinstance(each, fx.StartTimer)]
        timer = [each for each in timers if (each.run_id, each.name) == (FLEET, worker)][-1]
        self.feed(ev.TimerFired(at=self.at, run_id=FLEET, name=worker, op=timer.op))

    def probed(self, each: ev.ProbeReport) -> None:
        """Somebody looks after a worker."""
        self.feed(ev.WorkerProbed(at=self.at, report=each))
