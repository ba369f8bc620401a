"""`rchctl workers`: the inventory, and what the workers say of themselves."""

from __future__ import annotations

from typing import Any

from rch.contract.errors import Failure, Kind
from rchctl.context import Context, Outcome, error_body
from rchctl.parser import UsageError, VerbParser, one_of
from rchctl.render import table

# A probe may have to wait for the connect timeout of each worker.
_PROBE_SECONDS = 330.0


def configure(parser: VerbParser) -> None:
    """`list` or `probe`."""
    parser.add_argument("what", metavar="list|probe", help="what is known, or ask them now")
    parser.add_argument("name", metavar="WORKER", nargs="?", help="probe this one alone")
    parser.examples(
        "rchctl workers list              in the order that selection takes",
        "rchctl workers probe             ask all of them now",
        "rchctl workers probe studio --json | jq .data.workers[0].status",
    )


def run(context: Context) -> Outcome:
    """`probe` exits 20 when none of the workers that were asked has answered."""
    args = context.args
    what = one_of("workers", "word", args.what, ("list", "probe"))
    if what == "list":
        if args.name:
            raise UsageError(f"workers list: takes no name: type 'rchctl workers probe {args.name}'")
        view = context.call("workers.list", {})
    else:
        view = _probe(context, args.name)
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
