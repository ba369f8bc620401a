"""The life of a run, told as events and effects."""

from __future__ import annotations

import json

import msgspec
import pytest
from support.playbook import Playbook, accepted, report, summary, unreachable

from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.ask import farewell
from rchd.core.run import MOST_NAMED
from rchd.core.trouble import RESERVE_TRIES


@pytest.mark.spec("4")
def test_a_run_goes_from_acceptance_to_success() -> None:
    play = Playbook()
    run = play.accept(accepted())
    assert play.one(fx.Reply).view is not None
    assert (run.state, run.seq) == ("QUEUED", 1)
    play.one(fx.Probe)

    play.answer(run, ev.Probed, reports=(report(),), embedded=False)
    assert play.one(fx.Reserve).target.worker == "mac"
    play.grant(run)
    assert (run.state, run.seq) == ("RUNNING", 2)
    play.one(fx.HasSource)
    play.answer(run, ev.SourceKnown, exists=False)
    play.one(fx.Upload)
    play.answer(run, ev.Uploaded)
    assert play.one(fx.Submit).job_state_seq == 1

    play.finish_step(run, 0)
    assert play.one(fx.Submit).job.action == "test"
    play.finish_step(run, 1)
    assert play.one(fx.Release).lease_id == "lease-run-00000001"
    play.answer(run, ev.Released)
    assert (run.state, run.seq, run.exit_code) == ("SUCCEEDED", 3, 0)
    assert isinstance(run.phase, m.Ended)


@pytest.mark.spec("8")
def test_a_summary_s_sentence_names_so_much_of_a_refused_set() -> None:
    for length in (MOST_NAMED, MOST_NAMED + 1):
        play = Playbook()
        run = play.accept(accepted(actions=("build",)))
        play.to_step(run)
        play.follow(run)
        play.news(run, "SUCCEEDED", 3, None)
        for _ in range(2):
            play.answer(run, ev.FetchRefused, errors=("x" * length,))
        told = run.steps[0].summary
        assert told is not None
        assert told.human_summary.endswith(": " + "x" * MOST_NAMED)
        assert told.integrity_errors == ("x" * length,)


@pytest.mark.spec("4")
def test_the_second_step_is_skipped_when_the_first_fails() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    play.finish_step(run, 0, "failed")
    play.one(fx.Release)
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("FAILED", 50)
    written = {effect.path: json.loads(effect.data) for effect in play.of(fx.WriteRecord)}
    told = written["run-00000001/run_summary.json"]
    assert [step["status"] for step in told["steps"]] == ["failed", "skipped"]
    assert told["steps_skipped"] == 1
    all_written = [e.path for e in play.all_effects if isinstance(e, fx.WriteRecord)]
    assert not [path for path in all_written if path.endswith("-job-1/job_state.json")]


@pytest.mark.spec("4")
def test_a_later_step_runs_after_a_failure_when_the_config_says_so() -> None:
    play = Playbook()
    run = play.accept(accepted(continue_on_failure=True))
    play.to_step(run)
    play.finish_step(run, 0, "failed")
    assert play.one(fx.Submit).job.action == "test"
    play.finish_step(run, 1)
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("FAILED", 50)


@pytest.mark.spec("4")
def test_a_rejected_step_ends_the_run_with_10_and_nothing_is_executed() -> None:
    play = Playbook()
    run = play.accept(accepted(rejected=True))
    assert (run.state, run.seq, run.exit_code) == ("FAILED", 2, 10)
    assert not play.of(fx.Outward)
    written = {effect.path: json.loads(effect.data) for effect in play.of(fx.WriteRecord)}
    base = "run-00000001"
    assert written[f"{base}/run_plan.json"]["steps"][0]["rejected"] is True
    own = written[f"{base}/steps/build/{base}-job-0/summary.json"]
    assert (own["status"], own["job_key"], own["exit_code"]) == ("rejected", None, 10)
    assert own["rejection_reasons"][0]["code"] == "DENIED_ACTION"
    assert f"{base}/steps/build/{base}-job-0/job_state.json" not in written
    assert written[f"{base}/run_summary.json"]["status"] == "rejected"


