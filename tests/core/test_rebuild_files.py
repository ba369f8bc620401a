"""A run made out from its files alone is the run that wrote them, at every point of its life."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from support.playbook import Playbook, accepted, report, unleased, unreachable
from support.run_disk import Disk, first_failed, succeeded

from rch.contract.records import RunStateRecord, decode_record, encode_record
from rch.contract.states import is_terminal
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.ask import UNAWAITED
from rchd.core.projections import projections
from rchd.core.restore import UNKNOWN_LEASE, Unknown, restore

Story = Callable[[Playbook], m.Run]


def rejected(play: Playbook) -> m.Run:
    return play.accept(accepted(rejected=True))


def unreached(play: Playbook) -> m.Run:
    run = play.accept(accepted())
    reports = (unreachable(), report("old", result=None, error="x"))
    play.answer(run, ev.Probed, reports=reports, embedded=False)
    return run


def cancelled_in_the_queue(play: Playbook) -> m.Run:
    run = play.accept(accepted())
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="USER"))
    return run


def cancelled_in_a_step(play: Playbook) -> m.Run:
    run = play.accept(accepted())
    play.to_step(run)
    play.follow(run)
    play.feed(ev.CancelAsked(at=play.at, run_id=run.run_id, reason="SUPERSEDED"))
    return run


def refused_artifacts(play: Playbook) -> m.Run:
    run = play.accept(accepted())
    play.to_step(run)
    play.follow(run)
    play.answer(run, ev.TailNews, state="SUCCEEDED", seq=3, next_cursor=None, log_offset=0, log_bytes=4)
    for _ in range(2):
        play.answer(run, ev.FetchRefused, errors=("build.log: 3 bytes, not 4",))
    play.answer(run, ev.Released)
    return run


STORIES = [
    succeeded,
    first_failed,
    rejected,
    unreached,
    cancelled_in_the_queue,
    cancelled_in_a_step,
    refused_artifacts,
]


@pytest.mark.spec("4")
@pytest.mark.fault("H9")
@pytest.mark.parametrize("story", STORIES)
def test_at_every_point_the_files_tell_what_the_run_is(story: Story) -> None:
    play = Disk()
    story(play)
    for run, again in play.points:
        back = again.run
        assert (back.run_id, back.state, back.seq) == (run.run_id, run.state, run.seq)
        assert (back.cancel, back.worker, back.created_at) == (run.cancel, run.worker, run.created_at)
        assert not again.notes
        if is_terminal(run.state):
            assert not again.decided_here
            assert projections(back) == projections(run)
            assert (back.exit_code, back.human_summary) == (run.exit_code, run.human_summary)
        for step, before in zip(back.steps, run.steps, strict=True):
            assert step.seq >= before.seq
            assert (step.job is None) or step.job == before.job or before.job is None


@pytest.mark.spec("4")
@pytest.mark.fault("H1")
@pytest.mark.parametrize("story", STORIES)
def test_from_every_point_the_ordinary_resumption_goes_on(story: Story) -> None:
    play = Disk()
    story(play)
    for run, again in play.points:
        if is_terminal(run.state):
            continue
        resumed = Playbook(again.run)
        effects = resumed.feed(ev.Started(at=resumed.at))
        asked = [each for each in effects if isinstance(each, fx.WorkerCall | fx.Probe | fx.Publish)]
        assert asked or is_terminal(again.run.state)
        if run.cancel is not None:
            assert not [each for each in effects if isinstance(each, fx.Probe | fx.Submit | fx.Upload)]
        if run.state == "RUNNING":
            leases = [each for each in effects if isinstance(each, fx.Reserve)]
            assert leases[0].lease_id == UNKNOWN_LEASE.lease_id
            assert {each.target.worker for each in asked if isinstance(each, fx.WorkerCall)} == {"mac"}


@pytest.mark.spec("4")
@pytest.mark.fault("H9")
def test_a_run_that_was_handing_over_finds_its_lease_and_its_worker_again() -> None:
    """No file names its lease: the name that stands for it is refused, then the run's own is asked for."""
    disk = Disk()
    before = disk.accept(accepted())
    disk.reserve(before)
    again = restore(before.run_id, disk.files).run
    play = Playbook(again)
    play.feed(ev.Started(at=play.at))
    run = play.core.runs[before.run_id]
    assert play.one(fx.Reserve).lease_id == UNKNOWN_LEASE.lease_id
    assert play.one(fx.Tail).job_id == before.accepted.steps[0].job_id
    waits = run.op
    play.feed(refusal(run, "reserve", "LEASE_EXPIRED", op=UNAWAITED))
    assert play.one(fx.Reserve).lease_id is None
    play.feed(
        ev.Reserved(
            at=play.at,
            run_id=run.run_id,
            op=UNAWAITED,
            worker="mac",
            lease_id="lease-of-this-run",
            fence=4,
            ttl_seconds=90,
        )
    )
    assert run.lease == m.Lease(lease_id="lease-of-this-run", fence=4, ttl_seconds=90)
    assert run.op == waits
    play.feed(refusal(run, "tail", "JOB_NOT_FOUND", op=run.op))
    play.answer(run, ev.Probed, reports=(report("mac"),), embedded=False)
    submit = play.one(fx.Submit)
    assert (submit.job.job_id, submit.fence) == (before.accepted.steps[0].job_id, 4)
    play.feed(refusal(run, "submit", "SOURCE_MISSING", op=run.op))
    assert play.one(fx.Upload).source == before.accepted.source


