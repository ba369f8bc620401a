"""`rchctl history`: how the runs of a project ended, and how long they took."""

from __future__ import annotations

from typing import Any

from rchctl.context import Context, Outcome
from rchctl.parser import VerbParser
from rchctl.report import asked
from rchctl.report.trends import PastRun, Trend, spark, trend

_SPARKS = 40


def configure(parser: VerbParser) -> None:
    """Which runs."""
    asked.add_flags(parser, limit=20)
    parser.examples(
        "rchctl history                      the runs of the project of this folder",
        "rchctl history --limit 100",
        "rchctl history --json | jq '.data.runs[].duration_ms'",
    )


def run(context: Context) -> Outcome:
    """Newest first; reads the disk and asks no daemon."""
    runs = asked.asked_runs(context)
    context.mark({"simulated": bool(context.args.simulate)})
    found = trend(runs)
    if runs:
        context.say(_table(runs, context))
        context.say(_trend(found, runs))
    elif not context.json:
        context.console.note(f"no run of {asked.project_name(context)} has ended yet")
    return Outcome({"runs": [_as_json(each) for each in runs], "trend": _trend_json(found)})


def _table(runs: list[PastRun], context: Context) -> str:
    from rchctl.columns import Column, listing
    from rchctl.render import duration

    columns = [
        Column("RUN", least=13, plain=True),
        Column("VERDICT"),
        Column("CREATED", goes=2),
        Column("TOOK"),
        Column("TESTS", goes=4),
        Column("STEPS", least=10, goes=3),
        Column("BRANCH", least=6, goes=1),
    ]
    rows = [
        [
            each.run_id,
            _verdict(each),
            each.created_at[:16].replace("T", " ") + "Z",
            duration(each.duration_ms),
            _tests(each),
            ", ".join(f"{step.action} {duration(step.duration_ms) or step.status}" for step in each.steps),
            each.branch or "-",
        ]
        for each in runs
    ]
    return listing(columns, rows, context.console)


def _verdict(run: PastRun) -> str:
    """What it failed of, else how it ended: a busy worker is no failed test."""
    from rchctl.report.past_model import word

    why = run.failure_subkind or run.failure_kind
    return word(run) if run.status == "success" or not why else why.lower()


def _tests(run: PastRun) -> str:
    counts = run.tests
    if counts is None:
        return "-"
    told = f"{counts.passed}/{counts.total}"
    return f"{told}, {counts.flaky} flaky" if counts.flaky else told


def _trend(found: Trend | None, runs: list[PastRun]) -> str:
    from rchctl.render import duration
    from rchctl.terminal import one_line

    if found is None:
        return "trend: none: no run was executed whole and passed\n"
    lengths = [each.duration_ms for each in reversed(runs[:_SPARKS])]
    middle = duration(found.median_ms)
    what = "+".join(one_line(each) for each in found.actions)
    told = f"trend: {spark(lengths)}  {what}, executed whole, passed {found.runs} times,"
    told += f" the middle one in {middle}"
    if found.change_percent is None:
        return f"{told}\n"
    than = "as quick as"
    if found.change_percent:
        than = f"{abs(found.change_percent)} % {'slower' if found.change_percent > 0 else 'faster'} than"
    return f"{told}; the newest {found.recent} {than} those before\n"


def _as_json(run: PastRun) -> dict[str, Any]:
    counts = run.tests
    return {
        "run_id": run.run_id,
        "run_dir": str(run.run_dir),
        "created_at": run.created_at,
        "project": run.project,
        "root": run.root,
        "status": run.status,
        "exit_code": run.exit_code,
        "failure_kind": run.failure_kind,
        "failure_subkind": run.failure_subkind,
        "duration_ms": run.duration_ms,
        "simulated": run.simulated,
        "scope": list(run.scope),
        "worker": run.worker,
        "branch": run.branch,
        "commit": run.commit,
        "tests": None if counts is None else _counts_json(counts),
        "steps": [
            {
                "action": step.action,
                "status": step.status,
                "duration_ms": step.duration_ms,
                "cached": step.cached,
            }
            for step in run.steps
        ],
    }


def _counts_json(counts: Any) -> dict[str, int]:
    return {name: getattr(counts, name) for name in ("total", "passed", "failed", "skipped", "flaky")}


def _trend_json(found: Trend | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "actions": list(found.actions),
        "runs": found.runs,
        "median_ms": found.median_ms,
        "recent": found.recent,
        "recent_median_ms": found.recent_ms,
        "change_percent": found.change_percent,
    }