@pytest.mark.spec("7")
def test_no_worker_that_can_be_asked_ends_20() -> None:
    play = Playbook()
    run = play.accept(accepted())
    for _ in range(2):
        play.answer(run, ev.Probed, reports=(unreachable(),), embedded=False)
        timer = play.one(fx.StartTimer)
        play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timer.op))
        play.one(fx.Probe)
    play.answer(run, ev.Probed, reports=(unreachable(),), embedded=False)
    assert (run.state, run.exit_code) == ("FAILED", 20)
    assert "mac: probe failed: connection refused" in run.human_summary


@pytest.mark.spec("7")
def test_no_worker_with_the_toolchain_ends_91_and_says_why() -> None:
    play = Playbook()
    run = play.accept(accepted(toolchain={"swift_version": "5.9"}))
    play.answer(run, ev.Probed, reports=(report(),), embedded=False)
    assert (run.state, run.exit_code) == ("FAILED", 91)
    assert "5.9" in run.human_summary


def signing(told: ev.ProbeReport, fingerprint: str | None) -> ev.ProbeReport:
    """The report of a worker that says that it signs with this key."""
    if told.result is None or fingerprint is None:
        return told
    capabilities = msgspec.structs.replace(
        told.result.capabilities, attestation_pubkey_fingerprint=fingerprint
    )
    features = (*told.result.features, "attestation_signing")
    result = msgspec.structs.replace(told.result, capabilities=capabilities, features=features)
    return msgspec.structs.replace(told, result=result)


@pytest.mark.spec("10")
@pytest.mark.fault("A3")
@pytest.mark.parametrize(
    ("signs", "why"), [(None, "does not sign"), ("SHA256:other", "signs with SHA256:other")]
)
def test_a_worker_with_a_pinned_key_serves_with_that_alone(signs: str | None, why: str) -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(signing(report(pins=("SHA256:it",)), signs),), embedded=False)
    assert (run.state, run.exit_code) == ("FAILED", 93)
    assert f"{why}" in run.human_summary
    assert "SHA256:it" in run.human_summary

    right = play.accept(accepted("run-00000002"))
    pinned = signing(report("a", pins=("SHA256:old", "SHA256:it")), "SHA256:it")
    play.answer(right, ev.Probed, reports=(pinned,), embedded=False)
    assert play.one(fx.Reserve).target.worker == "a"


@pytest.mark.spec("10")
def test_another_worker_serves_where_one_has_the_wrong_key() -> None:
    play = Playbook()
    other = play.accept(accepted("run-00000002"))
    both = (report("a", pins=("SHA256:it",)), report("b"))
    play.answer(other, ev.Probed, reports=both, embedded=False)
    assert play.one(fx.Reserve).target.worker == "b"


@pytest.mark.spec("7")
def test_the_first_by_priority_that_grants_a_lease_serves() -> None:
    play = Playbook()
    run = play.accept(accepted())
    reports = (report("zed", priority=1), report("abe", priority=2))
    play.answer(run, ev.Probed, reports=reports, embedded=False)
    assert play.one(fx.Reserve).target.worker == "zed"
    busy(play, run)
    assert play.one(fx.Reserve).target.worker == "abe"
    play.grant(run, "abe")
    assert run.worker == "abe"


def busy(play: Playbook, run: m.Run, retry_after: float = 2.0) -> None:
    play.answer(
        run,
        ev.WorkerRefused,
        operation="reserve",
        code="BUSY",
        message="no free slot",
        kind="WORKER_BUSY",
        subkind=None,
        retry_after=retry_after,
    )