@pytest.mark.spec("3.4", "4")
@pytest.mark.fault("H9")
def test_a_run_at_a_worker_without_leases_is_known_to_have_none() -> None:
    disk = Disk()
    before = disk.accept(accepted())
    disk.answer(before, ev.Probed, reports=(unleased(),), embedded=False)
    again = restore(before.run_id, disk.files).run
    assert (before.hold, again.hold) == (m.UNLEASED, m.UNLEASED)
    said = f"{before.run_id}/worker_selection.json"
    assert projections(again)[said] == projections(before)[said]
    play = Playbook(again)
    play.feed(ev.Started(at=play.at))
    run = play.core.runs[before.run_id]
    assert [type(each) for each in play.of(fx.Outward)] == [fx.Tail]
    play.feed(refusal(run, "tail", "JOB_NOT_FOUND", op=run.op))
    play.answer(run, ev.Probed, reports=(unleased(),), embedded=False)
    assert play.one(fx.Submit).lease_id is None
    play.finish_step(run, 0)
    play.finish_step(run, 1)
    assert run.exit_code == 0


def refusal(run: m.Run, operation: str, code: str, *, op: int) -> ev.WorkerRefused:
    """The worker says no."""
    return ev.WorkerRefused(
        at=1_700_000_100.0,
        run_id=run.run_id,
        op=op,
        operation=operation,
        code=code,
        message="no",
        kind="EXECUTOR",
        subkind=None,
    )


def _running() -> dict[str, bytes]:
    play = Disk()
    run = play.accept(accepted())
    play.to_step(run)
    play.follow(run)
    return play.files


@pytest.mark.spec("4")
@pytest.mark.fault("H9")
@pytest.mark.fault("H10")
@pytest.mark.parametrize("data", [None, b"", b'{"schema_id": "rch-xcode/run_st'])
def test_a_run_whose_state_is_lost_does_not_come_back_to_life(data: bytes | None) -> None:
    files = _running()
    del files["run_state.json"]
    if data is not None:
        files["run_state.json"] = data
    again = restore("run-00000001", files)
    assert (again.run.state, again.run.seq) == ("RUNNING", 2)
    assert again.run.cancel is not None
    effects = Playbook(again.run).feed(ev.Started(at=1_700_000_100.0))
    assert [each.job_id for each in effects if isinstance(each, fx.CancelJob)] == ["run-00000001-job-0"]
    assert not [each for each in effects if isinstance(each, fx.Submit)]


