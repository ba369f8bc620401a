"""`rchctl metrics`: the daemon's numbers, as a scraper reads them."""

from __future__ import annotations

from rchctl.context import Context, Outcome
from rchctl.parser import VerbParser


def configure(parser: VerbParser) -> None:
    """No arguments of its own."""
    parser.examples(
        "rchctl metrics                                  Prometheus' text format",
        "rchctl metrics | grep rch_runs_total",
        "rchctl metrics --json | jq '.data.samples[] | select(.name == \"rch_runs\")'",
    )


def run(context: Context) -> Outcome:
    """The text for people and scrapers, the samples for scripts."""
    view = context.call("daemon.metrics", {})
    context.say(str(view.get("text", "")))
    return Outcome({"samples": view.get("samples", [])})
