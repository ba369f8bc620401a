"""`rchctl wait`: stay until a run is over, exit with its code."""

from __future__ import annotations

from rchctl.board import shown
from rchctl.context import Context, Outcome
from rchctl.ending import ending
from rchctl.follow import Follower
from rchctl.parser import VerbParser
from rchctl.render import exit_code, run_error


def configure(parser: VerbParser) -> None:
    """One run."""
    parser.add_argument("run", metavar="RUN", help="an id, an unambiguous beginning of one, or latest")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress: the verdict alone")
    parser.examples(
        "rchctl wait latest",
        "rchctl wait 0198c2 --json | jq .exit_code",
    )


def run(context: Context) -> Outcome:
    """Ctrl-C leaves the run alone: it is the daemon's."""
    client = context.connect()
    named = client.call("runs.get", {"run": context.args.run})
    context.mark(named)
    show = not context.args.quiet and (not context.json or context.console.live)
    progress = shown(context.console, enabled=show)
    ended = Follower(context, client, str(named["run_id"]), progress=progress).follow()
    progress.end()
    context.say(ending(ended, context, quiet=context.args.quiet))
    return Outcome(ended, exit_code(ended), run_error(ended))
