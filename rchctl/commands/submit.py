"""`rchctl submit`: a run for the daemon alone."""

from __future__ import annotations

from rchctl.context import Context, Outcome
from rchctl.live import LiveRun
from rchctl.parser import VerbParser
from rchctl.request import add_run_options, submit_params


def configure(parser: VerbParser) -> None:
    """As `verify`, without what a watcher needs."""
    add_run_options(parser)
    parser.examples(
        "rchctl submit                         prints the run's id",
        'id=$(rchctl submit) && rchctl wait "$id"',
        "rchctl submit --json | jq -r .data.run_id",
        "rchctl submit --group save --supersede --origin editor    at each save: the newest alone counts",
        'rchctl submit --client-token "$CI_JOB_ID"                 a job that is tried again: the same run',
    )


def run(context: Context) -> Outcome:
    """Accepted and durable is all that it waits for."""
    show = context.console.live and not context.json
    params = submit_params(context, stays=False)
    return LiveRun(context, params, show_log=False, show_progress=show).detach()
