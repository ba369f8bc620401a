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
    gone = {"code": "JOB_NOT_FOUND", "kind": "EXECUTOR", "subkind": "PROTOCOL_ERROR"}
    again.answer(run, ev.WorkerRefused, operation="submit", message="gone", **gone)
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
def test_a_stale_answer_changes_nothing() -> None:
    play = Playbook()
    run = play.accept(accepted())
    old = run.op
    play.reserve(run)
    before = (run.phase, run.seq)
    play.feed(ev.Probed(at=play.at, run_id=run.run_id, op=old, reports=(), embedded=False))
    assert (run.phase, run.seq) == before
    assert not play.effects


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
