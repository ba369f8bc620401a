"""`rchctl list`: the newest runs, and what those wait for that are not over."""

from __future__ import annotations

from typing import Any

from rchctl.columns import Column, listing
from rchctl.context import Context, Outcome
from rchctl.parser import UsageError, VerbParser, one_of
from rchctl.progress import position
from rchctl.render import duration, is_over, state_word

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
    params: dict[str, Any] = {}
    if context.args.state:
        params["state"] = one_of("list", "state", context.args.state.upper(), STATES)
    runs = _newest(context, params, int(limit))
    if runs:
        context.say(runs_table(runs, context))
    elif not context.json:
        context.console.note("no runs" + (f" in state {params['state']}" if "state" in params else " yet"))
    return Outcome({"runs": runs})


def _newest(context: Context, params: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    """As many runs as are asked for: one message of the daemon may not hold them all."""
    runs: list[dict[str, Any]] = []
    client = context.connect()
    try:
        while True:
            after = {"before": runs[-1]["run_id"]} if runs else {}
            view = client.call("runs.list", {**params, "limit": limit - len(runs), **after})
            found = view.get("runs", [])
            runs += found
            if not (view.get("more") and found and len(runs) < limit):
                return runs
    finally:
        client.close()


def runs_table(runs: list[dict[str, Any]], context: Context) -> str:
    """One line a run. What it does or waits for stands last, where there is one that is not over."""
    columns = [
        Column("RUN", least=_ID_CHARACTERS, plain=True),
        Column("STATE"),
        Column("EXIT", goes=5),
        Column("CREATED", goes=2),
        Column("TOOK", goes=1),
        Column("WORKER", least=8, goes=3),
        Column("PROJECT", least=8, goes=4),
    ]
    rows = [
        [
            str(each.get("run_id", "")),
            state_word(each),
            str(each["exit_code"]) if is_over(each) and each.get("exit_code") is not None else "-",
            str(each.get("created_at", ""))[:16].replace("T", " ") + "Z",
            duration(each.get("duration_ms")) or "-",
            str(each.get("worker") or "-"),
            str(each.get("project", "")),
        ]
        for each in runs
    ]
    if not all(is_over(each) for each in runs):
        columns.append(Column("NOW", least=16, goes=6))
        for row, each in zip(rows, runs, strict=True):
            row.append("" if is_over(each) else position(each))
    return listing(columns, rows, context.console)
