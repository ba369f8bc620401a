"""`rchctl list`: the newest runs."""

from __future__ import annotations

from typing import Any

from rchctl.context import Context, Outcome
from rchctl.parser import UsageError, VerbParser, one_of
from rchctl.render import duration, is_over, table
from rchctl.terminal import one_line

STATES = ("QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED")
_MOST = 1000
# The part of an id that holds its time: a beginning that names one run.
_ID_CHARACTERS = 13


def configure(parser: VerbParser) -> None:
    """Filters."""
    parser.add_argument("--state", metavar="STATE", help=f"only these: {', '.join(STATES).lower()}")
    parser.add_argument("--limit", metavar="N", default="20", help="at most so many (default 20)")
    parser.examples(
        "rchctl list",
        "rchctl list --state failed --limit 5",
        "rchctl list --json | jq -r '.data.runs[].run_id'",
    )


def run(context: Context) -> Outcome:
    """Newest first."""
    limit = context.args.limit
    if not limit.isdecimal() or not 0 < int(limit) <= _MOST:
        raise UsageError(f"list: --limit {limit!r} is no number from 1 to {_MOST}")
    params: dict[str, Any] = {"limit": int(limit)}
    if context.args.state:
        params["state"] = one_of("list", "state", context.args.state.upper(), STATES)
    view = context.call("runs.list", params)
    runs = view.get("runs", [])
    if runs:
        context.say(runs_table(runs, context))
    elif not context.json:
        context.console.note("no runs" + (f" in state {params['state']}" if "state" in params else " yet"))
    return Outcome({"runs": runs})


def runs_table(runs: list[dict[str, Any]], context: Context) -> str:
    """One line a run."""
    heads = ("RUN", "STATE", "EXIT", "CREATED", "TOOK", "WORKER", "PROJECT")
    rows = [
        (
            one_line(each.get("run_id", "")),
            _state(each),
            str(each["exit_code"]) if is_over(each) and each.get("exit_code") is not None else "-",
            one_line(each.get("created_at", ""))[:16].replace("T", " ") + "Z",
            duration(each.get("duration_ms")) or "-",
            one_line(each.get("worker") or "-"),
            one_line(each.get("project", "")),
        )
        for each in runs
    ]
    return table(heads, rows, context.console, shorten_to=_ID_CHARACTERS)


def _state(run: dict[str, Any]) -> str:
    state = str(run.get("state", ""))
    return f"{state} (simulated)" if run.get("simulated") else state
