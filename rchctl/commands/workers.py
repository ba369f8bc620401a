"""`rchctl workers`: the inventory and new entries, what the workers say, who would serve, what is over."""

from __future__ import annotations

from typing import Any

from rch.contract.errors import Failure, Kind
from rchctl.commands.workers_flags import configure, word_of
from rchctl.context import Context, Outcome, error_body
from rchctl.parser import UsageError, one_of
from rchctl.plan import PLAN_SECONDS, outcome, workers_table
from rchctl.render import table
from rchctl.request import ACTIONS, overrides, working_directory

# A probe may have to wait for the connect timeout of each worker.
_PROBE_SECONDS = 330.0
__all__ = ["configure", "run"]


def run(context: Context) -> Outcome:
    """`probe` exits 20 when no worker that was asked has answered, `explain` 91 when none would serve."""
    what = word_of(context)
    match what:
        case "explain":
            return _explain(context)
        case "list" | "probe":
            return _told(context, what)
        case "gc":
            from rchctl.commands.workers_gc import collect as verb
        case "add":
            from rchctl.commands.workers_add import add as verb
        case "key":
            from rchctl.commands.workers_key import key as verb
        case "setup":
            from rchctl.commands.workers_setup import setup as verb
        case "upgrade":
            from rchctl.commands.workers_setup import upgrade as verb
        case _:
            from rchctl.commands.workers_drain import drain as verb
    return verb(context)


def _told(context: Context, what: str) -> Outcome:
    view = context.call("workers.list", {}) if what == "list" else _probe(context, context.args.name)
    workers = view.get("workers", [])
    context.say(_workers_table(workers, context))
    if not context.json:
        if view.get("embedded"):
            context.console.note(
                f"no inventory at {view.get('inventory')}: the embedded worker on this machine serves"
            )
        elif not workers:
            context.console.note(f"{view.get('inventory')} names no worker")
    if what == "probe" and workers and not any(each.get("status") == "ok" for each in workers):
        return _nobody(view, workers, context)
    return Outcome(view)


def _explain(context: Context) -> Outcome:
    """Who would serve the project of this folder, in the order in which they would be asked."""
    args = context.args
    if args.name:
        raise UsageError("workers explain: takes no name: it tells of every worker")
    params: dict[str, Any] = {
        "start": working_directory(),
        "overrides": overrides("workers explain", args.set),
    }
    if args.action:
        params["actions"] = [one_of("workers explain", "action", each, ACTIONS) for each in args.action]
    if args.simulate:
        params["simulate"] = True
    view = context.call("workers.explain", params, timeout=PLAN_SECONDS)
    context.mark(view)
    context.say(workers_table(view, context.console))
    if not context.json:
        for each in view.get("workers", ()):
            for warning in each.get("warnings", ()):
                context.console.note(f"{each['worker']}: {warning}")
    return outcome(view, context)


def _probe(context: Context, name: str | None) -> dict[str, Any]:
    params = {"name": name} if name else {}
    try:
        return context.call("workers.probe", params, timeout=_PROBE_SECONDS)
    except Failure as failure:
        if name and failure.kind is Kind.USAGE:
            raise Failure(Kind.USAGE, failure.message, hint="rchctl workers list") from failure
        raise


def _nobody(view: dict[str, Any], workers: list[dict[str, Any]], context: Context) -> Outcome:
    told = "; ".join(f"{each.get('name')}: {each.get('detail')}" for each in workers)
    failure = Failure(
        Kind.SSH, f"no worker answers: {told}", hint="check address, key and pin in workers.toml"
    )
    if not context.json:
        context.console.error(failure.message, failure.hint)
    return Outcome(view, failure.exit_code, error_body(failure))


def _workers_table(workers: list[dict[str, Any]], context: Context) -> str:
    if not workers:
        return ""
    heads = ("NAME", "STATUS", "TRANSPORT", "HOST", "PRIORITY", "TAGS", "DETAIL")
    rows = [
        (
            str(each.get("name", "")),
            str(each.get("status", "")),
            str(each.get("transport", "")),
            str(each.get("host", "")),
            str(each.get("priority", "")),
            ",".join(each.get("tags", ())) or "-",
            str(each.get("detail", "")),
        )
        for each in workers
    ]
    return table(heads, rows, context.console)
