"""`rchctl workers gc`: what is over on the workers, removed or only named."""

from __future__ import annotations

from typing import Any

from rch.contract.errors import Failure, Kind
from rchctl.context import Context, Outcome, error_body
from rchctl.render import size, table

# A worker may have much to remove.
_GC_SECONDS = 690.0
_SHOWN = 40


def collect(context: Context) -> Outcome:
    """Exit 20 when no worker that was asked has answered."""
    args = context.args
    params: dict[str, Any] = {"dry_run": args.dry_run}
    if args.name:
        params["name"] = args.name
    try:
        view = context.call("workers.gc", params, timeout=_GC_SECONDS)
    except Failure as failure:
        if args.name and failure.kind is Kind.USAGE:
            raise Failure(Kind.USAGE, failure.message, hint="rchctl workers list") from failure
        raise
    workers = view.get("workers", [])
    context.say(_listing(workers, context))
    if not context.json:
        for each in workers:
            context.console.note(_summary(each, dry_run=bool(view.get("dry_run"))))
    if workers and all(each.get("error") for each in workers):
        told = "; ".join(f"{each.get('name')}: {each.get('error')}" for each in workers)
        nobody = Failure(Kind.SSH, f"no worker answers: {told}")
        if not context.json:
            context.console.error(nobody.message, nobody.hint)
        return Outcome(view, nobody.exit_code, error_body(nobody))
    return Outcome(view)


def _listing(workers: list[dict[str, Any]], context: Context) -> str:
    rows = [
        (
            str(worker.get("name", "")),
            str(entry.get("kind", "")),
            str(entry.get("name", ""))[:_SHOWN],
            size(int(entry.get("bytes", 0))),
            _days(int(entry.get("age_seconds", 0))),
            str(entry.get("reason", "")),
        )
        for worker in workers
        for entry in worker.get("entries", ())
    ]
    if not rows:
        return ""
    return table(("WORKER", "KIND", "NAME", "SIZE", "AGE", "REASON"), rows, context.console)


def _summary(worker: dict[str, Any], *, dry_run: bool) -> str:
    name = worker.get("name")
    if worker.get("error"):
        return f"{name}: {worker['error']}"
    totals = worker.get("totals", ())
    number = sum(int(each.get("entries", 0)) for each in totals)
    if not number:
        return f"{name}: nothing is over"
    whole = size(sum(int(each.get("bytes", 0)) for each in totals))
    verb = "would go" if dry_run else "went"
    kinds = ", ".join(f"{each.get('entries')} {each.get('kind')}" for each in totals)
    more = "; the largest are listed" if worker.get("more") else ""
    return f"{name}: {whole} {verb} ({kinds}){more}"


def _days(seconds: int) -> str:
    """An age in its largest unit."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
