"""`rchctl workers`: the inventory and new entries, what the workers say, who would serve, what is over."""

from __future__ import annotations

from typing import Any

from rch.contract.errors import Failure, Kind
from rchctl.commands.workers_gc import collect
from rchctl.context import Context, Outcome, error_body
from rchctl.parser import UsageError, VerbParser, one_of
from rchctl.plan import PLAN_SECONDS, outcome, workers_table
from rchctl.render import table
from rchctl.request import ACTIONS, overrides, working_directory

# A probe may have to wait for the connect timeout of each worker.
_PROBE_SECONDS = 330.0
_WORDS = ("list", "probe", "add", "key", "explain", "gc")
_OF_WORDS = {
    ("explain",): ("action", "set", "simulate"),
    ("add",): ("host", "user", "port", "tag", "priority", "fingerprint", "yes"),
    ("key",): ("from", "create", "command"),
    ("add", "key"): ("ssh-key",),
}


def configure(parser: VerbParser) -> None:
    """`list`, `probe`, `add`, `key`, `explain` or `gc`."""
    parser.add_argument(
        "what",
        metavar="|".join(_WORDS),
        help="what is known; ask them now; a new one, its host key compared; the line for its"
        " authorized_keys; who would serve the project of this folder, and why not; remove what is over",
    )
    parser.add_argument(
        "name",
        metavar="WORKER",
        nargs="?",
        help="with probe and gc: this one alone; with add and key: its name",
    )
    parser.add_argument(
        "--host", metavar="HOST", help="with add: a name, an address, or an alias of ~/.ssh/config"
    )
    parser.add_argument("--user", metavar="USER", help="with add: the account there")
    parser.add_argument("--port", metavar="PORT", type=int, help="with add: where its sshd listens")
    parser.add_argument(
        "--tag",
        metavar="TAG",
        action="append",
        default=[],
        help="with add: a word for selection.tags; again for more",
    )
    parser.add_argument("--priority", metavar="N", type=int, help="with add: lower goes first (100)")
    parser.add_argument(
        "--fingerprint", metavar="SHA256:...", help="with add: the host key, as the worker itself prints it"
    )
    parser.add_argument(
        "--yes",
        action="store_true",
        help="with add: take a host key that known_hosts has, and pin the worker's own; no other key",
    )
    parser.add_argument("--ssh-key", metavar="FILE", help="with add and key: a private key file")
    parser.add_argument(
        "--from",
        dest="sources",
        metavar="CIDR",
        action="append",
        default=[],
        help="with key: whence it may be used",
    )
    parser.add_argument("--create", action="store_true", help="with key: make one where there is none")
    parser.add_argument("--command", metavar="CMD", help="with key: the worker's program, 'PATH xcode rpc'")
    parser.add_argument("--dry-run", action="store_true", help="with gc: only name what would be removed")
    parser.add_argument(
        "--action", action="append", metavar="ACTION", help="with explain: build or test, as of rchctl run"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="with explain: another config value",
    )
    parser.add_argument("--simulate", action="store_true", help="with explain: a run on stand-in tools")
    parser.examples(
        "rchctl workers list              in the order that selection takes",
        "rchctl workers probe             ask all of them now",
        "rchctl workers probe studio --json | jq .data.workers[0].status",
        "rchctl workers key studio --create --from 192.0.2.7",
        "rchctl workers add studio --host studio.local --user ci",
        "rchctl workers explain           for each worker: would serve, or why not",
        "rchctl workers explain --action build --set toolchain.xcode_version=16.2",
        "rchctl workers gc --dry-run      what the workers would remove: sources, jobs, trees of runs",
        "rchctl workers gc studio --json | jq .data.workers[0].totals",
    )


def run(context: Context) -> Outcome:
    """`probe` exits 20 when no worker that was asked has answered, `explain` 91 when none would serve."""
    what = _what(context)
    if what == "explain":
        return _explain(context)
    if what == "gc":
        return collect(context)
    if what == "add":
        from rchctl.commands.workers_add import add

        return add(context)
    if what == "key":
        from rchctl.commands.workers_key import key

        return key(context)
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


def _what(context: Context) -> str:
    """The word that was asked for; `UsageError` for a flag or a name that goes with another one."""
    args = context.args
    what = one_of("workers", "word", args.what, _WORDS)
    if args.dry_run and what != "gc":
        raise UsageError(f"workers {what}: --dry-run goes with gc: type 'rchctl workers gc --dry-run'")
    for words, flags in _OF_WORDS.items():
        for flag in flags:
            given = getattr(args, "sources" if flag == "from" else flag.replace("-", "_"))
            if what not in words and given not in (None, False, []):
                first = words[0]
                raise UsageError(
                    f"workers {what}: --{flag} goes with {first}: type 'rchctl workers {first}'"
                )
    if what == "list" and args.name:
        raise UsageError(f"workers list: takes no name: type 'rchctl workers probe {args.name}'")
    return what


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
