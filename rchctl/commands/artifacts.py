"""`rchctl artifacts`: every file of a run, by way of its indices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rch.contract.errors import Failure, Kind
from rchctl.context import Context, Outcome
from rchctl.indices import Item, items, run_index
from rchctl.parser import VerbParser, nearest
from rchctl.render import size, table
from rchctl.report.places import find_run
from rchctl.terminal import one_line


def configure(parser: VerbParser) -> None:
    """A run, and perhaps one of its files."""
    parser.add_argument("run", metavar="RUN", help="an id, a beginning of one, or latest")
    parser.add_argument(
        "--path", metavar="NAME", help="print the path of that one: build.log, test/junit.xml"
    )
    parser.examples(
        "rchctl artifacts latest",
        'less "$(rchctl artifacts latest --path build/build.log)"',
        "rchctl artifacts latest --json | jq -r '.data.files[].path'",
    )


def run(context: Context) -> Outcome:
    """Exits 70 when a file that an index names is not there."""
    view = _on_disk(context) or context.call("runs.get", {"run": context.args.run})
    context.mark(view)
    run_id, run_dir = str(view.get("run_id")), Path(str(view.get("run_dir")))
    found = items(run_dir)
    if context.args.path:
        found = [_named(found, context.args.path, run_id)]
        context.say_value(str(found[0].path))
    else:
        context.say(f"{one_line(run_dir)}\n")
        context.say(_listing(found, run_dir, context))
    if missing := [item for item in found if item.missing]:
        raise Failure(
            Kind.ARTIFACTS,
            f"run {run_id}: the indices name {len(missing)} that are not there, first {missing[0].path}",
            subkind="GONE",
            data={"missing": [str(item.path) for item in missing]},
        )
    data = {"run_id": run_id, "run_dir": str(run_dir), "files": [item.as_json() for item in found]}
    return Outcome({**data, "simulated": bool(view.get("simulated"))})


def _on_disk(context: Context) -> dict[str, Any] | None:
    """The run as its folder has it, which needs no daemon; None where there is no such folder."""
    try:
        run_dir = find_run(context.args.run, context.paths.artifacts, context.paths.artifacts)
        index = run_index(run_dir)
    except Failure:
        return None
    return {"run_id": run_dir.name, "run_dir": str(run_dir), "simulated": index.get("simulated")}


def _named(found: list[Item], wanted: str, run_id: str) -> Item:
    matches = [item for item in found if item.answers_to(wanted)]
    if len({item.path for item in matches}) == 1:
        return matches[0]
    if matches:
        choices = ", ".join(f"{item.scope}/{item.path.name}" for item in matches)
        raise Failure(Kind.USAGE, f"{wanted!r} is more than one file: {choices}", hint="name one of them")
    near = nearest(wanted, [item.path.name for item in found])
    raise Failure(
        Kind.USAGE,
        f"run {run_id} has no file {wanted!r}" + (f": did you mean {near!r}?" if near else ""),
        hint=f"rchctl artifacts {run_id}",
    )


def _listing(found: list[Item], run_dir: Path, context: Context) -> str:
    rows = [
        (
            item.scope,
            item.name,
            {"missing": "MISSING", "directory": "folder"}.get(item.kind) or size(item.size),
            str(item.path.relative_to(run_dir)),
        )
        for item in found
    ]
    heads = ("SCOPE", "NAME", "SIZE", "PATH")
    if not context.console.out_is_terminal or _width(heads, rows) <= context.console.width:
        return table(heads, rows, context.console)
    # A path is there to be copied: where it has no room beside the others it has a line of its own, whole.
    told = table(heads[:3], [row[:3] for row in rows], context.console).splitlines(keepends=True)
    paths = (f"  {one_line(row[3])}\n" for row in rows)
    return told[0] + "".join(f"{line}{path}" for line, path in zip(told[1:], paths, strict=True))


def _width(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Of a line with all columns, two blanks between them."""
    cells = [heads, *(tuple(map(one_line, row)) for row in rows)]
    return sum(max(map(len, column)) + 2 for column in zip(*cells, strict=True)) - 2
