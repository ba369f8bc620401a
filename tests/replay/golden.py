"""The kept transcripts: short histories that pin down what the core decides, to the byte.

`scripts/renew-transcripts` plays them anew. What then differs is what the core has changed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from support.playbook import Playbook, accepted, capabilities, report, summary, unleased, unreachable

from rch.contract.records import ToolchainEntry
from rch.contract.states import is_terminal
from rch.contract.worker_rpc import HeardProbe
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.daemon import Core
from rchd.core.transcript import encode_batch, encode_header
from rchd.edges.core_rows import decode_run, encode_run

HERE = Path(__file__).parent / "played"
RENEW = "if the change is meant: scripts/renew-transcripts, then read the diff"


class Recorded(Playbook):
    """A playbook whose events are batches of one, as the driver takes them."""

    def __init__(self, comment: str, *runs: m.Run, last_seq: int = 0, at: float | None = None) -> None:
        super().__init__()
        self.core = Core("/artifacts", runs, last_seq=last_seq)
        self.at = self.at if at is None else at
        self.lines = [encode_header(self.core, comment)]
        self.rows: dict[str, bytes] = {}

    def feed(self, event: ev.AnyEvent) -> list[fx.Effect]:
        """`>> event`, recorded."""
        effects = super().feed(event)
        self.lines.append(encode_batch([event], effects))
        for run in self.core.take_dirty():
            self.rows[run.run_id] = encode_run(run)
            if is_terminal(run.state):
                self.core.forget(run.run_id)
        return effects

    def fire(self, run: m.Run, name: str) -> None:
        """The timer of this name is over."""
        mine = (e for e in reversed(self.all_effects) if isinstance(e, fx.StartTimer))
        timer = next(e for e in mine if (e.run_id, e.name) == (run.run_id, name))
        self.at += timer.seconds
        self.feed(ev.TimerFired(at=self.at, run_id=run.run_id, name=name, op=timer.op))

    def trouble(self, run: m.Run, event: type[Any], operation: str, /, **members: Any) -> None:
        """A refusal or a cut line, in answer to what `run` awaits."""
        base: dict[str, Any] = {"operation": operation, "kind": "SSH", "subkind": None, "message": "gone"}
        self.answer(run, event, **{**base, **members})


def success() -> Recorded:
    """A run of two steps on a worker that has not its source yet."""
    play = Recorded("two steps succeed; the source is uploaded; the lease is renewed and given back")
    play.feed(ev.Started(at=play.at))
    run = play.accept(accepted())
    play.reserve(run)
    play.answer(run, ev.SourceKnown, exists=False)
    play.feed(
        ev.StageNews(at=play.at, run_id=run.run_id, stage="upload", done=450, total=900, unit="bytes")
    )
    play.answer(run, ev.Uploaded)
    play.fire(run, "renew")
    play.feed(
        ev.Reserved(
            at=play.at, run_id=run.run_id, op=-1, worker="mac", lease_id=f"lease-{run.run_id}",
            fence=1, ttl_seconds=90, renewal=True,
        )
    )  # fmt: skip
    play.finish_step(run, 0)
    play.finish_step(run, 1)
    play.answer(run, ev.Released)
    return play


def failure() -> Recorded:
    """The failures on the way to a red build."""
    play = Recorded(
        "one worker is down, one busy; a set is damaged on its way; a build fails, so its test is skipped"
    )
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(unreachable("far"), report("mac")), embedded=False)
    play.trouble(run, ev.WorkerRefused, "reserve", code="BUSY", kind="WORKER_BUSY", retry_after=2.0)
    play.fire(run, "busy")
    play.reserve(run)
    play.trouble(run, ev.LineCut, "hassource", subkind="UNREACHABLE")
    play.fire(run, "retry")
    play.answer(run, ev.SourceKnown, exists=True)
    play.follow(run)
    play.news(run, "RUNNING", 2, "c1")
    play.news(run, "FAILED", 3, None)
    play.answer(run, ev.FetchRefused, errors=("build.log: 3 bytes, not 4",))
    told = {"summary": summary(run, 0, "failed"), "state": "FAILED", "seq": 3}
    play.answer(run, ev.Fetched, **told, updated_at="2023-11-14T22:13:30.000Z")
    play.answer(run, ev.Published, found=True)
    play.answer(run, ev.Released)
    return play


def cancel() -> Recorded:
    """Two runs, the first of which is cancelled while it builds."""
    play = Recorded("a run that builds is cancelled and keeps its artifacts; a queued one ends at once")
    run = play.accept(accepted(actions=("build",)))
    play.to_step(run)
    play.follow(run)
    second = play.accept(accepted("run-00000002", actions=("build",)))
    play.feed(ev.CancelAsked(at=play.at, run_id=second.run_id, reason="SIGNAL", reply=2))
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER", reply=3))
    play.feed(ev.CancelNoted(at=play.at, run_id=run.run_id, op=-1, state="CANCEL_REQUESTED"))
    play.news(run, "CANCELLED", 4, None)
    told = {"summary": summary(run, 0, "cancelled"), "state": "CANCELLED", "seq": 4}
    play.answer(run, ev.Fetched, **told, updated_at="2023-11-14T22:13:30.000Z")
    play.answer(run, ev.Published, found=True)
    play.answer(run, ev.Released)
    return play


def resume() -> Recorded:
    """The daemon was killed while one run built and another waited."""
    before = Recorded("")
    run = before.accept(accepted())
    before.to_step(run)
    before.follow(run)
    before.news(run, "RUNNING", 2, "c1")
    before.accept(accepted("run-00000002", actions=("build",)))
    runs = [decode_run(row) for row in before.rows.values()]
    play = Recorded(
        "a start with a run that builds and one that waits: both go on to their end",
        *runs,
        last_seq=before.core.seq,
        at=before.at + 60,
    )
    play.feed(ev.Started(at=play.at))
    run, second = (play.core.runs[each.run_id] for each in runs)
    play.trouble(run, ev.LineCut, "tail", subkind="UNREACHABLE")
    play.fire(run, "retry")
    play.news(run, "RUNNING", 2, "c1")
    play.news(run, "SUCCEEDED", 3, None)
    told = {"summary": summary(run, 0), "state": "SUCCEEDED", "seq": 3}
    play.answer(run, ev.Fetched, **told, updated_at="2023-11-14T22:13:30.000Z")
    play.answer(run, ev.Published, found=True)
    play.finish_step(run, 1)
    play.answer(run, ev.Released)
    if isinstance(second.phase, m.Selecting):
        play.reserve(second)
    else:
        play.grant(second)
    play.answer(second, ev.SourceKnown, exists=True)
    play.finish_step(second, 0)
    play.answer(second, ev.Released)
    return play


def started_again(
    comment: str, before: Recorded, seconds: float = 60.0, drained: dict[str, str] | None = None
) -> Recorded:
    """The daemon that comes after the one of `before`, which was killed."""
    runs = [decode_run(row) for row in before.rows.values()]
    play = Recorded(comment, *runs, last_seq=before.core.seq, at=before.at + seconds)
    play.feed(ev.Started(at=play.at, drained=drained or {}))
    return play


def first_step_done() -> tuple[Recorded, m.Run]:
    """The first of two steps is over and its set on its way to its place."""
    before = Recorded("")
    run = before.accept(accepted())
    before.to_step(run)
    before.follow(run)
    before.news(run, "SUCCEEDED", 3, None)
    told = {"summary": summary(run, 0), "state": "SUCCEEDED", "seq": 3}
    before.answer(run, ev.Fetched, **told, updated_at="2023-11-14T22:13:30.000Z")
    return before, run


def drift() -> Recorded:
    """The worker was replaced by one of another protocol while the daemon was down."""
    before, run = first_step_done()
    play = started_again(
        "a start with one step over and one to come; its worker speaks another protocol now", before
    )
    run = play.core.runs[run.run_id]
    play.answer(run, ev.Published, found=True)
    far = HeardProbe(
        rch_xcode_lane_version="9", protocol_min=8, protocol_max=9, features=(), capabilities=capabilities()
    )
    reports = (unreachable(),)
    play.answer(run, ev.Probed, reports=reports, embedded=False, whole=False)
    play.fire(run, "retry")
    play.answer(run, ev.Probed, reports=(report(result=far),), embedded=False, whole=False)
    play.answer(run, ev.Released)
    return play


def changed() -> Recorded:
    """The toolchain was replaced while the daemon was down."""
    before = Recorded("")
    run = before.accept(accepted(actions=("build",)))
    before.to_step(run)
    play = started_again(
        "a start with a submit whose fate is unknown; the worker has no such job, and another Swift", before
    )
    run = play.core.runs[run.run_id]
    play.trouble(run, ev.WorkerRefused, "tail", code="JOB_NOT_FOUND", kind="EXECUTOR")
    entry = ToolchainEntry(kind="swift", version="6.4", path="/opt/swift/usr", active=True)
    other = HeardProbe(
        rch_xcode_lane_version="1",
        protocol_min=1,
        protocol_max=1,
        features=(),
        capabilities=capabilities(toolchains=(entry,)),
    )
    play.answer(run, ev.Probed, reports=(report(result=other),), embedded=False, whole=False)
    play.answer(run, ev.Released)
    return play


def aside() -> Recorded:
    """A worker that is not who it should be, and one that comes back."""
    play = Recorded(
        "a wrong host key: the worker is set aside, longer the second time; a run that no worker can"
        " serve is ended in the queue; somebody probes the worker, and it serves"
    )
    key: dict[str, Any] = {"result": None, "error_kind": "SSH", "error_subkind": "HOST_KEY", "mark": "m"}
    wrong = report(**key, error="the host key is another one")
    run = play.accept(accepted("run-00000001", actions=("build",)))
    play.answer(run, ev.Probed, reports=(wrong,), embedded=False)
    play.feed(ev.TimerFired(at=play.at, run_id="fleet", name="mac", op=1))
    run = play.accept(accepted("run-00000002", actions=("build",)))
    play.answer(run, ev.Probed, reports=(wrong,), embedded=False)
    play.feed(ev.WorkerProbed(at=play.at, report=report(mark="m")))
    run = play.accept(accepted("run-00000003", actions=("build",)))
    play.accept(accepted("run-00000004", actions=("build",), toolchain={"swift_version": "9"}))
    fresh = (report(mark="m"),)
    play.feed(ev.Probed(at=play.at, run_id="fleet", op=-1, reports=fresh, embedded=False))
    play.answer(run, ev.Probed, reports=fresh, embedded=False)
    play.grant(run)
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="renew", slept=600))
    play.answer(run, ev.SourceKnown, exists=True)
    play.finish_step(run, 0)
    play.answer(run, ev.Released)
    return play


def drained() -> Recorded:
    """A worker that somebody takes out of service, over a start."""
    before = Recorded("")
    before.feed(ev.WorkerDrained(at=before.at, worker="mac", reason="a new Xcode"))
    waits = before.accept(accepted("run-00000001", actions=("build",)))
    before.answer(waits, ev.Probed, reports=(report(),), embedded=False)
    play = started_again(
        "a start with a worker drained: a run waits for it, also while it says nothing, and is served then",
        before,
        drained={"mac": "a new Xcode"},
    )
    run = play.core.runs[waits.run_id]
    play.answer(run, ev.Probed, reports=(unreachable(),), embedded=False)
    play.feed(ev.WorkerDrained(at=play.at, worker="mac", reason=None))
    play.answer(run, ev.Probed, reports=(report(),), embedded=False)
    play.grant(run)
    play.answer(run, ev.SourceKnown, exists=True)
    play.finish_step(run, 0)
    play.answer(run, ev.Released)
    return play


def without_leases() -> Recorded:
    """A worker that gives no leases: nothing is reserved, renewed or given back."""
    play = Recorded(
        "a worker without leases: another host has its slot, then it is free; the next run waits in the"
        " queue until the first is over, and is cancelled while it waits for the slot"
    )
    first = play.accept(accepted("run-00000001"))
    play.answer(first, ev.Probed, reports=(unleased(),), embedded=False)
    play.answer(first, ev.SourceKnown, exists=True)
    busy: dict[str, Any] = {"code": "BUSY", "kind": "WORKER_BUSY", "message": "its only slot is taken"}
    play.trouble(first, ev.WorkerRefused, "submit", **busy, retry_after=5.0)
    play.fire(first, "retry")
    second = play.accept(accepted("run-00000002", actions=("build",)))
    play.answer(second, ev.Probed, reports=(unleased(),), embedded=False)
    play.finish_step(first, 0)
    play.finish_step(first, 1)
    play.answer(second, ev.Probed, reports=(unleased(),), embedded=False)
    play.answer(second, ev.SourceKnown, exists=True)
    play.trouble(second, ev.WorkerRefused, "submit", **busy, retry_after=5.0)
    play.feed(ev.CancelAsked(at=play.at, run_id=second.run_id, reason="USER"))
    play.trouble(second, ev.WorkerRefused, "canceljob", code="JOB_NOT_FOUND", kind="EXECUTOR")
    return play


SCENES: Mapping[str, Callable[[], Recorded]] = {
    "success": success,
    "failure": failure,
    "cancel": cancel,
    "resume": resume,
    "drift": drift,
    "changed": changed,
    "aside": aside,
    "drained": drained,
    "without-leases": without_leases,
}


def kept(name: str) -> list[bytes]:
    """The lines of a kept transcript."""
    return (HERE / f"{name}.jsonl").read_bytes().splitlines(keepends=True)


def main() -> None:
    """Play every scene and keep its transcript; says which changed."""
    for name, scene in SCENES.items():
        path = HERE / f"{name}.jsonl"
        lines = b"".join(scene().lines)
        changed = not path.exists() or path.read_bytes() != lines
        path.write_bytes(lines)
        sys.stdout.write(f"{path.name}: {'renewed' if changed else 'unchanged'}\n")


if __name__ == "__main__":
    main()
