"""Whose turn it is."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from support.playbook import Playbook, accepted, report

from rch.contract.states import RunState
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.queue import Queue
from rchd.edges.core_rows import decode_run, encode_run

SENT_BACK = m.Waiting(reason="mac is busy: no free slot", timer=True)


def run(
    run_id: str,
    phase: m.AnyPhase | None = None,
    *,
    at: str = "2026-01-01T00:00:00.000Z",
    origin: str = "terminal",
    group: str | None = None,
    **options: Any,
) -> m.Run:
    request = accepted(run_id, ("build",), **options)
    return m.Run(
        accepted=msgspec.structs.replace(request, origin=origin, group=group),
        state=RunState.QUEUED,
        seq=1,
        created_at=at,
        updated_at=at,
        phase=phase or m.Waiting(reason="accepted"),
        steps=[m.StepRun()],
    )


def ids(queue: Queue) -> list[str]:
    return [each.run_id for each in queue.order()]


def head(queue: Queue) -> m.Run | None:
    found = queue.next_turn()
    return None if found is None else found.run


def turn(*runs: m.Run) -> str | None:
    found = head(Queue(runs))
    return None if found is None else found.run_id


def serve(queue: Queue) -> m.Run:
    """The next one looks, and is served."""
    found = head(queue)
    assert found is not None
    for phase in (m.Selecting(), m.Reserving(), m.CheckingSource()):
        found.phase = phase
        queue.update(found)
    return found


def move(queue: Queue, run: m.Run, phase: m.AnyPhase) -> list[m.Run]:
    run.phase = phase
    if isinstance(phase, m.Ended):
        run.state = RunState.CANCELLED
    return queue.update(run)


@pytest.mark.spec("12")
def test_the_order_is_priority_then_acceptance_then_id_whatever_the_store_gives() -> None:
    runs = [
        run("run-c", priority=1, at="2026-01-01T00:00:09.000Z"),
        run("run-b", at="2026-01-01T00:00:01.000Z"),
        run("run-d", at="2026-01-01T00:00:02.000Z"),
        run("run-e", at="2026-01-01T00:00:02.000Z"),
    ]
    for mixed in itertools.permutations(runs):
        assert ids(Queue(mixed)) == ["run-c", "run-b", "run-d", "run-e"]


@pytest.mark.spec("3.4")
def test_the_first_that_waits_has_the_turn() -> None:
    assert turn(run("run-b"), run("run-a")) == "run-a"
    assert turn() is None


@pytest.mark.spec("3.4")
@pytest.mark.parametrize("looking", [m.Selecting(), m.Reserving(), m.Reserving(index=2)])
def test_one_run_looks_at_a_time(looking: m.AnyPhase) -> None:
    assert turn(run("run-a", looking), run("run-b")) is None
    assert turn(run("run-b", looking), run("run-a", origin="editor")) is None


@pytest.mark.spec("3.4")
@pytest.mark.parametrize("origin", ["terminal", "editor"])
def test_nobody_overtakes_a_run_that_waits_out_a_busy_worker(origin: str) -> None:
    assert turn(run("run-a", SENT_BACK), run("run-b", origin=origin)) is None
    assert turn(run("run-b", SENT_BACK), run("run-c", origin=origin), run("run-d", priority=200)) is None


@pytest.mark.spec("3.4")
def test_a_run_that_was_sent_back_keeps_its_place_when_its_time_is_over() -> None:
    first, *others = runs = [run("run-a"), run("run-b"), run("run-c", origin="editor")]
    queue = Queue(runs)
    for phase in (m.Selecting(), SENT_BACK, m.Waiting(reason="a slot is free")):
        move(queue, first, phase)
    newer = run("run-d", origin="third")
    queue.update(newer)
    assert head(queue) is first
    assert ids(queue) == ["run-a", "run-c", "run-d", "run-b"]
    assert others


@pytest.mark.spec("12")
def test_a_more_urgent_run_goes_before_one_that_waits_out_a_busy_worker() -> None:
    assert turn(run("run-a", SENT_BACK), run("run-b", priority=1)) == "run-b"


@pytest.mark.spec("3.4")
@pytest.mark.parametrize(
    "phase",
    [
        m.CheckingSource(),
        m.Uploading(),
        m.Submitting(step=0),
        m.Rereserving(step=0),
        m.Cancelling(step=0),
        m.Following(step=0),
        m.Fetching(step=0),
        m.Releasing(),
        m.Ended(),
    ],
)
def test_a_run_that_has_its_worker_is_in_nobodys_way(phase: m.AnyPhase) -> None:
    waits = run("run-b")
    queue = Queue([run("run-a", phase), waits])
    assert head(queue) is waits
    assert queue.why(waits) is None


@pytest.mark.spec("3.4")
def test_each_run_behind_another_says_so_and_a_busy_workers_words_stay() -> None:
    runs = [run("run-a", m.Selecting()), run("run-b", SENT_BACK), run("run-c"), run("run-d")]
    queue = Queue(runs)
    assert [queue.why(each) for each in runs] == [
        None,
        None,
        "behind 2 in the queue, first run-a",
        "behind 3 in the queue, first run-a",
    ]
    alone = run("run-a")
    assert Queue([alone]).why(alone) is None


@pytest.mark.spec("3.4")
def test_a_runs_position_is_how_many_have_their_turn_before_it() -> None:
    runs = [
        *(run(f"run-a{n}", origin="editor") for n in range(5)),
        *(run(f"run-b{n}") for n in range(2)),
        *(run(f"run-c{n}", origin="third") for n in range(3)),
        *(run(f"run-d{n}", priority=7) for n in range(2)),
    ]
    queue = Queue(runs)
    for _ in range(4):
        serve(queue)
    for position, each in enumerate(queue.order()):
        told = queue.why(each)
        assert (told or "behind 0 in").startswith(f"behind {position} in")


# --- origins take turns -------------------------------------------------------------------


@pytest.mark.spec("12")
@pytest.mark.fault("H15")
def test_origins_take_turns_whoever_came_first_with_how_many() -> None:
    queue = Queue(
        [*(run(f"run-a{n:02}") for n in range(50)), *(run(f"run-b{n}", origin="editor") for n in range(3))]
    )
    assert [serve(queue).run_id for _ in range(7)] == [
        "run-a00", "run-b0", "run-a01", "run-b1", "run-a02", "run-b2", "run-a03",
    ]  # fmt: skip


@pytest.mark.spec("12")
@pytest.mark.fault("H15")
def test_over_a_long_backlog_each_origin_has_its_share_within_a_tenth() -> None:
    origins = {"terminal": 900, "editor": 300, "hook": 290, "third": 310}
    runs = [run(f"run-{o}-{n:04}", origin=o) for o, many in origins.items() for n in range(many)]
    queue = Queue(runs)
    served = [serve(queue).accepted.origin for _ in range(800)]
    for origin in origins:
        assert abs(served.count(origin) - 200) <= 20


@pytest.mark.spec("12")
def test_one_repo_is_another_origin_than_the_next() -> None:
    here, there = run("run-b"), run("run-c")
    there.accepted = msgspec.structs.replace(there.accepted, root="/src/other")
    queue = Queue([run("run-a"), here, there])
    assert [serve(queue).run_id for _ in range(3)] == ["run-a", "run-c", "run-b"]


@pytest.mark.spec("12")
def test_a_new_origin_waits_one_round_at_most_and_takes_nobodys_turn() -> None:
    queue = Queue([run(f"run-{o}{n}", origin=o) for o in "ab" for n in range(4)])
    assert serve(queue).run_id == "run-a0"
    queue.update(run("run-z0", origin="z"))
    assert ids(queue)[:4] == ["run-b0", "run-a1", "run-z0", "run-b1"]


@pytest.mark.spec("12")
def test_a_run_that_leaves_without_its_turn_hands_its_place_to_its_origins_next() -> None:
    first = run("run-a0", origin="a")
    queue = Queue([first, run("run-a1", origin="a"), run("run-b0", origin="b")])
    move(queue, first, m.Ended())
    assert ids(queue) == ["run-a1", "run-b0"]


@pytest.mark.spec("4")
@pytest.mark.fault("H2")
def test_the_order_in_the_middle_of_a_round_outlives_a_restart() -> None:
    runs = [run(f"run-{o}{n}", origin=o, at=f"2026-01-01T00:00:0{n}.000Z") for o in "cab" for n in range(4)]
    queue = Queue(runs)
    for served in range(8):
        rows = [encode_run(each) for each in runs]
        for mixed in (rows, rows[::-1]):
            assert ids(Queue(map(decode_run, mixed))) == ids(queue), served
        serve(queue).phase = m.Ended()


@pytest.mark.spec("3.4")
def test_a_turn_touches_the_rows_of_two_runs_at_most() -> None:
    runs = [run(f"run-{n:03}", origin=str(n % 3)) for n in range(100)]
    queue = Queue(runs)
    while (found := head(queue)) is not None:
        assert move(queue, found, m.Selecting()) == []
        assert len(move(queue, found, m.CheckingSource())) <= 2


# --- groups -------------------------------------------------------------------------------


@pytest.mark.spec("12")
@pytest.mark.parametrize("active", [m.Selecting(), m.Reserving(), m.Following(step=0), m.Releasing()])
def test_the_runs_of_a_group_go_one_after_another_and_hold_up_nobody_else(active: m.AnyPhase) -> None:
    first, second = run("run-a", active, group="save"), run("run-b", group="save")
    third, other = run("run-c", group="save"), run("run-d")
    queue = Queue([first, second, third, other])
    assert second.run_id not in ids(queue)
    assert queue.why(second) == "after run run-a of group save"
    move(queue, first, m.Following(step=0))
    assert head(queue) is other
    move(queue, first, m.Ended())
    assert {serve(queue).run_id, serve(queue).run_id} == {second.run_id, other.run_id}
    assert head(queue) is None
    move(queue, second, m.Ended())
    assert head(queue) is third


@pytest.mark.spec("12")
def test_a_groups_name_counts_within_its_project() -> None:
    here, there = run("run-a", m.Following(step=0), group="save"), run("run-b", group="save")
    there.accepted = msgspec.structs.replace(there.accepted, root="/src/other")
    assert turn(here, there) == "run-b"


@pytest.mark.spec("12")
def test_a_more_urgent_run_of_a_group_goes_first_and_the_one_that_was_sent_back_waits_for_it() -> None:
    back, urgent, other = (
        run("run-a", SENT_BACK, group="g"),
        run("run-b", group="g", priority=1),
        run("run-c"),
    )
    queue = Queue([back])
    queue.update(urgent)
    queue.update(other)
    assert serve(queue) is urgent
    assert head(queue) is other, "who cannot go anyway is in nobody's way"
    move(queue, urgent, m.Ended())
    assert head(queue) is None, "it waits out its worker again"
    move(queue, back, m.Waiting(reason="a slot is free"))
    assert head(queue) is not None


def grouped(run_id: str, *, supersede: bool = False, **options: Any) -> Any:
    request = accepted(run_id, ("build",), **options)
    return msgspec.structs.replace(request, group="save", supersede=supersede)


@pytest.mark.spec("12")
def test_a_run_that_supersedes_cancels_the_older_ones_in_the_same_commit() -> None:
    play = Playbook()
    served = play.accept(grouped("run-00000001"))
    play.to_step(served)
    play.follow(served)
    waits = play.accept(grouped("run-00000002"))
    other = play.accept(accepted("run-00000003", ("build",)))
    play.core.take_dirty()
    newest = play.accept(grouped("run-00000004", supersede=True))
    assert {each.run_id for each in play.core.take_dirty()} >= {served.run_id, waits.run_id, newest.run_id}
    assert play.one(fx.CancelJob).reason == "SUPERSEDED"
    assert served.cancel is not None
    assert served.cancel.reason == "SUPERSEDED"
    assert (waits.state, waits.exit_code) == ("CANCELLED", 80)
    assert other.cancel is None
    assert newest.state == "QUEUED"
    assert play.core.view(newest).waiting == "after run run-00000001 of group save"


@pytest.mark.spec("12")
@pytest.mark.fault("H15")
def test_who_supersedes_a_run_that_waits_takes_its_place_in_the_round() -> None:
    play = Playbook()
    others = [play.accept(accepted(f"run-0000000{n}", ("build",))) for n in range(3)]
    origin = {"origin": "editor"}
    play.accept(msgspec.structs.replace(grouped("run-00000004"), **origin))
    play.accept(msgspec.structs.replace(accepted("run-00000005", ("build",)), origin="third"))
    play.reserve(others[0])
    newest = play.accept(msgspec.structs.replace(grouped("run-00000006", supersede=True), **origin))
    assert play.one(fx.Probe).run_id == newest.run_id, "who saves often must not wait for ever"


@pytest.mark.spec("12")
def test_a_group_without_supersede_cancels_nobody() -> None:
    play = Playbook()
    first = play.accept(grouped("run-00000001"))
    play.to_step(first)
    second = play.accept(grouped("run-00000002"))
    assert not play.of(fx.Probe)
    assert first.cancel is None
    play.finish_step(first, 0)
    play.answer(first, ev.Released)
    assert [effect.run_id for effect in play.of(fx.Probe)] == [second.run_id]


@pytest.mark.spec("3.4")
def test_a_run_that_may_not_wait_does_not_wait_for_its_group() -> None:
    play = Playbook()
    first = play.accept(grouped("run-00000001"))
    play.to_step(first)
    second = play.accept(grouped("run-00000002", queue=False))
    assert (second.state, second.exit_code) == ("FAILED", 90)
    assert "run-00000001" in second.human_summary


# --- many ---------------------------------------------------------------------------------


@pytest.mark.spec("3.4")
@pytest.mark.fault("H15")
def test_what_becomes_of_one_run_changes_no_other_row_however_many_wait() -> None:
    play = Playbook()
    runs = [play.accept(accepted(f"run-{n:08d}", ("build",))) for n in range(60)]
    play.core.take_dirty()
    play.answer(runs[0], ev.Probed, reports=(report(),), embedded=False)
    play.grant(runs[0])
    assert len(play.core.take_dirty()) <= 3
    play.feed(ev.CancelAsked(at=play.at, run_id=runs[40].run_id, reason="USER"))
    assert len(play.core.take_dirty()) == 1
    assert "behind 57" in (play.core.view(runs[59]).waiting or "")


@pytest.mark.spec("3.4")
@pytest.mark.fault("W12")
def test_a_run_that_nobody_can_ever_serve_waits_its_turn_is_told_so_and_then_fails() -> None:
    play = Playbook()
    first = play.accept(accepted("run-00000001"))
    never = play.accept(accepted("run-00000002", toolchain={"swift_version": "99"}))
    assert play.core.view(never).waiting == "behind 1 in the queue, first run-00000001"
    play.reserve(first)
    assert play.one(fx.Probe).run_id == never.run_id
    play.answer(never, ev.Probed, reports=(report(),), embedded=False)
    assert (never.state, never.exit_code) == ("FAILED", 91)
    assert "99" in never.human_summary


@pytest.mark.spec("3.4")
def test_a_waiting_run_is_told_when_the_daemon_drains() -> None:
    play = Playbook()
    play.accept(accepted("run-00000001"))
    second = play.accept(accepted("run-00000002"))
    play.feed(ev.DrainAsked(at=play.at))
    assert play.core.view(second).waiting == "the daemon is draining"


# --- several workers ----------------------------------------------------------------------

WORKERS = (report("wa", tags=("x",)), report("wb", tags=("y",)))


def known(play: Playbook) -> None:
    """All workers have been asked once."""
    for each in WORKERS:
        play.feed(ev.WorkerProbed(at=play.at, report=each))


def refuse(play: Playbook, run: m.Run) -> None:
    words = {"operation": "reserve", "code": "BUSY", "message": "no free slot", "kind": "EXECUTOR"}
    play.answer(run, ev.WorkerRefused, **words, subkind=None)


@pytest.mark.spec("3.4")
@pytest.mark.spec("7")
@pytest.mark.spec("12")
@pytest.mark.parametrize("stage", ["asks the workers", "asks for a lease", "waits for a slot"])
def test_a_run_that_waits_for_one_worker_holds_up_nobody_who_wants_another(stage: str) -> None:
    play = Playbook()
    known(play)
    first = play.accept(accepted("run-00000001", ("build",), tags=("x",)))
    behind = play.accept(accepted("run-00000002", ("build",), tags=("x",)))
    if stage != "asks the workers":
        play.answer(first, ev.Probed, reports=WORKERS, embedded=False)
    if stage == "waits for a slot":
        refuse(play, first)
    other = play.accept(accepted("run-00000003", ("build",), tags=("y",)))
    assert [effect.run_id for effect in play.of(fx.Probe)] == [other.run_id]
    assert play.core.view(behind).waiting == "behind 1 in the queue, first run-00000001"
    last = play.accept(accepted("run-00000004", ("build",), tags=("y",)))
    assert play.core.view(last).waiting == "behind 1 in the queue, first run-00000003"


@pytest.mark.spec("3.4")
def test_a_run_that_could_have_either_worker_leaves_the_one_that_is_waited_for() -> None:
    play = Playbook()
    known(play)
    first = play.accept(accepted("run-00000001", ("build",), tags=("x",)))
    play.answer(first, ev.Probed, reports=WORKERS, embedded=False)
    refuse(play, first)
    either = play.accept(accepted("run-00000002", ("build",)))
    play.answer(either, ev.Probed, reports=WORKERS, embedded=False)
    assert play.one(fx.Reserve).target.worker == "wb"
    assert either.selection is not None
    assert either.selection.refused == {"wa": "left to the runs before it in the queue"}


@pytest.mark.spec("3.4")
def test_who_finds_only_workers_that_others_wait_for_waits_behind_them_and_says_so() -> None:
    play = Playbook()
    known(play)
    first = play.accept(accepted("run-00000001", ("build",), tags=("x",)))
    play.answer(first, ev.Probed, reports=WORKERS, embedded=False)
    refuse(play, first)
    either = play.accept(accepted("run-00000002", ("build",)))
    silent = report("wb", tags=("y",), result=None, error="gone", error_kind="SSH")
    play.answer(either, ev.Probed, reports=(WORKERS[0], silent), embedded=False)
    assert either.state == "QUEUED"
    assert play.core.view(either).waiting == "wa: left to the runs before it in the queue"
    assert not play.of(fx.Probe), "it asks again later, not at once"
    assert play.one(fx.StartTimer).run_id == either.run_id


@pytest.mark.spec("3.4")
def test_what_the_workers_say_lets_all_begin_that_want_different_ones() -> None:
    play = Playbook()
    first = play.accept(accepted("run-00000001", ("build",), tags=("x",)))
    others = [play.accept(accepted(f"run-0000000{n}", ("build",), tags=("y",))) for n in (2, 3)]
    assert [type(each.phase) for each in others] == [m.Waiting, m.Waiting], "nobody knows the workers yet"
    silent = report(
        "wa", tags=("x",), result=None, error="gone", error_kind="SSH", error_subkind="UNREACHABLE"
    )
    play.answer(first, ev.Probed, reports=(silent, WORKERS[1]), embedded=False)
    assert [effect.run_id for effect in play.of(fx.Probe)] == [others[0].run_id]


@pytest.mark.spec("12")
@pytest.mark.fault("H15")
def test_an_origin_has_one_share_of_a_worker_however_many_kinds_of_runs_it_has() -> None:
    def both(_options: Any) -> frozenset[str]:
        return frozenset({"wa"})

    kinds: list[dict[str, Any]] = [{}, {"toolchain": {"swift_version": "6"}}, {"destination": "host"}]
    runs = [run(f"run-a{n:03}", **kinds[n % 3]) for n in range(300)]
    runs += [run(f"run-b{n:03}", origin="editor") for n in range(300)]
    queue = Queue(runs, both)
    served = [serve(queue).run_id for _ in range(200)]
    ours = [run_id for run_id in served if run_id.startswith("run-a")]
    assert abs(len(ours) - 100) <= 10
    assert ours == sorted(ours), "of one origin the oldest goes first"
