"""What is known of the workers: the newest word of each, who is set aside, who could serve what.

Pure, bounded by the inventory, and but for drains not persisted: a start begins anew. A worker that
breaks the protocol `STRIKES` times in a row, or shows a wrong host key once, is given no new run until a
timer is over, twice as long each time; no clock is asked. What it can (its toolchains, its tags)
stays known while it is busy, unreachable, drained or set aside: that is what `servable` goes by.
Who is drained is told at the start and by whoever drains; `rchd/edges/drained.py` keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from rch.contract.errors import Kind
from rch.contract.ids import timestamp
from rch.contract.records import RunOptions, Summary
from rch.contract.states import NOBODY_ASKED, RunState
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core import select
from rchd.core.able import MAX_NEEDS, Able, Need, need_of, says_the_same
from rchd.core.ask import UNAWAITED
from rchd.core.mirror import fell

FLEET = "fleet"
"""Stands for a run's id where an effect or an event is no run's."""
STRIKES = 3
FIRST_ASIDE_SECONDS = 60.0
LONGEST_ASIDE_SECONDS = 1800.0
DOUBLINGS = 10
WRONG_KEY = "HOST_KEY"
BREAKS = {
    (Kind.SSH, WRONG_KEY),
    (Kind.EXECUTOR, "PROTOCOL_ERROR"),
    (Kind.ARTIFACTS, "INTEGRITY_MISMATCH"),
    (Kind.ATTESTATION, None),
}

Effects = list[fx.Effect]
Reach = frozenset[str]
"""The workers that a run may get."""


class Aside(msgspec.Struct, frozen=True, kw_only=True):
    """Why a worker is given no new run. `until` is for people: what the clock said, and the pause."""

    kind: str
    subkind: str | None
    message: str
    until: str
    number: int


class Servable(msgspec.Struct, frozen=True, kw_only=True):
    """`answer` is yes, no or unknown; `why` names what is missing, or who is not known."""

    answer: str
    why: str = ""


class Health(msgspec.Struct, kw_only=True):
    """`strikes` in a row, `times` set aside since the last success; `by_probe`: by probes alone."""

    mark: str = ""
    strikes: int = 0
    times: int = 0
    by_probe: bool = True
    aside: Aside | None = None


class FleetState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that a fleet remembers and cannot work out anew; what a transcript begins with."""

    reports: dict[str, ev.ProbeReport] = {}
    silent: tuple[str, ...] = ()
    health: dict[str, Health] = {}
    numbers: int = 0
    drained: dict[str, str] = {}


def breaks(run: m.Run) -> list[tuple[str, str | None, str]]:
    """Kind, subkind and message of the ends that the host made for a worker's worthless word."""
    ends = [step.summary for step in run.steps if step.summary is not None and step.host_made]
    told = [(end.failure_kind or "", _subkind(end), end.human_summary) for end in ends]
    return [each for each in told if each[:2] in BREAKS]


def _subkind(end: Summary) -> str | None:
    return end.failure_subkind if isinstance(end.failure_subkind, str) else None


def _asked(run: m.Run) -> str | None:
    """The worker whose answer `run` awaits."""
    if isinstance(run.phase, m.Reserving) and run.selection is not None:
        return run.selection.choices[run.phase.index].worker
    return run.worker


