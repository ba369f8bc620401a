"""`rchctl workers drain|undrain`: no new run for a worker, until somebody says otherwise."""

from __future__ import annotations

from typing import Any

from rch.contract.errors import Failure, Kind
from rchctl.context import Context, Outcome
from rchctl.parser import UsageError
from rchctl.terminal import one_line


def drain(context: Context) -> Outcome:
    """What runs there goes on; a daemon that starts anew remembers."""
    args, off = context.args, context.args.what == "undrain"
    if not args.name:
        raise UsageError(f"workers {args.what}: a name is missing: type 'rchctl workers {args.what} NAME'")
    params: dict[str, Any] = {"name": args.name}
    if off:
        params["off"] = True
    elif args.reason:
        params["reason"] = args.reason
    try:
        view = context.call("workers.drain", params)
    except Failure as failure:
        if failure.kind is Kind.USAGE and failure.hint is None:
            raise Failure(Kind.USAGE, failure.message, hint="rchctl workers list") from failure
        raise
    context.say(_told(view, context))
    return Outcome(view)


def _told(view: dict[str, Any], context: Context) -> str:
    name = one_line(str(view["name"]))
    if not view["drained"]:
        return f"{name} may have new runs\n"
    running = int(view["runs_running"])
    goes_on = f"; {running} running go{'es' if running == 1 else ''} on" if running else ""
    reason = f": {one_line(str(view['reason']))}" if view["reason"] else ""
    drained = context.console.style("drained", "warn")
    return f"{name} is {drained}{reason}; it gets no new run until rchctl workers undrain {name}{goes_on}\n"
