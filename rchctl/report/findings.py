"""What a failed run found, from its published sets: failed tests and messages, with local places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from rch.contract.errors import Failure
from rch.contract.records import BuildSummary, TestSummary
from rchctl.context import Context
from rchctl.indices import run_index, step_items, steps_of
from rchctl.report.records import Reading
from rchctl.terminal import one_line

MOST = 10
"""So many of each kind are shown."""
_LONGEST = 300


class Finding(NamedTuple):
    """One line. `place` is empty where the tool named none."""

    place: str
    what: str


def findings(run: Mapping[str, Any], context: Context) -> str:
    """At most ten failed tests and ten messages of a run (`RunView`); empty where its records have none."""
    try:
        places = _Places(Path(str(run.get("root"))), Path.cwd())
    except OSError:  # the folder that one stands in is gone
        places = _Places(Path(str(run.get("root"))), Path("/"))
    tests: list[Finding] = []
    messages: list[Finding] = []
    for build, failed in _records(Path(str(run.get("run_dir")))):
        if build is not None and not build.succeeded:
            messages += _messages(build, places)
        if failed is not None:
            tests += _tests(failed, places)
    return _list("failed tests", tests, context) + _list("messages", messages, context)


def _records(run_dir: Path) -> Iterator[tuple[BuildSummary | None, TestSummary | None]]:
    reading = Reading(run_dir)
    try:
        for step in steps_of(run_index(run_dir)):
            named = {item.name: item.path for item in step_items(run_dir, step) if item.kind == "file"}
            yield (
                reading.record(named.get("build_summary"), BuildSummary),
                reading.record(named.get("test_summary"), TestSummary),
            )
    except Failure:
        return


def _tests(found: TestSummary, places: _Places) -> list[Finding]:
    return [
        Finding(
            places.of(each.path, each.line),
            f"{_test_name(each.suite, each.name)}: {_first_line(each.message) or 'failed'}",
        )
        for each in found.failures
    ]


def _test_name(suite: str, name: str) -> str:
    return name if not suite or name.startswith(f"{suite}.") else f"{suite}.{name}"


def _messages(found: BuildSummary, places: _Places) -> list[Finding]:
    """Errors; warnings alone only where there is no error."""
    errors = [each for each in found.diagnostics if each.severity == "error"]
    return [
        Finding(
            places.of(each.path, each.line, each.column), f"{each.severity}: {_first_line(each.message)}"
        )
        for each in errors or found.diagnostics
    ]


def _first_line(text: str) -> str:
    return one_line(text.strip().partition("\n")[0])[:_LONGEST]


def _list(head: str, found: Sequence[Finding], context: Context) -> str:
    if not found:
        return ""
    style = context.console.style
    lines = [f"{head}:"]
    for each in found[:MOST]:
        place = f"{each.place}: " if each.place else ""
        lines.append(f"  {style('✗', 'bad')} {place}{each.what}")
    if len(found) > MOST:
        lines.append(f"  and {len(found) - MOST} more: rchctl report latest")
    return "".join(f"{line}\n" for line in lines)


class _Places:
    """Paths of a run's tree as those of the project on this machine, so that a terminal can open them."""

    def __init__(self, root: Path, here: Path) -> None:
        self._root = root
        self._here = here

    def of(self, path: str | None, line: int | None, column: int | None = None) -> str:
        """`path:line:col`: relative below the folder that one stands in, absolute elsewhere."""
        if path is None:
            return ""
        told = PurePosixPath(path)
        if not told.is_absolute() and ".." not in told.parts and (self._root / told).is_file():
            local = self._root / told
            near = local.is_relative_to(self._here)
            path = str(local.relative_to(self._here) if near else local)
        return ":".join([one_line(path), *(str(each) for each in (line, column) if each is not None)])