@pytest.mark.spec("3.4")
def test_a_busy_worker_sends_the_run_back_to_the_queue_with_a_reason() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(report(),), embedded=False)
    busy(play, run, retry_after=7.0)
    timer = next(e for e in play.of(fx.StartTimer) if e.name == "busy")
    assert timer.seconds >= 7.0
    assert (run.state, run.seq) == ("QUEUED", 1)
    assert "busy" in (play.core.view(run).waiting or "")
    assert not play.of(fx.Outward)
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="busy", op=timer.op))
    play.one(fx.Probe)


@pytest.mark.spec("3.4")
def test_a_run_that_may_not_wait_fails_at_once_with_90() -> None:
    play = Playbook()
    run = play.accept(accepted(queue=False))
    play.answer(run, ev.Probed, reports=(report(),), embedded=False)
    busy(play, run)
    assert (run.state, run.exit_code) == ("FAILED", 90)


@pytest.mark.spec("3.4")
def test_a_run_gives_up_when_the_longest_wait_is_over() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(report(),), embedded=False)
    busy(play, run)
    slices = 0
    while run.state == "QUEUED":
        play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="max_wait"))
        slices += 1
    assert (run.state, run.exit_code, slices) == ("FAILED", 90, 6)
    assert "3600 s" in run.human_summary


@pytest.mark.spec("3.4")
def test_runs_take_turns_in_the_order_of_acceptance() -> None:
    play = Playbook()
    first = play.accept(accepted("run-00000001"))
    second = play.accept(accepted("run-00000002"))
    assert not play.of(fx.Probe)
    assert "behind 1" in (play.core.view(second).waiting or "")
    play.reserve(first)
    assert [effect.run_id for effect in play.of(fx.Probe)] == ["run-00000002"]


@pytest.mark.spec("3.4")
def test_no_run_overtakes_one_that_a_busy_worker_sent_back() -> None:
    play = Playbook()
    first = play.accept(accepted("run-00000001"))
    play.answer(first, ev.Probed, reports=(report(),), embedded=False)
    busy(play, first)
    play.accept(accepted("run-00000002"))
    assert not play.of(fx.Probe)


@pytest.mark.spec("3.4")
def test_a_freed_slot_wakes_the_run_that_waits_for_it() -> None:
    play = Playbook()
    first = play.accept(accepted("run-00000001", ("build",)))
    second = play.accept(accepted("run-00000002"))
    play.to_step(first)
    play.answer(second, ev.Probed, reports=(report(),), embedded=False)
    busy(play, second, retry_after=30.0)
    play.finish_step(first, 0)
    play.answer(first, ev.Released)
    assert [effect.run_id for effect in play.of(fx.Probe)] == ["run-00000002"]


@pytest.mark.spec("8")
@pytest.mark.fault("A1")
def test_a_set_that_fails_its_digests_is_fetched_once_more_and_then_refused() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    play.follow(run)
    play.news(run, "SUCCEEDED", 3, None)
    play.answer(run, ev.FetchRefused, errors=("build.log: 3 bytes, not 4",))
    play.one(fx.Fetch)
    play.answer(run, ev.FetchRefused, errors=("build.log: 3 bytes, not 4",))
    play.one(fx.Release)
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("FAILED", 70)
    step = run.steps[0]
    assert step.summary is not None
    assert step.summary.integrity_errors == ("build.log: 3 bytes, not 4",)
    assert (step.state, step.seq) == ("FAILED", 4), "the worker's end had 3; the host's own is one more"


@pytest.mark.spec("10")
@pytest.mark.fault("A4")
def test_an_attestation_of_something_else_ends_93() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    play.follow(run)
    play.news(run, "SUCCEEDED", 3, None)
    for _ in range(2):
        play.answer(run, ev.FetchRefused, errors=("attestation.json: job_id",), trust=True)
    play.answer(run, ev.Released)
    assert run.exit_code == 93


@pytest.mark.spec("3.1")
def test_a_missing_source_is_uploaded_and_submitted_once_more() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    refuse(play, run, "SOURCE_MISSING", "TRANSFER")
    play.one(fx.Upload)
    play.answer(run, ev.Uploaded)
    play.one(fx.Submit)
    refuse(play, run, "SOURCE_MISSING", "TRANSFER")
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("FAILED", 30)


