"""What a run would be, as people read it: the jobs, the worker, and every other worker's reason."""

from __future__ import annotations

import shlex
from typing import Any

from rchctl.amounts import counted
from rchctl.console import Console
from rchctl.context import Context, Outcome
from rchctl.render import size, table
from rchctl.terminal import one_line

# Workers may have to be probed twice, each up to the longest connect timeout, and the source read.
PLAN_SECONDS = 900.0
_HEADS = ("WORKER", "SERVES", "PRIORITY", "ASKED", "TOOLCHAIN", "DESTINATION", "WHY")


def dry_run(context: Context, params: dict[str, Any]) -> Outcome:
    """Show what `runs.submit` of these parameters would be; it exits as that run would fail now."""
    view = context.call("runs.plan", params, timeout=PLAN_SECONDS)
    context.mark(view["selection"])
    context.say(_plan(view, context.console))
    return outcome(view, context)


def outcome(view: dict[str, Any], context: Context) -> Outcome:
    """Exit 0, or with the code of the failure that the view has."""
    failure = view.get("failure")
    if not isinstance(failure, dict):
        return Outcome(view)
    error = {key: failure.get(key) for key in ("kind", "subkind", "message", "hint", "exit_code")}
    if not context.json:
        context.console.error(str(failure.get("message")), failure.get("hint"))
    return Outcome(view, int(failure.get("exit_code") or 1), error)


def workers_table(view: dict[str, Any], console: Console) -> str:
    """One row a worker, in the order of selection."""
    rows = [
        (
            one_line(each["worker"]),
            "yes" if each["serves"] else "no",
            str(each["priority"]),
            _age(each),
            _toolchain(each),
            _where(each),
            one_line(each["reason"]),
        )
        for each in view.get("workers", ())
    ]
    return table(_HEADS, rows, console) if rows else ""


def _age(candidate: dict[str, Any]) -> str:
    if candidate.get("age_seconds") is None:
        return "-"
    return "now" if candidate.get("snapshot") == "fresh" else f"{candidate['age_seconds']} s ago"


def _toolchain(candidate: dict[str, Any]) -> str:
    """The name that people give a toolchain."""
    found = candidate.get("toolchain") or {}
    if "xcode_build" in found:
        return f"Xcode {candidate.get('xcode_version') or ''} ({found['xcode_build']})".replace("  ", " ")
    return f"Swift {found['swift_version']}" if "swift_version" in found else "-"


def _where(candidate: dict[str, Any]) -> str:
    found = candidate.get("destination") or {}
    if not found:
        return "-"
    return str(candidate.get("destination_value") or f"{found.get('platform')} {found.get('os_version')}")


def _plan(view: dict[str, Any], console: Console) -> str:
    selection = view["selection"]
    head = f"dry run of {one_line(selection['project'])}: nothing is run"
    lines = [console.style(head, "warn"), ""]
    chosen = next((each for each in selection["workers"] if each["worker"] == selection["chosen"]), None)
    lines += _facts(view, chosen)
    for step in view["steps"]:
        lines += ["", *_step(step, console)]
    for warning in view.get("warnings", ()):
        lines += ["", f"{console.style('warning:', 'warn')} {one_line(warning)}"]
    return "\n".join([*lines, "", workers_table(selection, console)])


def _facts(view: dict[str, Any], chosen: dict[str, Any] | None) -> list[str]:
    source, times = view["source"], view["timeouts"]
    facts = []
    if chosen is not None:
        where = "embedded worker on this machine" if view["selection"]["embedded"] else chosen["host"]
        facts += [
            ("worker", one_line(f"{chosen['worker']} ({where}): {chosen['reason']}")),
            ("toolchain", _members(chosen.get("toolchain"))),
            ("destination", _members(chosen.get("destination"))),
        ]
        if chosen.get("udid"):
            facts.append(("device", one_line(chosen["udid"])))
    else:
        facts.append(("worker", "none would serve"))
    facts += [
        ("source", f"{source['source_sha256']}"),
        ("", f"{counted(source['files'], 'file')}, {size(source['compressed_bytes'])} to send"),
        ("timeouts", _members(times)),
    ]
    if chosen is not None and chosen.get("limits"):
        facts.append(("limits", _members(chosen["limits"])))
    return [f"  {name:<12} {value}" for name, value in facts]


def _step(step: dict[str, Any], console: Console) -> list[str]:
    lines = [f"step {step['index']}: {one_line(step['action'])}"]
    if step.get("argv"):
        lines.append(f"  {'runs':<12} {one_line(shlex.join(step['argv']))}")
        lines.append(f"  {'job_key':<12} {step['job_key']}")
    else:
        lines.append(f"  {'asked':<12} {one_line(shlex.join(step['original_argv']))}")
    if step.get("scope"):
        part = one_line(shlex.join(step["scope"]))
        lines.append(f"  {console.style('less than the full gate', 'warn')}: {part}")
    lines += [
        f"  {console.style(one_line(reason['code']), 'bad')}  {one_line(reason['message'])}"
        for reason in step.get("reasons", ())
    ]
    return lines


def _members(found: dict[str, Any] | None) -> str:
    return one_line(" ".join(f"{key}={value}" for key, value in (found or {}).items())) or "-"
