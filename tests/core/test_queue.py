"""Whose turn it is."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from support.playbook import Playbook, accepted, report
from support.queued import SENT_BACK, head, ids, move, run, serve, turn

from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.queue import Queue
from rchd.edges.core_rows import decode_run, encode_run


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