def refuse(play: Playbook, run: m.Run, code: str, kind: str, subkind: str | None = None) -> None:
    play.answer(
        run, ev.WorkerRefused, operation="submit", code=code, message=code, kind=kind, subkind=subkind
    )


@pytest.mark.spec("3.4")
def test_an_expired_lease_is_reserved_anew_once_and_recorded() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    refuse(play, run, "LEASE_EXPIRED", "WORKER_BUSY")
    assert play.one(fx.Reserve).lease_id is None
    play.answer(run, ev.Reserved, worker="mac", lease_id="lease-second-1", fence=2, ttl_seconds=90)
    assert play.one(fx.Submit).fence == 2
    state = [e for e in play.all_effects if isinstance(e, fx.WriteRecord) and "run_state" in e.path][-1]
    assert json.loads(state.data)["lease_renewed"] is True
    refuse(play, run, "LEASE_EXPIRED", "WORKER_BUSY")
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("FAILED", 90)


@pytest.mark.spec("3.4")
@pytest.mark.fault("W3")
def test_each_hand_over_of_a_step_may_have_one_new_lease() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    for fence in (2, 3):  # the worker restarts: its boot is another one, and no lease is of it
        play.answer(run, ev.Submitted, state="RUNNING", seq=fence)
        refuse(play, run, "JOB_NOT_FOUND", "EXECUTOR")
        refuse(play, run, "LEASE_EXPIRED", "WORKER_BUSY")
        lease = {"worker": "mac", "lease_id": f"lease-{fence}", "fence": fence, "ttl_seconds": 90}
        play.answer(run, ev.Reserved, **lease)
        assert play.one(fx.Submit).fence == fence
    refuse(play, run, "LEASE_EXPIRED", "WORKER_BUSY")
    assert isinstance(run.phase, m.Releasing)


@pytest.mark.spec("3.4")
def test_a_lease_is_renewed_at_a_third_of_its_life() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    timers = [e for e in play.all_effects if isinstance(e, fx.StartTimer) and e.name == "renew"]
    assert [timer.seconds for timer in timers] == [30.0]
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="renew"))
    renewal = play.one(fx.Reserve)
    assert (renewal.lease_id, renewal.fence) == ("lease-run-00000001", 1)
    assert play.one(fx.StartTimer).name == "renew"


@pytest.mark.spec("3.4")
def test_a_daemon_that_leaves_renews_once_for_all_the_time_that_is_left() -> None:
    play = Playbook()
    run = play.accept(accepted())
    assert farewell(play.core.runs.values()) == []
    play.to_step(run)
    assert [each.ttl_seconds for each in farewell(play.core.runs.values())] == [3600]


@pytest.mark.spec("4")
def test_cancel_before_a_lease_ends_at_once_with_80() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER", reply=7))
    assert (run.state, run.exit_code) == ("CANCELLED", 80)
    assert play.one(fx.Reply).reply == 7


@pytest.mark.spec("4")
def test_cancel_while_a_lease_is_asked_for_gives_it_back() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(report(),), embedded=False)
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER"))
    assert run.cancel is not None
    play.grant(run)
    assert play.one(fx.Release).lease_id == "lease-run-00000001"
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("CANCELLED", 80)


@pytest.mark.spec("4")
def test_cancel_of_a_running_step_asks_the_worker_and_keeps_its_artifacts() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    play.follow(run)
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="SIGNAL"))
    assert play.one(fx.CancelJob).reason == "SIGNAL"
    play.news(run, "CANCEL_REQUESTED", 3, "c1")
    assert run.steps[0].state == "CANCEL_REQUESTED"
    play.news(run, "CANCELLED", 4, None)
    play.one(fx.Fetch)
    play.answer(
        run, ev.Fetched, summary=summary(run, 0, "cancelled"), state="CANCELLED", seq=4, updated_at="x"
    )
    play.answer(run, ev.Published, found=True)
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("CANCELLED", 80)
    assert (run.steps[0].state, run.steps[0].seq) == ("CANCELLED", 4)


