"""What the core tells others: the summary of a run, its timers by the run's name, a line of news."""

from __future__ import annotations

import json

import msgspec
import pytest
from support.playbook import Playbook, accepted, report

from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.ends import duration_ms, summary_of
from rchd.core.select import drifted, select
from rchd.core.session import event_line


def ended(*statuses: str) -> m.Run:
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    for index, status in enumerate(statuses):
        play.finish_step(run, index, status)
    play.answer(run, ev.Released)
    return run


@pytest.mark.spec("8")
def test_a_runs_summary_counts_its_steps_by_their_ends() -> None:
    green, red = summary_of(ended("success", "success")), summary_of(ended("failed"))
    assert (green.step_count, green.steps_succeeded, green.steps_failed) == (2, 2, 0)
    assert (green.steps_cancelled, green.steps_skipped, green.steps_rejected) == (0, 0, 0)
    assert (red.step_count, red.steps_succeeded, red.steps_failed, red.steps_skipped) == (2, 0, 1, 1)
    assert [(each.status, each.exit_code) for each in red.steps] == [("failed", 50), ("skipped", None)]
    assert [each.exit_code for each in green.steps] == [0, 0]


@pytest.mark.spec("8")
def test_a_runs_summary_has_the_kind_and_the_subkind_of_its_trouble() -> None:
    run = ended("failed")
    assert summary_of(run).failure_kind == "SWIFTPM"
    assert summary_of(run).failure_subkind is msgspec.UNSET
    run.trouble = m.Trouble(kind="EXECUTOR", subkind="INFRASTRUCTURE", message="x")
    assert (summary_of(run).failure_kind, summary_of(run).failure_subkind) == ("EXECUTOR", "INFRASTRUCTURE")
    assert summary_of(ended("success", "success")).failure_kind is None


@pytest.mark.spec("8")
def test_a_runs_summary_is_of_the_time_of_its_end() -> None:
    run = ended("success", "success")
    run.ended_at, run.updated_at = "2026-01-01T00:00:02Z", "2026-01-01T00:00:03Z"
    assert summary_of(run).created_at == "2026-01-01T00:00:02Z"
    run.ended_at = None
    assert summary_of(run).created_at == "2026-01-01T00:00:03Z"
    run.created_at = run.updated_at
    assert duration_ms(run) == 0


@pytest.mark.spec("3.4")
def test_a_run_that_a_busy_worker_sends_back_has_a_timer_of_its_own() -> None:
    play = Playbook()
    run = play.accept(accepted())
    play.answer(run, ev.Probed, reports=(report(),), embedded=False)
    play.answer(
        run,
        ev.WorkerRefused,
        operation="reserve",
        code="BUSY",
        message="no slot",
        kind="WORKER_BUSY",
        subkind=None,
        retry_after=7.0,
    )
    timer = play.one(fx.StartTimer)
    assert (timer.run_id, timer.name, timer.op, timer.spread) == (run.run_id, "busy", run.op, 0.3)
    assert timer.seconds >= 7


@pytest.mark.spec("4")
def test_a_protocol_that_is_out_of_range_after_a_start_is_named_as_drift() -> None:
    options = accepted().options
    (choice,) = select(options, (report(),)).choices
    result = report().result
    assert result is not None
    assert drifted(choice, result) is None
    now = msgspec.structs.replace(result, protocol_min=2, protocol_max=3)
    failure = drifted(choice, now)
    assert failure is not None
    assert (failure.kind, failure.subkind, failure.exit_code) == (
        "WORKER_INCOMPATIBLE",
        "PROTOCOL_DRIFT",
        91,
    )


@pytest.mark.spec("12")
def test_a_line_of_news_is_a_notification() -> None:
    line = event_line(msgspec.Raw(b'{"seq":3}'))  # type: ignore[arg-type]
    assert json.loads(line) == {"jsonrpc": "2.0", "method": "runs.event", "params": {"seq": 3}}
    assert line.endswith(b"\n")
