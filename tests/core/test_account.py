"""The flat account of a run that has ended: stages in their order, what is not known left out."""

from __future__ import annotations

import msgspec
import pytest
from support.playbook import Playbook, accepted, summary

from rch.contract.records import Summary
from rchd.core import events as ev
from rchd.core import model as m
from rchd.core.account import STAGES, account, stages_ms

pytestmark = pytest.mark.spec("8")


def ended(*statuses: str) -> m.Run:
    play = Playbook()
    run = play.accept(accepted(actions=("build", "test")[: len(statuses)]))
    play.to_step(run)
    for index, status in enumerate(statuses):
        play.finish_step(run, index, status)
    play.answer(run, ev.Released)
    return run


def of_step(run: m.Run, index: int) -> Summary:
    found = run.steps[index].summary
    assert found is not None
    return found


def test_a_green_run_tells_worker_steps_stages_and_bytes() -> None:
    run = ended("success", "success")
    told = account(run, queue_ms=12, bundle_ms=34, moved={"upload": 900, "fetch": 70})
    assert {key: told[key] for key in ("run_id", "project", "origin", "state", "exit_code", "worker")} == {
        "run_id": "run-00000001",
        "project": "demo",
        "origin": "terminal",
        "state": "SUCCEEDED",
        "exit_code": 0,
        "worker": "mac",
    }
    assert (told["steps"], told["queue_ms"], told["bundle_ms"], told["job_ms"]) == (2, 12, 34, 10)
    assert (told["upload_bytes"], told["fetch_bytes"], told["source_bytes"]) == (900, 70, 900)
    assert told["summary"] == run.human_summary
    assert not {"kind", "subkind", "simulated", "cached"} & told.keys()
    stages = [key.removesuffix("_ms") for key in told if key.endswith("_ms")]
    assert [each for each in stages if each in STAGES] == [each for each in STAGES if f"{each}_ms" in told]


def test_what_is_not_known_is_left_out() -> None:
    told = account(ended("success"), queue_ms=None, bundle_ms=None, moved={})
    assert not {"queue_ms", "bundle_ms", "upload_bytes", "fetch_bytes"} & told.keys()
    assert None not in told.values()


def test_a_red_run_tells_its_kind() -> None:
    told = account(ended("failed"), queue_ms=0, bundle_ms=0, moved={})
    assert (told["kind"], told["exit_code"], told["queue_ms"], told["bundle_ms"]) == ("SWIFTPM", 50, 0, 0)


def test_a_run_that_reached_no_worker_has_none_and_no_job() -> None:
    play = Playbook()
    run = play.accept(accepted(rejected=True))
    told = account(run, queue_ms=1, bundle_ms=1, moved={})
    assert (told["kind"], told.get("subkind"), told["exit_code"]) == ("CLASSIFIER_REJECTED", None, 10)
    assert not {"worker", "job_ms"} & told.keys()


def test_stages_are_added_over_the_steps_and_stand_in_the_order_of_a_run() -> None:
    run = ended("success", "success")
    run.timings = {"selecting": 1, "rechecking": 2, "reserving": 3, "rereserving": 4, "waiting": 99}
    run.timings |= {"checkingsource": 5, "uploading": 6, "releasing": 7}
    for step in run.steps:
        step.timings = {"submitting": 10, "fetching": 20, "publishing": 30, "following": 99}
    assert list(stages_ms(run).items()) == [
        ("select", 3),
        ("reserve", 7),
        ("upload", 11),
        ("submit", 20),
        ("job", 10),
        ("fetch", 40),
        ("publish", 60),
        ("release", 7),
    ]


@pytest.mark.spec("11")
def test_what_a_cache_answered_or_the_host_ended_has_no_time_of_a_job() -> None:
    run = ended("success", "success")
    cached = msgspec.structs.replace(of_step(run, 0), cached_from_job_id="job-0000000007")
    run.steps[0].summary = cached
    assert stages_ms(run)["job"] == 5
    run.steps[1].host_made = True
    assert "job" not in stages_ms(run)
    told = account(run, queue_ms=0, bundle_ms=0, moved={})
    assert told["cached"] == 1
    assert summary(run, 0).duration_ms == 5


@pytest.mark.spec("9")
def test_a_simulated_run_says_so() -> None:
    run = ended("success")
    run.steps[0].summary = msgspec.structs.replace(of_step(run, 0), simulated=True)
    assert account(run, queue_ms=0, bundle_ms=0, moved={})["simulated"] is True
