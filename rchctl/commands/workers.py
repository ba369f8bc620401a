"""`rchctl workers`: the inventory, and what the workers say of themselves."""

from __future__ import annotations

from typing import Any

from rchctl.context import Context, Outcome
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
    """A probe that finds no usable worker says so in `detail`; the exit code tells of the call."""
    args = context.args
    what = one_of("workers", "word", args.what, ("list", "probe"))
    if what == "list":
        if args.name:
            raise UsageError(f"workers list: takes no name: type 'rchctl workers probe {args.name}'")
        view = context.call("workers.list", {})
    else:
        params = {"name": args.name} if args.name else {}
        view = context.call("workers.probe", params, timeout=_PROBE_SECONDS)
    workers = view.get("workers", [])
    context.say(_workers_table(workers, context))
    if not context.json:
        if view.get("embedded"):
            context.console.note(
                f"no inventory at {view.get('inventory')}: the embedded worker on this machine serves"
            )
        elif not workers:
            context.console.note(f"{view.get('inventory')} names no worker")
    return Outcome(view)


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