@pytest.mark.spec("4")
def test_a_cancelled_run_never_comes_back_to_life_after_a_restart() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER"))
    again = Playbook(run)
    again.feed(ev.Started(at=play.at))
    assert not again.of(fx.Submit)
    again.one(fx.CancelJob)
    again.answer(run, ev.CancelNoted, state="CANCELLED")
    refuse(again, run, "JOB_NOT_FOUND", "EXECUTOR", "PROTOCOL_ERROR")
    again.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("CANCELLED", 80)
    assert run.resumed_at is not None


@pytest.mark.spec("4")
@pytest.mark.parametrize("phase", ["following", "fetching", "publishing", "releasing"])
def test_a_restart_asks_again_for_what_the_run_awaited(phase: str) -> None:
    play = Playbook()
    run = play.accept(accepted(actions=("build",)))
    play.to_step(run)
    play.follow(run)
    wanted: type[fx.Outward] = fx.Tail
    if phase in {"fetching", "publishing", "releasing"}:
        play.news(run, "SUCCEEDED", 3, None)
        wanted = fx.Fetch
    if phase in {"publishing", "releasing"}:
        play.answer(run, ev.Fetched, summary=summary(run, 0), state="SUCCEEDED", seq=3, updated_at="x")
        wanted = fx.Publish
    if phase == "releasing":
        play.answer(run, ev.Published, found=True)
        wanted = fx.Release
    again = Playbook(run)
    again.feed(ev.Started(at=play.at))
    assert again.one(wanted).op == run.op


@pytest.mark.spec("4")
@pytest.mark.fault("S5")
def test_a_restart_reads_the_log_from_its_beginning() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    play.follow(run)
    play.news(run, "RUNNING", 2, "half-way")
    assert play.one(fx.Tail).cursor == "half-way"
    again = Playbook(run)
    again.feed(ev.Started(at=play.at))
    assert again.one(fx.Tail).cursor is None


@pytest.mark.spec("4")
def test_a_cut_line_keeps_a_running_job_and_says_so() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    play.follow(run)
    cut(play, run)
    assert (run.state, run.waiting) == ("RUNNING", "worker_unreachable")
    timer = play.one(fx.StartTimer)
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timer.op))
    play.one(fx.Tail)
    play.news(run, "RUNNING", 2, "c1")
    assert run.waiting is None


def cut(play: Playbook, run: m.Run, kind: str = "SSH", subkind: str | None = "UNREACHABLE") -> None:
    play.answer(run, ev.LineCut, operation="tail", kind=kind, subkind=subkind, message="the line was cut")


@pytest.mark.spec("4")
def test_a_worker_that_stays_away_ends_the_run_when_the_longest_wait_is_over() -> None:
    play = Playbook()
    run = play.accept(accepted(max_wait_seconds=10))
    play.to_step(run)
    play.follow(run)
    pauses = 0.0
    while run.state == "RUNNING":
        cut(play, run)
        timers = [e for e in play.of(fx.StartTimer) if e.name == "retry"]
        if timers:
            pauses += timers[0].seconds
            play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timers[0].op))
    assert (run.state, run.exit_code) == ("FAILED", 20)
    assert 10 <= pauses < 30


@pytest.mark.spec("2")
@pytest.mark.fault("H14")
@pytest.mark.parametrize("days", [1, -1])
def test_a_wall_clock_that_jumps_ends_no_wait_and_prolongs_none(days: int) -> None:
    play = Playbook()
    run = play.accept(accepted(max_wait_seconds=10))
    play.to_step(run)
    play.follow(run)
    cut(play, run)
    play.at += days * 86_400
    timer = next(e for e in play.of(fx.StartTimer) if e.name == "retry")
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timer.op))
    cut(play, run)
    assert run.state == "RUNNING"
    assert run.waited_seconds == 6.0
    assert (play.core.view(run).duration_ms or 0) >= 0


