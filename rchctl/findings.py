"""What stands below a run's log: failed tests and first messages with their places, then the verdict."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rch.contract.errors import Failure
from rchctl.context import Context
from rchctl.render import verdict

if TYPE_CHECKING:
    from rchctl.diagnose.finding import Finding

MOST = 10
"""So many of each kind are shown."""
_LONGEST = 300


def closing(run: dict[str, Any], context: Context, *, quiet: bool = False) -> str:
    """The block that ends a run which was followed (`RunView`); `quiet`: the verdict alone."""
    found = verdict(run, context.console)
    if quiet or context.json or run.get("state") != "FAILED" or not run.get("run_dir"):
        return found
    from rchctl.diagnose.gather import found_in

    try:
        said = found_in(Path(str(run["run_dir"]))).findings
    except Failure:  # it left nothing that can be read: the verdict says why
        return found
    errors = [each for each in said if each.severity == "error"]
    tests = [each for each in errors if each.kind == "test"]
    messages = [each for each in errors if each.kind == "compiler"]
    return _list("failed tests", tests, context) + _list("messages", messages, context) + found


def _list(head: str, found: Sequence[Finding], context: Context) -> str:
    if not found:
        return ""
    mark = context.console.style("✗", "bad")
    lines = [f"{head}:", *(f"  {mark} {_line(each)}" for each in found[:MOST])]
    if len(found) > MOST:
        lines.append(f"  and {len(found) - MOST} more: rchctl report latest")
    return "".join(f"{line}\n" for line in lines)


def _line(finding: Finding) -> str:
    """`path:line:col: what`; of a failed test its name, then what it said."""
    parts = [_path(finding), finding.line, finding.column]
    place = ":".join(str(each) for each in parts if each is not None) if finding.path else ""
    what = f"{finding.test}: {finding.message}" if finding.test else f"error: {finding.message}"
    return f"{place}: {what[:_LONGEST]}" if place else what[:_LONGEST]


def _path(finding: Finding) -> str | None:
    """On this machine, relative below the folder that one stands in; else as the tool named it."""
    if finding.place is None:
        return finding.path
    path = finding.place.path
    try:
        here = os.getcwd()  # noqa: PTH109  (as it is)
    except OSError:
        return path
    return path.removeprefix(f"{here}/")
