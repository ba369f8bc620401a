"""`rchctl tail`: the log of a run, as it is or as it grows."""

from __future__ import annotations

from rch.contract.errors import Failure, Kind
from rchctl.context import Context, Outcome
from rchctl.follow import Follower
from rchctl.logs import Logs
from rchctl.parser import UsageError, VerbParser, one_of
from rchctl.progress import Progress
from rchctl.render import is_over
from rchctl.request import ACTIONS


def configure(parser: VerbParser) -> None:
    """A run and how much of it."""
    parser.hide("--json")
    parser.add_argument("run", metavar="RUN", help="an id, a beginning of one, or latest")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run is over")
    parser.add_argument("--step", metavar="ACTION", help="that step's log alone: build or test")
    parser.examples(
        "rchctl tail -f latest            follow from another terminal",
        "rchctl tail latest --step test   the test log alone",
        "rchctl tail latest | less -R     the log with its own colours",
    )


def run(context: Context) -> Outcome:
    """Exits 0 once the log is shown, whatever the run's own code is."""
    args = context.args
    if context.json:
        raise UsageError("tail: a log is no JSON: type 'rchctl artifacts RUN --json' for its path")
    if args.step:
        one_of("tail", "step", args.step, ACTIONS)
    client = context.connect()
    view = client.call("runs.get", {"run": args.run})
    context.mark(view)
    steps = [step["action"] for step in view.get("steps", ())]
    if args.step and args.step not in steps:
        raise Failure(
            Kind.USAGE,
            f"run {view['run_id']} has no step {args.step!r}: its steps are {', '.join(steps)}",
            hint=f"rchctl status {view['run_id']}",
        )
    logs = Logs(context.console, action=args.step)
    if args.follow:
        quiet = Progress(context.console, enabled=False)
        view = Follower(
            context, client, str(view["run_id"]), progress=quiet, logs=logs, for_reader=True
        ).follow()
    else:
        client.close()
        logs.finish(view)
    if is_over(view) and logs.gone():
        context.console.note(f"the logs of run {view.get('run_id')} are gone: {view.get('run_dir')}")
    return Outcome({"run_id": view.get("run_id")})
