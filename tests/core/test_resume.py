"""After a start: what runs is followed at once, what is to be handed over waits for a new probe."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.playbook import Playbook, accepted, capabilities, report, summary

from rch.contract.records import ToolchainEntry
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.edges.core_rows import decode_run, encode_run

pytestmark = pytest.mark.spec("4")


def again(run: m.Run) -> tuple[Playbook, m.Run]:
    """The daemon that comes after a kill -9."""
    play = Playbook(decode_run(encode_run(run)))
    play.feed(ev.Started(at=play.at))
    return play, play.core.runs[run.run_id]


def checked(play: Playbook, run: m.Run, each: ev.ProbeReport | None = None) -> None:
    play.answer(run, ev.Probed, reports=(each or report(),), embedded=False, whole=False)


def refuse(play: Playbook, run: m.Run, code: str, **members: Any) -> None:
    base = {"operation": "x", "code": code, "message": code, "kind": "EXECUTOR", "subkind": None}
    play.answer(run, ev.WorkerRefused, **{**base, **members})


def other(**changes: Any) -> ev.ProbeReport:
    """The same worker with something changed in its answer."""
    result = report().result
    assert result is not None
    return report(result=msgspec.structs.replace(result, **changes))


def other_swift() -> ev.ProbeReport:
    entry = ToolchainEntry(kind="swift", version="6.4", path="/opt/swift/usr", active=True)
    return other(capabilities=capabilities(toolchains=(entry,)))


def submitting() -> m.Run:
    before = Playbook()
    run = before.accept(accepted(actions=("build",)))
    before.to_step(run)
    return run


def between_steps() -> m.Run:
    before = Playbook()
    run = before.accept(accepted())
    before.to_step(run)
    before.follow(run)
    before.news(run, "SUCCEEDED", 3, None)
    before.answer(run, ev.Fetched, summary=summary(run, 0), state="SUCCEEDED", seq=3, updated_at="x")
    return run


def test_what_runs_is_followed_at_once_and_no_probe_is_waited_for() -> None:
    before = Playbook()
    run = before.accept(accepted(actions=("build",)))
    before.to_step(run)
    before.follow(run)
    play, run = again(run)
    play.one(fx.Tail)
    assert not play.of(fx.Probe)
    play.news(run, "SUCCEEDED", 3, None)
    play.answer(run, ev.Fetched, summary=summary(run, 0), state="SUCCEEDED", seq=3, updated_at="x")
    play.answer(run, ev.Published, found=True)
    play.answer(run, ev.Released)
    assert run.state == "SUCCEEDED"
    assert not [each for each in play.all_effects if isinstance(each, fx.Probe)]


def test_a_submit_whose_fate_is_unknown_is_followed_where_it_arrived() -> None:
    play, run = again(submitting())
    assert play.one(fx.Tail).cursor is None
    play.news(run, "RUNNING", 2, "c1")
    assert (run.steps[0].state, run.steps[0].seq) == ("RUNNING", 2)
    assert not [each for each in play.all_effects if isinstance(each, fx.Submit)]


@pytest.mark.parametrize("lives", [1, 6])
def test_a_submit_that_never_arrived_is_handed_over_once_the_worker_is_known_again(lives: int) -> None:
    run = submitting()
    for _ in range(lives):
        play, run = again(run)
        refuse(play, run, "JOB_NOT_FOUND")
        probe = play.one(fx.Probe)
        assert (probe.worker, probe.tags) == ("mac", ())
        checked(play, run)
        assert play.one(fx.Submit).job.job_id == "run-00000001-job-0"
    play.finish_step(run, 0)
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("SUCCEEDED", 0), "a start is no loss of the job by the worker"


def test_the_next_step_waits_for_the_probe_and_the_one_after_it_does_not() -> None:
    play, run = again(between_steps())
    play.one(fx.Publish)
    play.answer(run, ev.Published, found=True)
    assert not play.of(fx.Submit)
    checked(play, run)
    assert play.one(fx.Submit).job.action == "test"


@pytest.mark.parametrize("versions", [(2, 3), (0, 0)])
def test_a_worker_of_another_protocol_gets_nothing_more(versions: tuple[int, int]) -> None:
    play, run = again(between_steps())
    play.answer(run, ev.Published, found=True)
    checked(play, run, other(protocol_min=versions[0], protocol_max=versions[1]))
    play.one(fx.Release)
    play.answer(run, ev.Released)
    assert run.trouble is not None
    assert (run.exit_code, run.trouble.kind) == (91, "WORKER_INCOMPATIBLE")
    assert run.trouble.subkind == "PROTOCOL_DRIFT"
    assert f"{versions[0]} to {versions[1]}" in run.human_summary
    assert [step.summary and step.summary.status for step in run.steps] == ["success", "failed"]
    assert (run.steps[1].state, run.steps[1].seq) == ("FAILED", 2)


@pytest.mark.fault("W10")
@pytest.mark.parametrize("begin", [submitting, between_steps])
def test_a_toolchain_that_is_gone_is_told_and_nothing_is_handed_over(begin: Any) -> None:
    play, run = again(begin())
    if begin is submitting:
        refuse(play, run, "JOB_NOT_FOUND")
    else:
        play.answer(run, ev.Published, found=True)
    checked(play, run, other_swift())
    play.answer(run, ev.Released)
    assert run.trouble is not None
    assert (run.exit_code, run.trouble.subkind) == (91, "TOOLCHAIN_CHANGED")
    assert "6.3.1" in run.human_summary
    assert "6.4" in run.human_summary
    assert not [each for each in play.all_effects if isinstance(each, fx.Submit)]


@pytest.mark.fault("W10")
def test_a_second_toolchain_beside_the_planned_one_changes_nothing() -> None:
    play, run = again(between_steps())
    play.answer(run, ev.Published, found=True)
    entry = ToolchainEntry(kind="swift", version="6.4", path="/opt/swift-6.4/usr", active=True)
    both = (entry, *capabilities().toolchains)
    checked(play, run, other(capabilities=capabilities(toolchains=both)))
    assert play.one(fx.Submit).job.job_key_inputs.toolchain["swift_version"] == "6.3.1"


def test_a_protocol_that_is_refused_in_the_middle_of_a_job_is_a_drift() -> None:
    before = Playbook()
    run = before.accept(accepted(actions=("build",)))
    before.to_step(run)
    before.follow(run)
    play, run = again(run)
    refuse(play, run, "UNSUPPORTED_PROTOCOL", kind="WORKER_INCOMPATIBLE")
    play.answer(run, ev.Released)
    assert run.trouble is not None
    assert (run.exit_code, run.trouble.subkind) == (91, "PROTOCOL_DRIFT")


@pytest.mark.parametrize("queue", [True, False])
def test_a_lease_that_is_not_to_be_had_is_waited_for_and_then_busy(*, queue: bool) -> None:
    before = Playbook()
    run = before.accept(accepted(actions=("build",), queue=queue, max_wait_seconds=30))
    before.to_step(run)
    play, run = again(run)
    refuse(play, run, "JOB_NOT_FOUND")
    checked(play, run)
    refuse(play, run, "LEASE_EXPIRED", kind="WORKER_BUSY")
    rounds = 0
    while play.of(fx.Reserve):
        refuse(play, run, "BUSY", kind="WORKER_BUSY", retry_after=5.0)
        rounds += 1
        for timer in play.of(fx.StartTimer):
            play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name=timer.name, op=timer.op))
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("FAILED", 90)
    assert (rounds > 1) is queue


def test_a_probe_that_fails_is_asked_again_while_the_run_says_why() -> None:
    play, run = again(between_steps())
    play.answer(run, ev.Published, found=True)
    gone = report(result=None, error="no route", error_kind="SSH", error_subkind="UNREACHABLE")
    checked(play, run, gone)
    assert (run.state, run.waiting) == ("RUNNING", "worker_unreachable")
    timer = play.one(fx.StartTimer)
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timer.op))
    play.one(fx.Probe)
    play.answer(run, ev.Probed, reports=(), embedded=False, whole=False)
    assert run.waiting == "worker_unreachable", "an entry that was taken out may come back"
    play.answer(run, ev.LineCut, operation="probe", kind="CONFIG", subkind="BAD_VALUE", message="x")
    assert run.waiting == "worker_unreachable", "so may one that can be read"
    checked(play, run)
    play.one(fx.Submit)
    assert run.waiting is None


def test_a_wrong_host_key_ends_the_run_at_once() -> None:
    play, run = again(between_steps())
    play.answer(run, ev.Published, found=True)
    wrong = report(result=None, error="another key", error_kind="SSH", error_subkind="HOST_KEY")
    checked(play, run, wrong)
    play.answer(run, ev.Released)
    assert run.trouble is not None
    assert (run.exit_code, run.trouble.subkind) == (20, "HOST_KEY")


@pytest.mark.parametrize("unsure", [True, False])
def test_a_cancel_before_it_is_known_again_ends_it_without_a_submit(*, unsure: bool) -> None:
    play, run = again(submitting())
    if not unsure:
        refuse(play, run, "JOB_NOT_FOUND")
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER"))
    if unsure:
        # It may have arrived: the worker hears of the cancel, now or when it comes.
        assert play.one(fx.CancelJob).op == run.op
        play.answer(run, ev.CancelNoted, state="CANCELLED")
        refuse(play, run, "JOB_NOT_FOUND")
    play.one(fx.Release)
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("CANCELLED", 80)
    assert not [each for each in play.all_effects if isinstance(each, fx.Submit)]


@pytest.mark.spec("3.4")
@pytest.mark.parametrize("cancelled", [True, False])
def test_a_lease_that_was_granted_as_the_daemon_died_is_asked_for_again_and_not_lost(
    *, cancelled: bool
) -> None:
    before = Playbook()
    run = before.accept(accepted())
    before.answer(run, ev.Probed, reports=(report("a"), report("b")), embedded=False)
    if cancelled:
        before.feed(ev.CancelAsked(at=before.at, run_id=run.run_id, reason="USER"))
    play, run = again(run)
    assert play.one(fx.Reserve).target.worker == "a"
    assert "max_wait" in {timer.name for timer in play.of(fx.StartTimer)}
    play.grant(run, "a")
    if cancelled:
        play.one(fx.Release)
        play.answer(run, ev.Released)
        assert run.state == "CANCELLED"
    else:
        play.answer(run, ev.SourceKnown, exists=True)
        assert play.one(fx.Probe).worker == "a", "chosen by what it was before the start"


@pytest.mark.parametrize("exists", [True, False])
def test_a_source_is_looked_for_once_the_worker_is_known_again(*, exists: bool) -> None:
    before = Playbook()
    run = before.accept(accepted())
    before.reserve(run)
    if not exists:
        before.answer(run, ev.SourceKnown, exists=False)
    play, run = again(run)
    checked(play, run)
    play.one(fx.HasSource)
    play.answer(run, ev.SourceKnown, exists=exists)
    play.one(fx.Submit if exists else fx.Upload)


# --- time ---------------------------------------------------------------------------------


@pytest.mark.fault("H14")
@pytest.mark.parametrize("days", [0, 1, -1])
def test_what_was_waited_before_a_start_is_counted_by_timers_and_not_by_the_clock(days: int) -> None:
    before = Playbook()
    before.core.draining = True
    run = before.accept(accepted(max_wait_seconds=3600))
    before.core.take_dirty()
    for _ in range(2):
        before.feed(ev.TimerFired(at=before.at, run_id=run.run_id, name="max_wait"))
        assert before.core.take_dirty() == [run], "it outlives the daemon"
        assert not before.of(fx.Announce), "and is no news"
    play = Playbook(decode_run(encode_run(run)))
    play.core.draining = True
    play.feed(ev.Started(at=play.at + days * 86_400))
    run = play.core.runs[run.run_id]
    slices = 0
    while run.state == "QUEUED":
        play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="max_wait"))
        slices += 1
    assert (run.exit_code, slices) == (90, 4)


def test_a_worker_that_stays_away_over_many_starts_ends_the_run_when_the_longest_wait_is_over() -> None:
    before = Playbook()
    run = before.accept(accepted(actions=("build",), max_wait_seconds=30))
    before.to_step(run)
    before.follow(run)
    starts = 0
    while isinstance(run.phase, m.Following):
        play, run = again(run)
        starts += 1
        gone = {"operation": "tail", "kind": "SSH", "subkind": "UNREACHABLE", "message": "gone"}
        play.answer(run, ev.LineCut, **gone)
        assert run in play.core.take_dirty()
    play.answer(run, ev.Released)
    assert (run.exit_code, starts < 30) == (20, True)


@pytest.mark.fault("H14")
def test_the_order_in_line_after_a_start_is_that_of_acceptance_whatever_the_clock_said() -> None:
    before = Playbook()
    before.core.draining = True
    ids = [f"run-{n:08d}" for n in (3, 1, 2)]
    for n, run_id in enumerate(ids):
        when = f"2023-11-{20 - n}T00:00:00.000Z"
        before.accept(msgspec.structs.replace(accepted(run_id), created_at=when))
    rows = [decode_run(encode_run(run)) for run in before.core.runs.values()]
    play = Playbook(*reversed(rows))
    play.feed(ev.Started(at=play.at))
    for run_id in ids:
        run = play.core.runs[run_id]
        assert isinstance(run.phase, m.Selecting)
        play.reserve(run)
    newer = play.accept(accepted("run-00000000"))
    assert newer.number > max(run.number for run in rows)


@pytest.mark.fault("H14")
def test_runs_of_before_there_were_numbers_go_first_in_their_old_order() -> None:
    before = Playbook()
    before.core.draining = True
    old = [before.accept(accepted(f"run-0000000{n}")) for n in (2, 1)]
    for run in old:
        run.number, run.place = 0, 0
    new = before.accept(accepted("run-00000000"))
    play = Playbook(new, *old)
    assert [run.run_id for run in play.core._queue.order()] == [
        "run-00000001", "run-00000002", "run-00000000",
    ]  # fmt: skip


@pytest.mark.fault("H14")
def test_a_run_under_way_is_told_that_this_machine_slept() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    waits = play.accept(accepted("run-00000002"))
    for _ in range(30):
        play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="renew", slept=600))
    assert play.core.view(run).warnings[0] == "this machine slept for 600 s while the run was under way"
    assert len(run.warnings) == 20
    assert not waits.warnings
    play.one(fx.Reserve)


@pytest.mark.fault("H14")
@pytest.mark.parametrize(("skew", "told"), [(400, "400 s ahead of"), (-90, "90 s behind"), (None, None)])
def test_a_worker_whose_clock_is_wrong_serves_with_a_warning(skew: int | None, told: str | None) -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(report(skew_seconds=skew),), embedded=False)
    play.grant(run)
    assert run.warnings == ([f"the clock of worker mac is {told} this machine's"] if told else [])
