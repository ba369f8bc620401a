"""One step made out from what is left of its files: each loss is told, and no green is read into it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from support.playbook import accepted
from support.run_disk import Disk, first_failed, succeeded

from rch.contract.records import RunSummary, WorkerSelection, decode_record, encode_record
from rch.contract.worker_rpc import PROTOCOL_MAX, PROTOCOL_MIN
from rchd.core import model as m
from rchd.core.projections import projections
from rchd.core.restore import Restored, Unknown, acceptance_order, restore

pytestmark = [pytest.mark.spec("4"), pytest.mark.fault("H9")]

RUN = "run-00000001"
PLACE, HOST = f"steps/build/{RUN}-job-0", f"host/{RUN}-job-0"
Files = dict[str, bytes]


def files_of(story: Callable[[Disk], m.Run]) -> Files:
    play = Disk()
    story(play)
    return play.files


def running(play: Disk) -> m.Run:
    run = play.accept(accepted())
    play.to_step(run)
    play.follow(run)
    return run


def between(play: Disk) -> m.Run:
    """The first step is published, the second one runs."""
    run = play.accept(accepted())
    play.to_step(run)
    play.finish_step(run, 0)
    play.follow(run)
    return run


def with_members(files: Files, name: str, **members: Any) -> Files:
    return {**files, name: json.dumps({**json.loads(files[name]), **members}).encode()}


def without(files: Files, *names: str) -> Files:
    return {name: data for name, data in files.items() if name not in names}


def back(files: Files, **more: Any) -> Restored:
    return restore(RUN, files, **more)


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (b"{", f"{PLACE}/job_state.json cannot be read ("),
        ({"job_id": "job-of-another"}, f"{PLACE}/job_state.json speaks of another job"),
        ({"run_id": "run-of-another"}, f"{PLACE}/job_state.json speaks of another job"),
        ({"state": "LOST"}, f"{PLACE}/job_state.json has the state 'LOST', which is none"),
    ],
)
def test_a_state_that_is_not_the_jobs_own_is_not_believed(data: bytes | dict[str, str], note: str) -> None:
    files = files_of(running)
    name = f"{PLACE}/job_state.json"
    files = {**files, name: data} if isinstance(data, bytes) else with_members(files, name, **data)
    again = back(files)
    assert any(each.startswith(note) for each in again.notes)
    assert back(files_of(running)).run.steps[0].state == "RUNNING"
    assert again.run.steps[0].seq != 2


def test_a_published_set_without_its_state_gets_a_guess_that_says_so() -> None:
    for story, state in ((between, "SUCCEEDED"), (first_failed, "FAILED")):
        again = back(without(files_of(story), f"{PLACE}/job_state.json"))
        assert f"{PLACE}/job_state.json is lost: its seq is a guess" in again.notes
        step = again.run.steps[0]
        assert (step.state, step.seq) == (state, 3)
        assert step.summary is not None
        assert step.updated_at == step.created_at == step.summary.created_at


def test_a_published_summary_that_is_lost_is_what_the_run_tells_of_it() -> None:
    files = without(files_of(succeeded), f"{PLACE}/summary.json")
    summary = back(files).run.steps[0].summary
    assert summary is not None
    assert (summary.status, summary.exit_code, summary.job_id) == ("success", 0, f"{RUN}-job-0")
    told = decode_record(files["run_summary.json"], RunSummary).steps[0]
    assert summary.human_summary == told.human_summary
    neither = back(without(files, "run_summary.json")).run.steps[0].summary
    assert neither is None or (neither.status, neither.exit_code) != ("success", 0), neither


@pytest.mark.parametrize("change", [{"status": "skipped"}, {"exit_code": None}])
def test_a_step_that_the_run_tells_no_end_of_has_no_summary(change: dict[str, Any]) -> None:
    files = without(files_of(succeeded), f"{PLACE}/summary.json")
    told = json.loads(files["run_summary.json"])
    told["steps"][0] |= change
    assert back({**files, "run_summary.json": json.dumps(told).encode()}).run.steps[0].summary is None
    told["steps"] = []
    assert back({**files, "run_summary.json": json.dumps(told).encode()}).run.steps[0].summary is None


def test_a_step_whose_summary_is_lost_while_the_run_lives_is_no_green() -> None:
    again = back(without(files_of(between), f"{PLACE}/summary.json"))
    step = again.run.steps[0]
    assert (step.state, step.summary is not None and step.summary.exit_code) == ("FAILED", 70)
    assert any("its summary is lost" in note for note in again.notes)


def test_a_job_that_would_be_another_now_is_not_taken_for_the_one_that_ran() -> None:
    files = with_members(files_of(running), f"{PLACE}/job_state.json", job_key="0" * 64)
    again = back(files)
    assert any(note.startswith(f"step 0 ran as job_key {'0' * 64}") for note in again.notes)
    assert again.run.steps[0].job is None
    assert again.decided_here
    assert any("the job of step 0 cannot be derived again" in note for note in again.notes)


def test_what_the_host_ended_itself_stays_the_hosts_word() -> None:
    files = files_of(running)
    made = encode_record(msgspec.structs.replace(_summary(files_of(first_failed)), human_summary="by us"))
    step = back({**files, f"{HOST}/summary.json": made}).run.steps[0]
    assert (step.host_made, step.summary is not None and step.summary.human_summary) == (True, "by us")
    step = back({**files, f"{PLACE}/summary.json": made}).run.steps[0]
    assert step.host_made  # no set stands there


def _summary(files: Files) -> Any:
    found = back(files).run.steps[0].summary
    assert found is not None
    return found


@pytest.mark.spec("7")
def test_the_choice_of_a_run_is_what_plan_and_selection_say_of_it() -> None:
    def choice(files: Files) -> tuple[object, ...]:
        found = back(files).run.choice
        assert found is not None
        return found.worker, found.host, found.protocol, found.fresh, found.age_seconds

    files = files_of(running)
    assert choice(files) == ("mac", "mac.example", 1, True, 0)
    assert choice(without(files, "worker_selection.json")) == ("mac", "mac.example", 1, True, 0)
    assert choice(with_members(files, "run_plan.json", protocol_version=7))[2] == 7
    said = {"negotiated_protocol_version": 5, "snapshot_source": "cached", "snapshot_age_seconds": 9}
    unplanned = with_members(without(files, "run_plan.json"), "worker_selection.json", **said)
    assert choice(unplanned) == ("mac", "mac.example", 5, False, 9)
    assert back(without(files, "capabilities.json")).run.choice is None
    assert back(with_members(files, "capabilities.json", worker="other")).run.choice is None


@pytest.mark.spec("7")
def test_a_worker_that_would_not_be_chosen_now_is_still_the_one_of_the_run_and_told() -> None:
    files = without(files_of(running), "worker_selection.json")
    bare = json.loads(files["capabilities.json"])
    bare["capabilities"]["toolchains"] = []
    found = back({**files, "capabilities.json": json.dumps(bare).encode()})
    assert found.run.worker == "mac"
    assert found.run.choice is not None
    assert (found.run.choice.toolchain, found.run.choice.age_seconds) == ({}, 0)
    assert any(note.startswith("worker mac would not be chosen now: ") for note in found.notes)


@pytest.mark.spec("7")
def test_a_run_whose_selection_is_lost_has_a_record_of_it_again() -> None:
    """And one whose selection says nothing of the worker's protocols has this host's."""
    files = files_of(running)
    for left in (
        without(files, "worker_selection.json"),
        with_members(files, "worker_selection.json", worker_protocol_range=None),
    ):
        written = projections(back(left).run)[f"{RUN}/worker_selection.json"]
        told = decode_record(written, WorkerSelection)
        assert told.probe_failures == ()
        assert told.worker_protocol_range == {"min": PROTOCOL_MIN, "max": PROTOCOL_MAX}
        assert [each.worker for each in told.candidates] == ["mac"]


# --- the run around them ------------------------------------------------------------------


def test_a_run_state_that_can_be_none_is_not_believed() -> None:
    for change in ({"state": "LOST"}, {"seq": 0}, {"updated_at": "now"}):
        again = back(with_members(files_of(running), "run_state.json", **change))
        assert any(note.startswith("run_state.json says ") for note in again.notes)
        assert (again.run.state, again.run.cancel is not None) == ("RUNNING", True)


def test_a_state_that_is_older_than_the_steps_is_brought_forward() -> None:
    again = back(with_members(files_of(running), "run_state.json", state="QUEUED", seq=1))
    assert (again.run.state, again.run.seq) == ("RUNNING", 2)
    assert "run_state.json is older than the run's steps" in again.notes


@pytest.mark.parametrize(
    ("story", "state"), [(succeeded, "SUCCEEDED"), (first_failed, "FAILED")], ids=["green", "red"]
)
def test_without_its_state_the_verdict_says_how_it_ended(
    story: Callable[[Disk], m.Run], state: str
) -> None:
    again = back(without(files_of(story), "run_state.json"))
    assert (again.run.state, again.run.seq, again.decided_here) == (state, 3, False)
    assert isinstance(again.run.phase, m.Ended)


def test_without_verdict_and_summaries_the_known_state_stands() -> None:
    files = without(files_of(succeeded), "run_summary.json", f"{PLACE}/summary.json")
    again = back(files)
    assert (again.run.state, again.decided_here) == ("SUCCEEDED", True)
    assert "its verdict was decided anew: run_summary.json is lost" in again.notes
    cancelled = back(with_members(files, "run_state.json", state="CANCELLED"))
    assert (cancelled.run.state, cancelled.run.cancel is not None) == ("CANCELLED", True)


def test_a_published_set_that_is_damaged_ends_its_step_and_one_that_never_began_does_not() -> None:
    second = f"{RUN}-job-1"
    again = back(files_of(running), damaged={second: "x"})
    assert again.run.steps[1].state is None
    again = back(files_of(between), damaged={f"{RUN}-job-0": "build.log: 3 bytes"})
    assert (
        "the artifacts of step build are damaged (build.log: 3 bytes): the step has failed" in again.notes
    )


@pytest.mark.spec("2")
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"created_at": "today"}, "has the time 'today'"),
        ({"run_id": "../etc/passwd"}, "the folder is a copy"),
    ],
)
def test_a_request_that_is_none_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(Unknown, match=why):
        back(with_members(files_of(running), "accepted.json", **change))


@pytest.mark.spec("2")
@pytest.mark.parametrize("ids", [["job-0000000001", "job-0000000001"], ["../0000000001", "job-0000000001"]])
def test_a_request_with_ids_that_are_none_or_one_twice_is_refused(ids: list[str]) -> None:
    files = files_of(running)
    told = json.loads(files["accepted.json"])
    for step, job_id in zip(told["steps"], ids, strict=True):
        step["job_id"] = job_id
    with pytest.raises(Unknown, match="has ids that are none"):
        back({**files, "accepted.json": json.dumps(told).encode()})


def test_runs_stand_in_the_order_of_their_acceptance_then_of_their_ids() -> None:
    def at(run_id: str, created_at: str) -> m.Run:
        request = msgspec.structs.replace(accepted(run_id), created_at=created_at)
        return restore(run_id, {"accepted.json": encode_record(request)}).run

    one, two = at("run-00000003", "2026-01-01T00:00:00Z"), at("run-00000001", "2026-01-02T00:00:00Z")
    three = at("run-00000002", "2026-01-02T00:00:00Z")
    assert acceptance_order([three, two, one]) == [one, two, three]
