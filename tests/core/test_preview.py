"""What a run would be, before it is: the worker that would serve, the jobs that it would be asked for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from support.playbook import SOURCE, accepted, report, unreachable

from rch.contract.canonical import jcs_sha256
from rch.contract.local_plan import CandidateView, RunPlanView
from rchd.core.preview import planned_run

pytestmark = pytest.mark.spec("7")


def preview(
    *reports: Any, rejected: bool = False, warnings: tuple[str, ...] = (), **options: Any
) -> RunPlanView:
    draft = msgspec.structs.replace(accepted(rejected=rejected, **options), warnings=warnings)
    return planned_run(draft, reports, embedded=False)


def candidates(view: RunPlanView) -> dict[str, CandidateView]:
    return {each.worker: each for each in view.selection.workers}


def test_the_first_is_named_with_its_order_and_the_next_with_whom_it_stands_in_for() -> None:
    view = preview(report("b", priority=5), report("a", priority=5), report("c", priority=1))
    found = candidates(view)
    assert {name: each.rank for name, each in found.items()} == {"c": 0, "a": 1, "b": 2}
    assert found["c"].reason == "would serve: first by priority and name"
    assert found["a"].reason == "could serve: asked if c has no free slot"
    assert found["b"].reason == "could serve: asked if a has no free slot"
    assert all(each.serves for each in found.values())
    assert view.failure is None


def test_the_adaptive_order_is_told_as_such() -> None:
    (only,) = candidates(preview(report(), selection_mode="adaptive")).values()
    assert only.reason == "would serve: first by priority, free slots, load and free disk"


def test_who_does_not_serve_has_a_reason_and_no_rank() -> None:
    found = candidates(preview(report("ok"), unreachable("gone"), tags=()))
    assert (found["gone"].serves, found["gone"].rank, found["gone"].system) == (False, None, None)
    assert "connection refused" in found["gone"].reason
    told = found["ok"]
    assert told.system == "Linux debian-12 x86_64"
    assert (told.snapshot, told.age_seconds) == ("fresh", 0)
    cached = candidates(preview(report("ok", fresh=False, age_seconds=12)))["ok"]
    assert (cached.snapshot, cached.age_seconds) == ("cached", 12)


@pytest.mark.spec("8")
def test_where_nobody_serves_the_failure_is_that_of_the_run() -> None:
    view = preview(unreachable("a"), unreachable("b"))
    assert view.failure is not None
    assert (view.failure.kind, view.failure.exit_code) == ("SSH", 20)
    assert [(step.argv, step.job_key) for step in view.steps] == [((), None)] * 2
    assert view.selection.failure == view.failure
    nobody = preview()
    assert nobody.failure is not None
    assert (nobody.failure.kind, nobody.failure.exit_code) == ("WORKER_INCOMPATIBLE", 91)
    assert nobody.failure.hint == "add one to workers.toml"


@pytest.mark.spec("6")
def test_a_rejected_step_is_the_failure_whoever_could_serve() -> None:
    view = preview(report(), rejected=True)
    assert view.failure is not None
    assert (view.failure.kind, view.failure.exit_code) == ("CLASSIFIER_REJECTED", 10)
    assert view.failure.message == "archive is denied (DENIED_ACTION)"
    first, second = view.steps
    assert (first.argv, first.job_key) == ((), None)
    assert first.reasons == (
        {"code": "DENIED_ACTION", "subject": "archive", "message": "archive is denied"},
    )
    assert second.job_key is not None


def test_the_jobs_have_the_keys_that_they_would_be_handed_over_with() -> None:
    view = preview(report())
    for step, action in zip(view.steps, ("build", "test"), strict=True):
        assert step.argv == ("swift", action, "--configuration", "debug")
        assert step.job_key_inputs is not None
        assert step.job_key == jcs_sha256(step.job_key_inputs)
        assert step.job_key_inputs["source_sha256"] == SOURCE
    assert [step.index for step in view.steps] == [0, 1]


def test_the_rest_is_what_was_asked_for() -> None:
    view = preview(
        report(), warnings=("a warning",), queue=False, max_wait_seconds=7, artifact_profile="minimal"
    )
    assert view.source == {
        "source_sha256": SOURCE,
        "files": 7,
        "tar_bytes": 10_240,
        "compressed_bytes": 900,
    }
    assert view.timeouts == {
        "overall_seconds": 1800,
        "idle_log_seconds": 300,
        "connect_timeout_seconds": 30,
        "max_wait_seconds": 7,
    }
    assert (view.queue, view.artifact_profile) == (False, "minimal")
    assert view.warnings[0] == "a warning"
