"""A replay told phase by phase: probe, reserve, upload, submit, tail, fetch, release."""

from __future__ import annotations

import msgspec

from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core.difference import Difference

PHASES = ("probe", "reserve", "upload", "submit", "tail", "fetch", "release")
_ASKED: dict[type[fx.Effect], str] = {
    fx.Probe: "probe",
    fx.Reserve: "reserve",
    fx.HasSource: "upload",
    fx.Upload: "upload",
    fx.Submit: "submit",
    fx.Tail: "tail",
    fx.Fetch: "fetch",
    fx.Publish: "fetch",
    fx.Release: "release",
}
_ANSWERED: dict[type[ev.Event], str] = {
    ev.Probed: "probe",
    ev.Reserved: "reserve",
    ev.SourceKnown: "upload",
    ev.Uploaded: "upload",
    ev.Submitted: "submit",
    ev.TailNews: "tail",
    ev.Fetched: "fetch",
    ev.FetchRefused: "fetch",
    ev.Published: "fetch",
    ev.Released: "release",
}
_BY_OPERATION = {"hassource": "upload", "upload_source": "upload", "publish": "fetch"}


class Phase(msgspec.Struct, kw_only=True):
    """What the core asked for in a phase, what answered, what said no or was cut; where it differs."""

    asked: int = 0
    answered: int = 0
    refused: int = 0
    cut: int = 0
    differs: int = 0


class Phases:
    """Counts while a transcript is replayed; a difference counts where it is met."""

    def __init__(self) -> None:
        self.of = {name: Phase() for name in PHASES}
        self._now = "probe"

    def __call__(
        self, events: tuple[ev.AnyEvent, ...], effects: list[fx.Effect], found: list[Difference], /
    ) -> None:
        """One batch."""
        for event in events:
            self._event(event)
        if found:
            self.of[self._now].differs += len(found)
        for effect in effects:
            if (name := _ASKED.get(type(effect))) is not None:
                self.of[name].asked += 1
                self._now = name

    def _event(self, event: ev.AnyEvent) -> None:
        if isinstance(event, ev.WorkerRefused | ev.LineCut):
            name = _BY_OPERATION.get(event.operation, event.operation)
            if name in self.of:
                self._now = name
                phase = self.of[name]
                phase.refused += isinstance(event, ev.WorkerRefused)
                phase.cut += isinstance(event, ev.LineCut)
        elif (name := _ANSWERED.get(type(event), "")) in self.of:
            self.of[name].answered += 1
            self._now = name