@pytest.mark.spec("4")
@pytest.mark.fault("H9")
def test_a_run_whose_acceptance_alone_was_written_is_back_in_the_queue() -> None:
    again = restore("run-00000001", {"accepted.json": encode_record(accepted())})
    assert (again.run.state, again.run.seq, again.run.cancel) == ("QUEUED", 1, None)


@pytest.mark.spec("4")
@pytest.mark.fault("H9")
@pytest.mark.parametrize("lost", ["capabilities.json", "steps/build/run-00000001-job-0/job_state.json"])
def test_a_run_that_cannot_go_on_has_an_end_that_says_why(lost: str) -> None:
    files = _running()
    files[lost] = b"{}"
    again = restore("run-00000001", files)
    if lost == "capabilities.json":
        assert (again.run.state, again.run.seq, again.run.exit_code) == ("FAILED", 3, 1)
        assert again.decided_here
        assert "on which worker" in again.run.human_summary
    else:  # nobody knows under which words the job was handed over: the worker's answer decides
        assert again.run.state == "RUNNING"
    assert any("cannot be read" in note for note in again.notes)


@pytest.mark.spec("4")
@pytest.mark.fault("H9")
def test_a_publication_that_was_cut_has_put_the_jobs_state_aside() -> None:
    files = _running()
    place, aside = "steps/build/run-00000001-job-0", "host/run-00000001-job-0/replaced"
    files[f"{aside}/job_state.json"] = files.pop(f"{place}/job_state.json")
    whole, cut = restore("run-00000001", _running()), restore("run-00000001", files)
    assert msgspec.to_builtins(cut.run) == msgspec.to_builtins(whole.run)
    assert whole.run.steps[0].job is not None


@pytest.mark.spec("4")
@pytest.mark.fault("H9")
def test_an_ended_run_without_its_verdict_is_decided_anew() -> None:
    play = Disk()
    run = first_failed(play)
    del play.files["run_summary.json"]
    again = restore(run.run_id, play.files)
    assert again.decided_here
    assert (again.run.state, again.run.seq, again.run.exit_code) == ("FAILED", 3, 50)
    assert again.run.human_summary == run.human_summary


@pytest.mark.spec("4")
@pytest.mark.fault("H9")
def test_a_green_step_with_a_damaged_set_is_not_green_any_more() -> None:
    play = Disk()
    run = play.accept(accepted())
    play.to_step(run)
    play.finish_step(run, 0)
    job_id = run.accepted.steps[0].job_id
    again = restore(run.run_id, play.files, damaged={job_id: "build.log: 3 bytes, not 4"})
    step = again.run.steps[0]
    assert (step.state, step.seq) == ("FAILED", 4)
    assert step.summary is not None
    assert step.summary.exit_code == 70
    assert isinstance(again.run.phase, m.Releasing)


@pytest.mark.spec("4")
@pytest.mark.fault("H9")
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (None, "missing"),
        (b"", "cannot be read"),
        (encode_record(accepted("run-00000002")), "speaks of run run-00000002"),
        (
            encode_record(
                RunStateRecord(created_at="", run_id="x", state="", seq=1, updated_at="", current_step=None)
            ),
            "cannot be read",
        ),
    ],
)
def test_a_folder_without_its_request_is_told_with_the_reason(data: bytes | None, why: str) -> None:
    files = {} if data is None else {"accepted.json": data}
    with pytest.raises(Unknown, match=why):
        restore("run-00000001", files)


@pytest.mark.spec("4")
@pytest.mark.fault("H10")
def test_a_projection_of_another_run_is_not_believed() -> None:
    files = _running()
    state = decode_record(files["run_state.json"], RunStateRecord)
    files["run_state.json"] = encode_record(msgspec.structs.replace(state, run_id="run-00000009"))
    again = restore("run-00000001", files)
    assert "run_state.json speaks of run run-00000009" in again.notes
    assert again.run.cancel is not None
