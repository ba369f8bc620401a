"""Section 4: what becomes of runs and jobs, on disk and at the worker."""

from __future__ import annotations

from typing import Any

from rch.contract.ids import parse_timestamp
from rch_conformance.host.rig import spare_of
from rch_conformance.host.seen import Run, require, require_equal, transcript
from rch_conformance.host.suite import looks_at


@looks_at("4", "A run that succeeds exits 0, and is SUCCEEDED with the seq of its third state", "success")
def success_is_told(success: Run) -> None:
    require_equal(success.ended.code, 0, "exit code")
    state = success.record("run_state.json")
    require_equal((state["state"], state["seq"]), ("SUCCEEDED", 3), "state and seq of run_state.json")
    require_equal(success.summary["status"], "success", "status of run_summary.json")


@looks_at(
    "4",
    "The seq of a run rises by one with each state, however it ends",
    "success",
    "build-failed",
    "tests-failed",
    "interrupted",
    "refused-here",
)
def run_seq_rises_by_one(*runs: Run) -> None:
    for run in runs:
        state = run.record("run_state.json")
        ran = bool(run.asked("submit"))
        known = {3} if ran else {2, 3}  # QUEUED, RUNNING if it came to that, and the end
        require(state["seq"] in known, f"seq {known} of a run that ends {state['state']}", state)


@looks_at(
    "4",
    "The exit code is that of run_summary.json",
    "success",
    "build-failed",
    "tests-failed",
    "busy",
    "gone",
)
def exit_code_is_on_record(*runs: Run) -> None:
    for run in runs:
        require_equal(run.ended.code, run.summary["exit_code"], "exit code against run_summary.json")
        require_equal(run.ended.told["exit_code"], run.ended.code, "exit_code of --json")


@looks_at(
    "4", "The plan is written before anything is submitted, and names the jobs in their order", "success"
)
def plan_comes_first(success: Run) -> None:
    plan, submits = success.record("run_plan.json"), success.asked("submit")
    require_equal(
        [(each["index"], each["action"], each["job_id"]) for each in plan["steps"]],
        [
            (index, each.payload["job"]["action"], each.payload["job"]["job_id"])
            for index, each in enumerate(submits)
        ],
        "the steps of run_plan.json against the jobs submitted",
    )
    written = parse_timestamp(plan["created_at"]) * 1000
    require(written <= submits[0].wall_ms, f"a plan from before {submits[0].wall_ms}", written)
    require_equal(plan["selected_worker"], "success", "selected_worker of run_plan.json")


@looks_at("4", "The job's last state on disk is the worker's, with the highest seq", "success")
def job_state_is_the_workers(success: Run) -> None:
    for action in ("build", "test"):
        folder = success.job(action)
        state = success.record(str((folder / "job_state.json").relative_to(success.dir)))
        require_equal((state["state"], state["seq"]), ("SUCCEEDED", 3), f"job_state.json of {action}")


@looks_at(
    "4", "After a failed step the later ones are skipped: no submit, no job_state.json", "build-failed"
)
def later_steps_are_skipped(run: Run) -> None:
    require_equal(run.failure, ("SWIFTPM", "BUILD_FAILED", 50), "failure kind, subkind and exit code")
    require_equal(_submitted(run), ["build"], "actions submitted")
    require_equal(_statuses(run), ["failed", "skipped"], "statuses of the steps")
    require(not (run.job("test") / "job_state.json").exists(), "no job_state.json of a skipped step")
    require_equal(run.summary["steps_skipped"], 1, "steps_skipped")


@looks_at(
    "4", "With continue_on_failure the later steps run, and the first failure is the run's", "goes-on"
)
def continue_on_failure(run: Run) -> None:
    require_equal(_submitted(run), ["build", "test"], "actions submitted")
    require_equal(_statuses(run), ["failed", "success"], "statuses of the steps")
    require_equal(run.failure, ("SWIFTPM", "BUILD_FAILED", 50), "failure kind, subkind and exit code")
    require(run.record("run_plan.json")["continue_on_failure"] is True, "continue_on_failure in the plan")


@looks_at("4", "Failed tests are the run's failure", "tests-failed")
def failed_tests(run: Run) -> None:
    require_equal(run.failure, ("SWIFTPM", "TESTS_FAILED", 50), "failure kind, subkind and exit code")
    require_equal(_statuses(run), ["success", "failed"], "statuses of the steps")


