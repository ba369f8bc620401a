"""`rchctl submit`: a run for the daemon alone."""

from __future__ import annotations

from rchctl.commands.verify import add_run_options, submit_params
from rchctl.context import Context, Outcome
from rchctl.live import LiveRun
from rchctl.parser import VerbParser


def configure(parser: VerbParser) -> None:
    """As `verify`, without what a watcher needs."""
    add_run_options(parser)
    parser.examples(
        "rchctl submit                         prints the run's id",
        'id=$(rchctl submit) && rchctl wait "$id"',
        "rchctl submit --json | jq -r .data.run_id",
    )


def run(context: Context) -> Outcome:
    """Accepted and durable is all that it waits for."""
    show = context.console.live and not context.json
    return LiveRun(context, submit_params(context), show_log=False, show_progress=show).detach()
