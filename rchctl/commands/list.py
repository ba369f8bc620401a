"""`rchctl list`: the newest runs, and of those that are not over what they wait for and how long."""

from __future__ import annotations

import time
from typing import Any

from rchctl.columns import Column, listing
from rchctl.context import Context, Outcome
from rchctl.parser import UsageError, VerbParser, one_of
from rchctl.progress import position
from rchctl.render import duration, is_over, state_word

STATES = ("QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED")
_MOST = 1000
# So many runs are looked at for what is usual, and where filters leave few of them.
_HISTORY = 200
_LOOKED_AT = 20_000
# The part of an id that holds its time: a beginning that names one run.
_ID_CHARACTERS = 13
_COLUMNS = {
    "run": Column("RUN", least=_ID_CHARACTERS, plain=True),
    "state": Column("STATE"),
    "exit": Column("EXIT", goes=7),
    "created": Column("CREATED", goes=4),
    "took": Column("TOOK", goes=3),
    "worker": Column("WORKER", least=8, goes=5),
    "project": Column("PROJECT", least=8, goes=6),
    "origin": Column("ORIGIN", least=8, goes=5),
    "group": Column("GROUP", least=8, goes=5),
    "position": Column("POSITION", goes=1),
    "starts": Column("STARTS", goes=2),
    "now": Column("NOW", least=16, goes=8),
}
_ALWAYS = ("run", "state", "exit", "created", "took", "worker", "project")
_OF_QUEUED = ("position", "starts")
_OF_LIVE = ("now",)


def configure(parser: VerbParser) -> None:
    """Filters."""
    parser.add_argument("--state", metavar="STATE", help=f"only these: {', '.join(STATES).lower()}")
    parser.add_argument("--project", metavar="NAME", help="only those of a project, by name or root")
    parser.add_argument("--origin", metavar="NAME", help="only those that it asked for")
    parser.add_argument("--group", metavar="NAME", help="only those of a group")
    parser.add_argument("--since", metavar="WHEN", help="only those since then: 7d, 36h, 2026-01-31")
    parser.add_argument("--limit", metavar="N", default="20", help="at most so many (default 20)")
    parser.add_argument("--columns", metavar="NAME,…", help=f"these, in this order: {', '.join(_COLUMNS)}")
    parser.examples(
        "rchctl list",
        "rchctl list --state failed --limit 5",
        "rchctl list --project Greeter --since 2d --columns run,state,took",
        "rchctl list --json | jq -r '.data.runs[].run_id'",
    )


def run(context: Context) -> Outcome:
    """Newest first."""
    args = context.args
    if not args.limit.isdecimal() or not 0 < int(args.limit) <= _MOST:
        raise UsageError(f"list: --limit {args.limit!r} is no number from 1 to {_MOST}")
    names = _names(args.columns)
    params: dict[str, Any] = {}
    if args.state:
        params["state"] = one_of("list", "state", args.state.upper(), STATES)
    wanted = _Wanted(context)
    client = context.connect()
    try:
        runs = _newest(client, params, int(args.limit), wanted)
        if any(each.get("state") == "QUEUED" for each in runs):
            _look_ahead(runs, client.call("runs.list", {"limit": _HISTORY}).get("runs", []))
    finally:
        client.close()
    if runs:
        context.say(runs_table(runs, context, names))
    elif not context.json:
        state = f" in state {params['state']}" if "state" in params else ""
        context.console.note("no runs" + (state or (" like that" if wanted.anything else " yet")))
    return Outcome({"runs": runs})


def _names(text: str | None) -> list[str] | None:
    if text is None:
        return None
    return [one_of("list", "column", each.strip().lower(), tuple(_COLUMNS)) for each in text.split(",")]


class _Wanted:
    """The filters that the daemon does not know."""

    def __init__(self, context: Context) -> None:
        args = context.args
        self._project, self._origin, self._group = args.project, args.origin, args.group
        self.since = ""
        if args.since is not None:
            from datetime import UTC, datetime

            from rchctl.moments import since

            self.since = since("list", args.since, datetime.now(UTC))
        self.anything = any(
            each is not None for each in (self._project, self._origin, self._group, args.since)
        )

    def takes(self, run: dict[str, Any]) -> bool:
        return (
            (self._project is None or self._project in {run.get("project"), run.get("root")})
            and (self._origin is None or self._origin == run.get("origin"))
            and (self._group is None or self._group == run.get("group"))
            and str(run.get("created_at", "")) >= self.since
        )


def _newest(client: Any, params: dict[str, Any], limit: int, wanted: _Wanted) -> list[dict[str, Any]]:
    """As many runs as are asked for: one message of the daemon may not hold them all."""
    runs: list[dict[str, Any]] = []
    after: dict[str, Any] = {}
    looked = 0
    while True:
        ask = _HISTORY if wanted.anything else limit - len(runs)
        view = client.call("runs.list", {**params, "limit": ask, **after})
        found = view.get("runs", [])
        runs += [each for each in found if wanted.takes(each)]
        looked += len(found)
        more = view.get("more") or (wanted.anything and len(found) == ask)
        old = bool(found) and str(found[-1].get("created_at", "")) < wanted.since
        if not (more and found and len(runs) < limit) or old or looked >= _LOOKED_AT:
            return runs[:limit]
        after = {"before": found[-1]["run_id"]}


def _look_ahead(runs: list[dict[str, Any]], beside: list[dict[str, Any]]) -> None:
    """Add to each run that waits its place in line, and when it may begin; `beside`: all that go on now."""
    from rch.contract.ids import timestamp
    from rchctl.expect import ahead_of, starts_ms

    now = time.time()
    starts = starts_ms(beside, timestamp(now))
    for each in runs:
        run_id = str(each.get("run_id"))
        if (ahead := ahead_of(each)) is not None:
            each["position"] = ahead + 1
        if run_id in starts:
            each["expected_start"] = timestamp(now + starts[run_id] / 1000)
            each["expected_wait_ms"] = starts[run_id]


def runs_table(runs: list[dict[str, Any]], context: Context, names: list[str] | None = None) -> str:
    """One line a run. What it does or waits for stands last, where there is one that is not over."""
    if names is None:
        names = list(_ALWAYS)
        names += [name for name in _OF_QUEUED if any(_cell(each, name) for each in runs)]
        names += _OF_LIVE if not all(is_over(each) for each in runs) else ()
    rows = [[_cell(each, name) for name in names] for each in runs]
    return listing([_COLUMNS[name] for name in names], rows, context.console)


def _cell(run: dict[str, Any], name: str) -> str:
    match name:
        case "run":
            return str(run.get("run_id", ""))
        case "state":
            return state_word(run)
        case "exit":
            return str(run["exit_code"]) if is_over(run) and run.get("exit_code") is not None else "-"
        case "created":
            return str(run.get("created_at", ""))[:16].replace("T", " ") + "Z"
        case "took":
            return duration(run.get("duration_ms")) or "-"
        case "position":
            return str(run.get("position") or "")
        case "starts":
            wait = run.get("expected_wait_ms")
            return "" if not isinstance(wait, int) else f"~{duration(wait)}" if wait >= 1000 else "soon"
        case "now":
            return "" if is_over(run) else position(run)
        case _:  # worker, project, origin, group
            return str(run.get(name) or "-")
