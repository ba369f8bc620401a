"""`rchctl flaky`: tests that do not always say the same of one source."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rchctl.amounts import counted
from rchctl.context import Context, Outcome
from rchctl.moments import since
from rchctl.parser import VerbParser
from rchctl.report import asked
from rchctl.report.past import with_outcomes
from rchctl.report.trends import FlakyTest, doubtful_groups, flaky

_EVIDENCE = 5


def configure(parser: VerbParser) -> None:
    """Which runs."""
    asked.add_flags(parser, limit=200)
    parser.add_argument("--since", metavar="WHEN", help="only runs since then: 7d, 36h, 2026-01-31")
    parser.examples(
        "rchctl flaky",
        "rchctl flaky --since 7d",
        "rchctl flaky --json | jq -r '.data.tests[].test'",
    )


def run(context: Context) -> Outcome:
    """Exit 0 whatever was found; a test passed and failed on one source, or passed only on a retry."""
    runs = asked.asked_runs(context)
    if context.args.since:
        moment = since("flaky", context.args.since, datetime.now(UTC))
        runs = [each for each in runs if each.created_at >= moment]
    context.mark({"simulated": bool(context.args.simulate)})
    found = flaky(with_outcomes(runs, doubtful_groups(runs)))
    if found:
        context.say(_table(found, context))
        context.say(_evidence(found))
    elif not context.json:
        context.console.note(
            f"no test of {asked.project_name(context)} wavered in {counted(len(runs), 'run')}"
        )
    return Outcome({"runs": len(runs), "tests": [_as_json(each) for each in found]})


def _table(found: list[FlakyTest], context: Context) -> str:
    from rchctl.columns import Column, listing

    columns = [
        Column("TEST", least=24),
        Column("RETRIED"),
        Column("BOTH WAYS"),
        Column("FAILED", goes=2),
        Column("PASSED", goes=3),
        Column("LAST SEEN", goes=1),
    ]
    rows = [
        [
            each.test,
            str(each.retried),
            str(each.disagreed),
            str(each.failed),
            str(each.passed),
            each.last_at[:16].replace("T", " ") + "Z",
        ]
        for each in found
    ]
    return listing(columns, rows, context.console)


def _evidence(found: list[FlakyTest]) -> str:
    """The runs behind each, so that they can be looked at."""
    from rchctl.terminal import one_line

    lines = ["\nRETRIED: runs in which it passed only on a retry\n"]
    lines.append("BOTH WAYS: sources on which it failed and passed, with one toolchain and destination\n\n")
    for each in found:
        told = ", ".join(f"{outcome} in {run_id}" for run_id, outcome in each.evidence[:_EVIDENCE])
        more = len(each.evidence) - _EVIDENCE
        lines.append(f"{one_line(each.test)}: {told}{f' and {more} more' if more > 0 else ''}\n")
    return "".join(lines)


def _as_json(test: FlakyTest) -> dict[str, Any]:
    return {
        "test": test.test,
        "retried": test.retried,
        "disagreed": test.disagreed,
        "failed": test.failed,
        "passed": test.passed,
        "last_at": test.last_at,
        "evidence": [{"run_id": run_id, "outcome": outcome} for run_id, outcome in test.evidence],
    }
