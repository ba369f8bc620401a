"""A history may be gone on with among live runs: a core made from what is written down decides the same."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from replay.golden import SCENES
from support.playbook import Playbook, accepted, caching, summary, unreachable

from rch.contract.states import is_terminal
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.daemon import Core
from rchd.core.transcript import (
    Header,
    core_of,
    decode_batch,
    decode_header,
    encode_line,
    standing_header,
    take,
)

pytestmark = pytest.mark.spec("13")
WORKERS = ("mac", "mini")


def bytes_of(effects: list[Any]) -> list[bytes]:
    return [msgspec.json.encode(effect) for effect in effects]


def reread(header: Header) -> Header:
    return decode_header(encode_line(header))


@pytest.mark.parametrize("name", SCENES)
def test_from_any_moment_of_a_kept_history_on_another_core_decides_the_same(name: str) -> None:
    lines = SCENES[name]().lines
    core, others = core_of(decode_header(lines[0])), list[Core]()
    for line in lines[1:]:
        batch = decode_batch(line)
        for each in [core, *others]:
            assert bytes_of(take(each, batch.events)) == [bytes(effect) for effect in batch.effects]
        header = standing_header(core)
        assert (header is None) == core.is_asking
        if header is not None:
            others.append(core_of(reread(header)))
    assert len(others) > 2


class History(Playbook):
    """Runs that come, are answered and cancelled in any order, and cores that joined on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.shadows: list[Core] = []
        self.count = self.joined = self.refused = 0
        self.phases: set[str] = set()

    def feed(self, event: ev.AnyEvent) -> list[Any]:
        self.at += 0.25
        raw = msgspec.json.encode(event)
        self.effects = take(self.core, (event,))
        for shadow in self.shadows:
            copied = msgspec.json.decode(raw, type=type(event))
            assert bytes_of(take(shadow, (copied,))) == bytes_of(self.effects)
            assert shadow.memory == self.core.memory
        return self.effects

    def join(self) -> None:
        """Another core goes on from here."""
        header = standing_header(self.core)
        self.refused += header is None and not self.core.is_asking
        if header is not None:
            self.joined += 1
            self.shadows = [*self.shadows[-1:], core_of(reread(header))]
            self.phases |= {type(run.phase).__name__ for run in self.core.runs.values()}

    def come(self, draw: st.DataObject) -> None:
        """A run is accepted."""
        self.count += 1
        run = accepted(
            f"run-{self.count:08d}",
            results=draw.draw(st.booleans()),
            queue=draw.draw(st.sampled_from([True, True, True, False])),
            priority=draw.draw(st.sampled_from([100, 50])),
        )
        changes = {
            "origin": draw.draw(st.sampled_from(["terminal", "editor"])),
            "group": draw.draw(st.sampled_from([None, None, "g"])),
            "client_token": draw.draw(st.sampled_from([None, f"token-{self.count}"])),
            "supersede": False,
        }
        changes["supersede"] = changes["group"] is not None and draw.draw(st.booleans())
        run = msgspec.structs.replace(run, **changes)
        self.feed(ev.RunAccepted(at=self.at, accepted=run, reply=1))

    def go(self, run: m.Run, draw: st.DataObject) -> None:
        """What `run` awaits is answered, well or not."""
        ill = draw.draw(st.integers(0, 5)) == 0
        if isinstance(run.phase, m.Waiting | m.Coalescing | m.Ended):
            if isinstance(run.phase, m.Waiting) and run.phase.timer:
                self.feed(ev.TimerFired(at=self.at, run_id=run.run_id, name="busy", op=run.op))
        elif isinstance(run.phase, m.Selecting | m.Reserving):
            self.look(run, ill=ill)
        elif ill:
            gone = {"kind": "SSH", "subkind": "UNREACHABLE", "message": "gone"}
            self.answer(run, ev.LineCut, operation="tail", **gone)
        else:
            self.execute(run, draw)

    def look(self, run: m.Run, *, ill: bool) -> None:
        """A worker is looked for, or asked for a slot."""
        if isinstance(run.phase, m.Selecting):
            reports = tuple(unreachable(each) if ill else caching(each) for each in WORKERS)
            self.answer(run, ev.Probed, reports=reports, embedded=False)
        elif ill:
            busy = {"code": "BUSY", "kind": "WORKER_BUSY", "subkind": None, "retry_after": 2.0}
            self.answer(run, ev.WorkerRefused, operation="reserve", message="no slot", **busy)
        elif isinstance(run.phase, m.Reserving) and run.selection is not None:
            self.grant(run, run.selection.choices[run.phase.index].worker)

    def execute(self, run: m.Run, draw: st.DataObject) -> None:
        """The worker does what it is asked for."""
        match run.phase:
            case m.CheckingSource():
                self.answer(run, ev.SourceKnown, exists=draw.draw(st.booleans()))
            case m.Uploading():
                self.answer(run, ev.Uploaded)
            case m.Submitting():
                self.follow(run)
            case m.Following():
                over = draw.draw(st.booleans())
                self.news(run, "SUCCEEDED" if over else "RUNNING", 3 if over else 2, None if over else "c")
            case m.Fetching(step=step):
                told = {"summary": summary(run, step), "state": "SUCCEEDED", "seq": 3}
                self.answer(run, ev.Fetched, **told, updated_at="2023-11-14T22:13:30.000Z")
            case m.Publishing():
                self.answer(run, ev.Published, found=draw.draw(st.sampled_from([True, True, False])))
            case m.Releasing():
                self.answer(run, ev.Released)

    def cancel(self, run: m.Run) -> None:
        """Somebody does not want it any longer."""
        self.feed(ev.CancelAsked(at=self.at, run_id=run.run_id, reason="USER", reply=2))


def test_a_core_joins_while_runs_look_and_stand_aside_and_are_in_line() -> None:
    """What a history that is drawn may leave out."""
    play = History()
    equal = [play.accept(accepted(f"run-0000000{number}", results=True)) for number in range(3)]
    other = play.accept(accepted("run-00000003", results=False))
    for run in equal[:2]:
        for _ in range(2):
            play.join()
            play.look(run, ill=False)
    play.join()
    assert {type(run.phase) for run in (*equal, other)} == {
        m.CheckingSource,
        m.Coalescing,
        m.Selecting,
        m.Waiting,
    }
    for run in (*equal, other):
        play.cancel(run)
        play.join()
    assert play.phases >= {"Waiting", "Selecting", "Reserving", "Coalescing", "CheckingSource"}
    assert play.joined


def test_from_any_moment_of_any_history_on_another_core_decides_the_same() -> None:
    plays = list[History]()

    # Not made short: each history goes into the sum below.
    @settings(max_examples=35, deadline=None, phases=[Phase.generate])
    @given(st.data())
    def holds(draw: st.DataObject) -> None:
        play = History()
        for _ in range(draw.draw(st.integers(20, 60))):
            live = sorted(run_id for run_id, run in play.core.runs.items() if not is_terminal(run.state))
            act = draw.draw(
                st.sampled_from(["go"] * 8 + ["come", "come", "join", "join", "cancel", "timer"])
            )
            if act == "come" or not live:
                play.come(draw)
            elif act == "join":
                play.join()
            else:
                run = play.core.runs[draw.draw(st.sampled_from(live))]
                if act == "cancel":
                    play.cancel(run)
                elif act == "timer":
                    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=run.op))
                else:
                    play.go(run, draw)
        plays.append(play)

    holds()
    # Passing moments are left out: a slot that is being given back, for whose job another one waits.
    assert sum(play.refused for play in plays) * 10 < sum(play.joined for play in plays)
