"""Equal runs are executed once: who waits for whom, how long, and every way out of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.playbook import Playbook, accepted, caching, capabilities, report

from rch.contract.records import Accepted
from rch.contract.states import is_terminal
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core import twins
from rchd.edges.core_rows import decode_run, encode_run

pytestmark = pytest.mark.spec("11")


@pytest.fixture
def play() -> Playbook:
    return Playbook()


FIRST, SECOND, THIRD = "run-00000001", "run-00000002", "run-00000003"


def like(run_id: str = SECOND, actions: tuple[str, ...] = ("build", "test"), **options: Any) -> Accepted:
    """A run that may be served, and serve others."""
    names = {"group", "supersede", "effective_config"} & options.keys()
    members = {name: options.pop(name) for name in names}
    return msgspec.structs.replace(accepted(run_id, actions, **{"results": True, **options}), **members)


def executing(play: Playbook, run_id: str = FIRST, **options: Any) -> m.Run:
    """A run whose first step is at the worker."""
    run = play.accept(like(run_id, **options))
    play.offered(run)
    play.grant(run)
    play.answer(run, ev.SourceKnown, exists=True)
    return run


def aside(play: Playbook, other: m.Run, run_id: str = SECOND, **options: Any) -> m.Run:
    """A run that waits for `other`."""
    run = play.accept(like(run_id, **options))
    play.offered(run)
    assert run.phase == m.Coalescing(run_id=other.run_id)
    return run


def end(play: Playbook, run: m.Run, status: str = "success") -> None:
    """All that is left of its steps ends so, and its lease is given back."""
    while isinstance(run.phase, m.Submitting):
        play.finish_step(run, run.phase.step, status)
    play.answer(run, ev.Released)
    assert is_terminal(run.state)


def asks_for_a_slot(play: Playbook, run: m.Run) -> bool:
    return any(effect.run_id == run.run_id for effect in play.of(fx.Reserve))


# --- waiting and going on -------------------------------------------------------------


def test_an_equal_run_asks_for_no_slot_and_says_why(play: Playbook) -> None:
    first = executing(play)
    second = aside(play, first)
    assert not asks_for_a_slot(play, second)
    assert second.lease is None
    view = play.core.view(second)
    assert (view.state, view.phase, view.waiting) == (
        "QUEUED",
        "coalescing",
        f"the same job runs in run {FIRST}",
    )


@pytest.mark.parametrize("status", ["success", "failed"])
def test_it_goes_on_when_the_other_one_is_over_whatever_came_of_it(play: Playbook, status: str) -> None:
    first = executing(play)
    second = aside(play, first)
    end(play, first, status)
    assert play.one(fx.Probe).run_id == SECOND
    play.offered(second)
    assert asks_for_a_slot(play, second)
    play.grant(second)
    play.answer(second, ev.SourceKnown, exists=True)
    assert play.one(fx.Submit).job.job_key == first.steps[0].job.job_key  # type: ignore[union-attr]
    end(play, second)
    assert second.state == "SUCCEEDED"


def test_it_waits_no_longer_than_one_of_its_jobs_is_due_there(play: Playbook) -> None:
    first = executing(play)
    build = aside(play, first, actions=("build",))
    test = aside(play, first, THIRD, actions=("test",))
    play.finish_step(first, 0)
    assert play.one(fx.Probe).run_id == SECOND
    play.offered(build)
    assert asks_for_a_slot(play, build)
    assert isinstance(test.phase, m.Coalescing)


def test_a_first_step_that_has_a_result_lets_nobody_execute_the_second_beside(play: Playbook) -> None:
    first = executing(play)
    play.finish_step(first, 0)
    aside(play, first)


def test_after_a_failed_step_nothing_more_is_due(play: Playbook) -> None:
    first = executing(play)
    test = aside(play, first, actions=("test",))
    play.finish_step(first, 0, "failed")
    assert isinstance(first.phase, m.Releasing)
    assert isinstance(test.phase, m.Coalescing)  # until the slot is free
    play.answer(first, ev.Released)
    assert isinstance(test.phase, m.Selecting)


def test_two_wait_for_one_and_then_one_for_the_other(play: Playbook) -> None:
    first = executing(play)
    second, third = aside(play, first), aside(play, first, THIRD)
    end(play, first, "failed")
    assert isinstance(second.phase, m.Selecting)  # its turn comes first
    play.offered(second)
    play.grant(second)
    play.offered(third)
    assert third.phase == m.Coalescing(run_id=SECOND)
    play.answer(second, ev.SourceKnown, exists=True)
    end(play, second)
    play.offered(third)
    play.grant(third)
    play.answer(third, ev.SourceKnown, exists=True)
    end(play, third)


# --- nobody is held up ----------------------------------------------------------------


def test_who_waits_aside_holds_up_nobody_and_keeps_its_turn(play: Playbook) -> None:
    first = executing(play)
    second = aside(play, first)
    place = second.place
    assert place > 0
    other = play.accept(msgspec.structs.replace(accepted(THIRD), origin="editor"))
    play.offered(other)
    assert asks_for_a_slot(play, other)
    play.core.draining = True  # nobody is given a turn
    end(play, first)
    assert second.phase == m.Waiting(reason=f"run {FIRST} runs the same job no more")
    assert second.place == place
    assert play.core.view(second).waiting == "the daemon is draining"


def test_very_many_do_not_all_wait_aside(play: Playbook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "MAX_WAITING", 2)
    first = executing(play)
    aside(play, first)
    aside(play, first, THIRD)
    fourth = play.accept(like("run-00000004"))
    play.offered(fourth)
    assert fourth.phase == m.Waiting(reason=f"the same job runs in run {FIRST}", timer=True)
    assert play.one(fx.StartTimer).name == "busy"
    assert not asks_for_a_slot(play, fourth)


def test_the_next_candidate_is_looked_at_as_well(play: Playbook) -> None:
    first = play.accept(like(FIRST))
    play.offered(first, "b")
    play.grant(first, "b")
    second = play.accept(like(SECOND))
    play.offered(second, "a", "b")
    assert play.one(fx.Reserve).target.worker == "a"
    words = {"operation": "reserve", "code": "BUSY", "message": "x", "kind": "WORKER_BUSY", "subkind": None}
    play.answer(second, ev.WorkerRefused, **words)
    assert second.phase == m.Coalescing(run_id=FIRST)


# --- who does not wait ----------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"results": False},
        {"queue": False},
        {"artifact_profile": "minimal", "first": {"artifact_profile": "minimal"}, "profile": "rich"},
        {"effective_config": {"run": {"allow_no_tests": True}}},
        {"actions": ("test",), "first": {"actions": ("build",)}},
        {"first": {"results": False}},
    ],
    ids=str,
)
def test_whoever_could_not_be_served_does_not_wait(play: Playbook, options: dict[str, Any]) -> None:
    first = options.pop("first", {})
    if (profile := options.pop("profile", None)) is not None:
        options["artifact_profile"] = profile
    executing(play, **first)
    second = play.accept(like(**options))
    play.offered(second)
    assert asks_for_a_slot(play, second)


def test_a_minimal_run_waits_for_a_rich_one(play: Playbook) -> None:
    aside(play, executing(play), artifact_profile="minimal")


@pytest.mark.parametrize(
    "told",
    [
        report(),
        caching(result=msgspec.structs.replace(report().result, capabilities=capabilities(simulated=True))),  # type: ignore[type-var]
    ],
    ids=["not offered", "simulated"],
)
def test_a_worker_without_a_cache_makes_nobody_wait(play: Playbook, told: ev.ProbeReport) -> None:
    simulated = told.result is not None and told.result.capabilities.simulated
    for run_id in (FIRST, SECOND):
        run = play.accept(like(run_id, simulate=simulated))
        play.answer(run, ev.Probed, reports=(told,), embedded=False)
        assert asks_for_a_slot(play, run)
        play.grant(run)


def test_what_runs_at_another_worker_makes_nobody_wait(play: Playbook) -> None:
    first = play.accept(like(FIRST))
    play.offered(first, "b")
    play.grant(first, "b")
    second = play.accept(like(SECOND))
    play.offered(second, "a", "b")
    assert asks_for_a_slot(play, second)


def test_runs_of_an_older_version_wait_for_nobody() -> None:
    run = Playbook().accept(like())
    row = msgspec.json.decode(encode_run(run))
    del row["accepted"]["options"]["results"]
    assert decode_run(msgspec.json.encode(row)).accepted.options.results is False


# --- other ways out -------------------------------------------------------------------


def test_a_cancel_of_the_other_one_lets_it_go_on_at_once(play: Playbook) -> None:
    first = executing(play)
    second = aside(play, first)
    play.feed(ev.CancelAsked(at=play.at, run_id=FIRST, reason="USER"))
    assert isinstance(second.phase, m.Selecting)
    play.offered(second)
    assert asks_for_a_slot(play, second)


def test_a_cancel_of_its_own_ends_it_and_the_other_goes_on(play: Playbook) -> None:
    first = executing(play)
    second = aside(play, first)
    play.feed(ev.CancelAsked(at=play.at, run_id=SECOND, reason="USER"))
    assert (second.state, second.exit_code, second.place) == ("CANCELLED", 80, 0)
    end(play, first)
    assert not play.of(fx.Probe)


def test_the_longest_wait_ends_it_and_names_the_other_one(play: Playbook) -> None:
    second = aside(play, executing(play), max_wait_seconds=60)
    play.feed(ev.TimerFired(at=play.at, run_id=SECOND, name="max_wait"))
    assert (second.state, second.exit_code) == ("FAILED", 90)
    assert f"the same job ran in run {FIRST} for 60 s" in second.human_summary


def test_a_worker_out_of_reach_is_not_waited_for(play: Playbook) -> None:
    first = executing(play)
    second = aside(play, first)
    play.answer(first, ev.LineCut, operation="submit", kind="SSH", subkind="UNREACHABLE", message="cut")
    assert first.waiting == m.UNREACHABLE
    assert isinstance(second.phase, m.Selecting)


def test_a_start_decides_anew(play: Playbook) -> None:
    first = executing(play)
    second = aside(play, first)
    rows = [decode_run(encode_run(run)) for run in (second, first)]
    again = Playbook(*rows)
    again.feed(ev.Started(at=again.at))
    second, first = rows
    assert again.one(fx.Probe).run_id == SECOND
    again.offered(second)
    assert second.phase == m.Coalescing(run_id=FIRST)
    assert isinstance(first.phase, m.Following)


@pytest.mark.parametrize("supersede", [False, True])
def test_a_group_waits_in_its_own_order(play: Playbook, *, supersede: bool) -> None:
    """Of a group nobody stands aside for another one of it: they never overlap as it is."""
    first = executing(play, group="save")
    second = play.accept(like(SECOND, group="save", supersede=supersede))
    assert isinstance(second.phase, m.Waiting)
    if supersede:
        assert first.cancel is not None
        play.follow(first)
        play.news(first, "CANCELLED", 3, None)
        play.answer(first, ev.FetchRefused, errors=("gone",))
        play.answer(first, ev.FetchRefused, errors=("gone",))
        play.answer(first, ev.Released)
    else:
        end(play, first)
    play.offered(second)
    assert asks_for_a_slot(play, second)


def test_who_stands_aside_holds_up_its_own_group(play: Playbook) -> None:
    first = executing(play)
    second = aside(play, first, group="save")
    third = play.accept(like(THIRD, ("test",), group="save"))
    assert isinstance(third.phase, m.Waiting)
    assert play.core.view(third).waiting == f"after run {SECOND} of group save"
    newest = play.accept(like("run-00000004", group="save", supersede=True))
    assert second.state == third.state == "CANCELLED"
    play.offered(newest)
    assert newest.phase == m.Coalescing(run_id=FIRST)
