"""`rchctl gc`: old runs on this machine, removed or only named; and which are kept for good."""

from __future__ import annotations

from typing import Any

from rch.contract.errors import Failure, Kind
from rchctl.amounts import counted, number
from rchctl.context import Context, Outcome, error_body
from rchctl.parser import UsageError, VerbParser
from rchctl.render import size, table

# Ten thousand runs are measured and removed one after the other.
_GC_SECONDS = 1800.0


def configure(parser: VerbParser) -> None:
    """Remove, look, or mark a run."""
    parser.add_argument("--dry-run", action="store_true", help="only name what would be removed")
    parser.add_argument("--keep", metavar="RUN", help="keep this run for good; nothing is removed")
    parser.add_argument("--release", metavar="RUN", help="keep it no more; nothing is removed")
    parser.examples(
        "rchctl gc --dry-run             what is over the bounds of [gc] in config.toml, and why",
        "rchctl gc                       remove that; a quiet daemon does so by itself",
        "rchctl gc --keep latest         never remove this run",
        "rchctl gc --json | jq .data.bytes",
    )


def run(context: Context) -> Outcome:
    """Exit 1 when something that was to go is still there."""
    args = context.args
    words = {"keep": args.keep, "release": args.release}
    chosen = {name: value for name, value in words.items() if value}
    if len(chosen) + bool(args.dry_run) > 1:
        raise UsageError("gc: one of --dry-run, --keep and --release")
    params: dict[str, Any] = {**chosen} if chosen else {"dry_run": args.dry_run}
    view = context.call("daemon.gc", params, timeout=_GC_SECONDS)
    if chosen:
        kept = "keep" in chosen
        run_id = next(iter(view.get("pinned") or chosen.values()))
        context.say(f"{run_id} is kept {'for good' if kept else 'no more'}\n")
        return Outcome(view)
    entries = view.get("entries", [])
    if entries:
        context.say(_listing(entries, context))
    failed = [each for each in entries if each.get("error")]
    if not context.json:
        context.console.note(_summary(view))
        for each in failed:
            context.console.note(f"{each.get('run_id')} stays: {each.get('error')}")
    if failed:
        failure = Failure(
            Kind.INTERNAL, f"{len(failed)} of {len(entries)} could not be removed", hint="rchctl gc"
        )
        return Outcome(view, failure.exit_code, error_body(failure))
    return Outcome(view)


def _listing(entries: list[dict[str, Any]], context: Context) -> str:
    rows = [
        (
            str(each.get("run_id", "")),
            str(each.get("kind", "")),
            str(each.get("project", "")),
            str(each.get("ended_at", "")),
            size(each.get("bytes")),
            str(each.get("reason", "")),
        )
        for each in entries
    ]
    return table(("RUN", "KIND", "PROJECT", "ENDED", "SIZE", "REASON"), rows, context.console)


def _summary(view: dict[str, Any]) -> str:
    verb = "would go" if view.get("dry_run") else "went"
    runs, kept = view.get("runs", 0), view.get("kept_runs", 0)
    stay = "stays" if kept == 1 else "stay"
    held = view.get("held") or {}
    words = {"newest": "as the newest of its project", "pinned": "by --keep", "used": "in use"}
    more = ", ".join(f"{count} {words.get(name, name)}" for name, count in sorted(held.items()))
    return (
        f"{counted(number(runs), 'run')} {verb}, {size(view.get('bytes'))};"
        f" {kept} {stay}, {size(view.get('kept_bytes'))}"
        + (f"; over a bound and held: {more}" if more else "")
        + ("; not all are listed" if view.get("more") else "")
    )