class Fleet:
    """The workers as the core knows them."""

    def __init__(self, state: FleetState | None = None) -> None:
        state = state or FleetState()
        self._reports = dict(state.reports)
        self._silent = set(state.silent)
        self._health = {name: msgspec.structs.replace(each) for name, each in state.health.items()}
        self._able = Able()
        self._verdicts: dict[Need, Servable] = {}
        self._reaches: dict[Need, Reach] = {}
        self._numbers = state.numbers
        self._drained = dict(state.drained)

    @property
    def state(self) -> FleetState:
        """A copy of what it remembers: another fleet goes on from it."""
        return FleetState(
            reports=dict(self._reports),
            silent=tuple(sorted(self._silent)),
            health={name: msgspec.structs.replace(each) for name, each in self._health.items()},
            numbers=self._numbers,
            drained=dict(self._drained),
        )

    # --- what it is told --------------------------------------------------------------

    def probed(self, reports: Iterable[ev.ProbeReport], at: float, *, whole: bool) -> Effects:
        """Take note of `reports`; `whole`: they are the whole inventory, and nobody else is kept."""
        effects: Effects = []
        seen = set[str]()
        news = False
        for report in reports:
            seen.add(report.worker)
            news |= self._keep(report)
            effects += self._judge(report, at)
        gone = self._reports.keys() - seen if whole else set[str]()
        for worker in gone:
            del self._reports[worker]
            self._able.forget(worker)
        if whole:
            for worker in self._health.keys() - seen:
                del self._health[worker]
            self._silent &= seen
        if news or gone:
            self._verdicts.clear()
            self._reaches.clear()
        return effects

    def _keep(self, report: ev.ProbeReport) -> bool:
        """The report; where the worker says nothing now, with what it said before. Whether it is news."""
        worker, before, silent = report.worker, self._reports.get(report.worker), report.result is None
        if silent and before is not None and before.mark == report.mark:
            report = msgspec.structs.replace(report, result=before.result)
        another = before is None or not says_the_same(before, report)
        fell_silent_or_woke = silent != (worker in self._silent)
        (self._silent.add if silent else self._silent.discard)(worker)
        self._reports[worker] = report
        if another:
            self._able.forget(worker)
        return another or fell_silent_or_woke

    def _judge(self, report: ev.ProbeReport, at: float) -> Effects:
        health = self._health.get(report.worker)
        if health is not None:
            another = health.mark not in {"", report.mark}
            mended = report.result is not None and report.fresh and health.by_probe
            if another or mended:
                del self._health[report.worker]
            else:
                health.mark = report.mark
        if not report.broken and report.error_subkind != WRONG_KEY:
            return []
        kind, message = report.error_kind or Kind.SSH, report.error or "no answer"
        return self.struck(report.worker, kind, report.error_subkind, message, at, by_probe=True)

    def struck(
        self,
        worker: str,
        kind: str,
        subkind: str | None,
        message: str,
        at: float,
        *,
        by_probe: bool = False,
    ) -> Effects:
        """The worker broke the protocol, or is not who it should be."""
        mark = self._reports[worker].mark if worker in self._reports else ""
        health = self._health.setdefault(worker, Health(mark=mark))
        health.strikes += 1
        health.by_probe = health.by_probe and by_probe
        at_once = subkind == WRONG_KEY or health.times > 0
        if health.aside is not None or not (at_once or health.strikes >= STRIKES):
            return []
        seconds = min(LONGEST_ASIDE_SECONDS, FIRST_ASIDE_SECONDS * 2.0 ** min(health.times, DOUBLINGS))
        health.times += 1
        self._numbers += 1
        health.aside = Aside(
            kind=kind,
            subkind=subkind,
            message=message,
            until=timestamp(at + seconds),
            number=self._numbers,
        )
        return [fx.StartTimer(run_id=FLEET, name=worker, seconds=seconds, op=self._numbers)]

    def heard(self, run: m.Run, event: ev.RunEvent) -> Effects:
        """What an answer that `run` got says of the worker that gave it."""
        match event:
            case ev.Probed():
                return self.probed(event.reports, event.at, whole=event.whole)
            case ev.Published(found=True) if event.op == run.op and run.worker:
                self.served(run.worker)
            case ev.Reserved(renewal=True) if run.state is RunState.RUNNING and (wrong := fell(run, event)):
                return self.struck_by(run, Kind.EXECUTOR, "PROTOCOL_ERROR", wrong, event.at)
            case ev.LineCut() if event.op in {run.op, UNAWAITED} and (worker := _asked(run)):
                if (event.kind, event.subkind) in BREAKS:
                    return self.struck(worker, event.kind, event.subkind, event.message, event.at)
        return []

    def struck_by(self, run: m.Run, kind: str, subkind: str | None, message: str, at: float) -> Effects:
        """The core itself found that what the worker of `run` says is not so."""
        return [] if run.worker is None else self.struck(run.worker, kind, subkind, message, at)

    def served(self, worker: str) -> None:
        """A job of this worker came back whole: what was before is forgotten."""
        self._health.pop(worker, None)

    def timer(self, event: ev.TimerFired) -> None:
        """A worker may be chosen again; its next break sets it aside at once, and for longer."""
        health = self._health.get(event.name)
        if health is not None and health.aside is not None and health.aside.number == event.op:
            health.aside = None

    def drain(self, worker: str, reason: str | None) -> None:
        """No new run for this worker, whatever it is asked; null: it may have them again."""
        self._drained.pop(worker, None)
        if reason is not None:
            self._drained[worker] = reason

    # --- what is asked of it ----------------------------------------------------------

    @property
    def known(self) -> int:
        """How many workers have ever been heard of, in whatever state."""
        return len(self._reports)

    def aside(self, worker: str) -> Aside | None:
        """Why this worker is set aside, if it is."""
        health = self._health.get(worker)
        return None if health is None else health.aside

    def agent(self, worker: str) -> str | None:
        """The version of its program, as it was last told."""
        report = self._reports.get(worker)
        return None if report is None or report.result is None else report.result.capabilities.agent_version

    def spared(self) -> dict[str, str]:
        """The workers that are not to be asked, and the mark of the entry for which this holds."""
        return {name: each.mark for name, each in sorted(self._health.items()) if each.aside and each.mark}

    def sparing(self, effect: fx.Effect) -> fx.Effect:
        """A probe for a new run leaves out who is set aside."""
        if not isinstance(effect, fx.Probe) or effect.worker is not None:
            return effect
        return msgspec.structs.replace(effect, aside=self.spared())

    def screened(self, reports: Iterable[ev.ProbeReport]) -> tuple[ev.ProbeReport, ...]:
        """The reports as a new run may see them: who is set aside has failed, who drains says so."""
        return tuple(self._marked(self._screened(report)) for report in reports)

    def _marked(self, report: ev.ProbeReport) -> ev.ProbeReport:
        if report.worker not in self._drained:
            return report
        return msgspec.structs.replace(report, drained=self._drained[report.worker])

    def _screened(self, report: ev.ProbeReport) -> ev.ProbeReport:
        aside = self.aside(report.worker)
        if report.error is not None or (aside is None and report.result is not None):
            return report
        if aside is None:
            # It was set aside when it would have been asked, and is not now: that is soon asked again.
            error = {"error": "not asked", "error_kind": Kind.SSH, "error_subkind": "UNREACHABLE"}
            return msgspec.structs.replace(report, **error)
        return msgspec.structs.replace(
            report,
            aside=True,
            result=None,
            error=f"set aside until {aside.until}: {aside.message}",
            error_kind=aside.kind,
            error_subkind=aside.subkind,
            hint=f"when it is mended: rchctl workers probe {report.worker}",
        )

    def servable(self, options: RunOptions) -> Servable:
        """Whether any worker could ever serve such a run; a busy or absent one that could, could."""
        need = need_of(options)
        if need not in self._verdicts:
            if len(self._verdicts) >= MAX_NEEDS:
                self._verdicts.clear()
            self._verdicts[need] = self._verdict(options, need)
        return self._verdicts[need]

    def _verdict(self, options: RunOptions, need: Need) -> Servable:
        if not self._reports:
            return Servable(answer="unknown", why=NOBODY_ASKED)
        if any(self._able.serves(options, need, report) for report in self._reports.values()):
            return Servable(answer="yes")
        selection = select.select(options, self._reports.values())
        why = select.nobody(selection, self._reports.values()).message
        # Who says nothing now may be another one when it is back.
        silent = any(select.may_serve(options, self._reports[name]) for name in self._silent)
        return Servable(answer="unknown" if silent else "no", why=why)

    def reach(self, options: RunOptions) -> Reach | None:
        """The workers that such a run may get, busy, silent or set aside; None: nobody was asked yet.

        Who says nothing now may be another one when it is back: the tags of its entry decide.
        """
        if not self._reports:
            return None
        need = need_of(options)
        if need not in self._reaches:
            if len(self._reaches) >= MAX_NEEDS:
                self._reaches.clear()
            able = {
                name for name, report in self._reports.items() if self._able.serves(options, need, report)
            }
            silent = {name for name in self._silent if select.may_serve(options, self._reports[name])}
            self._reaches[need] = frozenset(able | silent)
        return self._reaches[need]
