"""`rchctl status`: the daemon and what it does now, or one run."""

from __future__ import annotations

from typing import Any

from rchctl.commands.list import runs_table
from rchctl.context import Context, Outcome
from rchctl.parser import VerbParser
from rchctl.progress import position
from rchctl.render import duration, is_over, narrowed, state_word, table, verdict
from rchctl.terminal import one_line

_CURRENT = 50


def configure(parser: VerbParser) -> None:
    """A run, or none."""
    parser.add_argument("run", metavar="RUN", nargs="?", help="an id, a beginning of one, or latest")
    parser.examples(
        "rchctl status                    the daemon and the runs that are not over",
        "rchctl status latest             one run, step by step",
        "rchctl status latest --json | jq -r .data.state",
    )


def run(context: Context) -> Outcome:
    """Exits 0 when the question was answered, whatever the run's own code is."""
    if context.args.run:
        view = context.call("runs.get", {"run": context.args.run})
        context.mark(view)
        context.say(one_run(view, context))
        return Outcome(view)
    client = context.connect()
    try:
        health = client.call("daemon.health", {})
        listed = client.call("runs.list", {"limit": _CURRENT})
    finally:
        client.close()
    current = [each for each in listed.get("runs", ()) if not is_over(each)]
    context.say(health_line(health))
    if current:
        context.say(runs_table(current, context))
    return Outcome({"daemon": health, "runs": current})


def health_line(health: dict[str, Any]) -> str:
    """Who the daemon is and what it does, on one line."""
    up = duration(max(health.get("uptime_seconds", 0), 1) * 1000)
    return (
        f"rchd {one_line(health.get('version', '?'))}: {one_line(health.get('status', '?'))},"
        f" pid {health.get('pid')}, up {up}, {health.get('runs_running', 0)} running,"
        f" {health.get('runs_queued', 0)} queued; {one_line(health.get('activity', ''))}\n"
    )


def one_run(view: dict[str, Any], context: Context) -> str:
    """The run and its steps."""
    if is_over(view):
        head = verdict(view, context.console)
    else:
        head = f"{state_word(view)}: {one_line(position(view))}\n" + "".join(
            f"  {name:<10} {one_line(value)}\n"
            for name, value in (
                ("run", view.get("run_id")),
                ("worker", view.get("worker") or "not chosen yet"),
                ("servable", _servable(view)),
                ("narrowed", narrowed(view)),
                ("artifacts", view.get("run_dir")),
            )
            if value
        )
    rows = [
        (
            str(step.get("index", "")),
            str(step.get("action", "")),
            state_word({"state": step.get("state"), "simulated": view.get("simulated")}),
            "-" if step.get("exit_code") is None else str(step["exit_code"]),
            str(step.get("human_summary") or "").split("\n")[0],
        )
        for step in view.get("steps", ())
    ]
    return head + table(("STEP", "ACTION", "STATE", "EXIT", "SUMMARY"), rows, context.console)


def _servable(view: dict[str, Any]) -> str:
    """Whether any worker could serve a waiting run, and why not."""
    words = {"yes": "yes", "no": "no, by no worker", "unknown": "not known"}
    said, why = words.get(str(view.get("servable")), ""), view.get("servable_why")
    return f"{said}: {why}" if said and why else said