@looks_at("4", "A plan with a rejected step executes nothing, and exits 10", "refused-here")
def rejected_plan_runs_nothing(run: Run) -> None:
    require_equal(run.ended.code, 10, "exit code")
    began = [each.op for each in run.asked() if each.op != "probe"]
    require_equal(began, [], "requests but probe")
    require_equal(run.record("run_state.json")["state"], "FAILED", "state of run_state.json")
    require_equal(run.summary["status"], "rejected", "status of run_summary.json")


@looks_at("4", "A rejected step has a summary without a job_key, and no job_state.json", "refused-here")
def rejected_step_is_on_record(run: Run) -> None:
    plan = run.record("run_plan.json")["steps"]
    require_equal([each["rejected"] for each in plan], [False, True], "rejected in run_plan.json")
    folder = run.job("test")
    summary = run.record(str((folder / "summary.json").relative_to(run.dir)))
    require_equal((summary["status"], summary["job_key"]), ("rejected", None), "status and job_key")
    require(summary["rejection_reasons"], "the reasons")
    require(not (folder / "job_state.json").exists(), "no job_state.json of a rejected step")
    require_equal(_statuses(run), ["skipped", "rejected"], "statuses of the steps")


@looks_at(
    "4", "Ctrl-C cancels the job at the worker, with a reason and the lease, and exits 80", "interrupted"
)
def interrupt_cancels(run: Run) -> None:
    require_equal(run.ended.code, 80, "exit code")
    cancel = run.asked("cancel")[0]
    require(cancel.payload["reason"] in {"SIGNAL", "USER"}, "reason SIGNAL or USER", cancel.payload)
    reserve = run.asked("reserve")[0].answer["payload"]
    claim = (cancel.payload.get("lease_id"), cancel.payload.get("fence"))
    require_equal(claim, (reserve["lease_id"], reserve["fence"]), "lease_id and fence of the cancel")
    require_equal(run.record("run_state.json")["state"], "CANCELLED", "state of run_state.json")


@looks_at("4", "The set of a cancelled job is fetched, and its seq tells of the cancel", "interrupted")
def cancelled_set_is_kept(run: Run) -> None:
    folder = run.job("build")
    state = run.record(str((folder / "job_state.json").relative_to(run.dir)))
    require_equal((state["state"], state["seq"]), ("CANCELLED", 4), "job_state.json")
    require((folder / "build.log").is_file(), "the log of a cancelled job")


@looks_at("4", "A job that takes longer than it may is cancelled as TIMEOUT_OVERALL", "too-long")
def overall_timeout(run: Run) -> None:
    require_equal(run.failure, ("EXECUTOR", "TIMEOUT_OVERALL", 40), "failure kind, subkind and exit code")
    reasons = [each.payload["reason"] for each in run.asked("cancel")]
    require_equal(
        set(reasons), {"TIMEOUT_OVERALL"}, "reasons of cancels"
    )  # the worker may be first to end it


@looks_at("4", "A job that says nothing for longer than it may is cancelled as TIMEOUT_IDLE", "too-quiet")
def idle_timeout(run: Run) -> None:
    require_equal(run.failure, ("EXECUTOR", "TIMEOUT_IDLE", 40), "failure kind, subkind and exit code")
    reasons = {each.payload["reason"] for each in run.asked("cancel")}
    require_equal(reasons, {"TIMEOUT_IDLE"}, "reasons of cancels")


@looks_at("4", "A daemon that was killed goes on with the same job: one submit, one success", "killed")
def killed_daemon_goes_on(run: Run) -> None:
    require_equal(run.ended.code, 0, "exit code")
    (submit,) = run.asked("submit")
    (step,) = run.record("run_plan.json")["steps"]
    require_equal(submit.payload["job"]["job_id"], step["job_id"], "the job of the plan")
    state = run.record("run_state.json")
    require(state.get("resumed_at"), "resumed_at in run_state.json", state)
    require_equal((state["state"], state["seq"]), ("SUCCEEDED", 3), "state and seq over the restart")


@looks_at("4", "After a restart the run keeps its worker, though another one is free", "killed")
def killed_daemon_keeps_the_worker(run: Run) -> None:
    spare = transcript(run.state.with_name(spare_of(run.state.name)))
    require_equal([each.op for each in spare if each.op != "probe"], [], "requests to another worker")
    require_equal(run.record("run_plan.json")["selected_worker"], "killed", "selected_worker")


def _submitted(run: Run) -> list[str]:
    return [each.payload["job"]["action"] for each in run.asked("submit")]


def _statuses(run: Run) -> list[Any]:
    return [each["status"] for each in run.summary["steps"]]