@pytest.mark.spec("3.1")
@pytest.mark.fault("W7")
def test_a_worker_that_breaks_the_protocol_ends_the_step_with_40() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    cut(play, run, "EXECUTOR", "PROTOCOL_ERROR")
    play.answer(run, ev.Released)
    assert (run.state, run.exit_code) == ("FAILED", 40)


@pytest.mark.spec("4")
def test_an_upload_is_tried_three_times() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.reserve(run)
    play.answer(run, ev.SourceKnown, exists=False)
    for _ in range(2):
        cut(play, run)
        timer = play.one(fx.StartTimer)
        play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timer.op))
        play.one(fx.Upload)
    cut(play, run)
    play.one(fx.Release)


@pytest.mark.spec("3.4")
def test_a_lease_whose_grant_was_lost_is_asked_for_again() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(report(),), embedded=False)
    for _ in range(2):
        cut(play, run)
        timer = next(e for e in play.of(fx.StartTimer) if e.name == "retry")
        play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timer.op))
        play.one(fx.Reserve)
    play.grant(run)
    assert run.state == "RUNNING"


@pytest.mark.spec("4")
def test_a_stale_answer_changes_nothing() -> None:
    play = Playbook()
    run = play.accept(accepted())
    old = run.op
    play.reserve(run)
    before = (run.phase, run.seq)
    play.feed(ev.Probed(at=play.at, run_id=run.run_id, op=old, reports=(), embedded=False))
    assert (run.phase, run.seq) == before
    assert not play.effects


def cut_for_good(play: Playbook, run: m.Run) -> None:
    """The line is cut as often as a lease is asked for."""
    for _ in range(RESERVE_TRIES - 1):
        cut(play, run)
        timer = next(e for e in play.of(fx.StartTimer) if e.name == "retry")
        play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timer.op))
    cut(play, run)


@pytest.mark.spec("3.4")
def test_a_lease_that_may_have_been_granted_to_a_cancelled_run_is_given_back() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(report(),), embedded=False)
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER"))
    cut(play, run)
    timer = next(e for e in play.of(fx.StartTimer) if e.name == "retry")
    play.feed(ev.TimerFired(at=play.at, run_id=run.run_id, name="retry", op=timer.op))
    play.one(fx.Reserve)
    play.grant(run)
    play.one(fx.Release)
    play.answer(run, ev.Released)
    assert run.state == "CANCELLED"


@pytest.mark.spec("3.4")
def test_a_lease_that_is_granted_too_late_is_given_back() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(report(),), embedded=False)
    op = run.op
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER"))
    cut_for_good(play, run)
    assert run.state == "CANCELLED"
    play.feed(
        ev.Reserved(
            at=play.at,
            run_id=run.run_id,
            op=op,
            worker="mac",
            lease_id="lease-late-01",
            fence=4,
            ttl_seconds=9,
        )
    )
    assert play.one(fx.Release).lease_id == "lease-late-01"


@pytest.mark.spec("3.3")
@pytest.mark.fault("W11")
def test_a_worker_that_loses_a_job_for_ever_is_not_asked_for_ever() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    for _ in range(3):
        play.follow(run)
        refuse(play, run, "JOB_NOT_FOUND", "EXECUTOR", "PROTOCOL_ERROR")
        play.one(fx.Submit)
    play.follow(run)
    refuse(play, run, "JOB_NOT_FOUND", "EXECUTOR", "PROTOCOL_ERROR")
    play.answer(run, ev.Released)
    assert (run.exit_code, run.trouble and run.trouble.subkind) == (40, "WORKER_LOST")


@pytest.mark.spec("4")
def test_the_hosts_mirror_never_goes_back() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    play.follow(run)
    play.news(run, "CANCEL_REQUESTED", 3, "c1")
    play.news(run, "RUNNING", 2, "c2")
    # It ends, by the host's own word, one beyond the last that was right.
    assert (run.steps[0].state, run.steps[0].seq) == ("FAILED", 4)
