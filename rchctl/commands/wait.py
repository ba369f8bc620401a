"""`rchctl wait`: stay until a run is over, exit with its code."""

from __future__ import annotations

from rchctl.context import Context, Outcome
from rchctl.ending import add_end_options, at_end
from rchctl.follow import Follower
from rchctl.parser import VerbParser
from rchctl.progress import Progress
from rchctl.render import exit_code, run_error, verdict


def configure(parser: VerbParser) -> None:
    """One run."""
    parser.add_argument("run", metavar="RUN", help="an id, an unambiguous beginning of one, or latest")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress: the verdict alone")
    add_end_options(parser)
    parser.examples(
        "rchctl wait latest",
        "rchctl wait latest --junit junit.xml",
        "rchctl wait 0198c2 --json | jq .exit_code",
    )


def run(context: Context) -> Outcome:
    """Ctrl-C leaves the run alone: it is the daemon's."""
    ending = at_end(context)
    client = context.connect()
    named = client.call("runs.get", {"run": context.args.run})
    context.mark(named)
    show = not context.args.quiet and (not context.json or context.console.live)
    progress = Progress(context.console, enabled=show)
    ended = Follower(context, client, str(named["run_id"]), progress=progress).follow()
    context.say(verdict(ended, context.console))
    if ending is not None:
        ending(ended)
    return Outcome(ended, exit_code(ended), run_error(ended))
