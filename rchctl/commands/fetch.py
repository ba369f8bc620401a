"""`rchctl fetch`: copies of a run's files, each held to its digest once more on the way."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rch.contract.errors import Failure, Kind
from rchctl.amounts import counted
from rchctl.context import Context, Outcome
from rchctl.indices import Item, items, manifest_digests
from rchctl.parser import VerbParser, nearest
from rchctl.render import size

_BLOCK = 1 << 20


def configure(parser: VerbParser) -> None:
    """A run, which of its files, and where they go."""
    parser.add_argument("run", metavar="RUN", help="an id, a beginning of one, latest, or a run's folder")
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help="build.log, test/junit.xml, result.xcresult; none: all"
    )
    parser.add_argument("--to", metavar="DIR", help="where they go (rch-RUN_ID in this folder)")
    parser.add_argument("--force", action="store_true", help="write over files that are there")
    parser.examples(
        "rchctl fetch latest",
        "rchctl fetch latest junit.xml --to ci-results",
        "rchctl fetch latest test/result.xcresult --to ~/Desktop",
    )


def run(context: Context) -> Outcome:
    """Exits 70 where a file is missing or is not the one that was verified; what was copied stays."""
    from rchctl.report.places import find_run

    args = context.args
    folder = find_run(args.run, context.paths.artifacts, Path.cwd())
    chosen = _chosen(items(folder), args.names, folder.name)
    target = Path(args.to) if args.to else Path(f"rch-{folder.name}")
    digests = manifest_digests(folder)
    copied: list[dict[str, Any]] = []
    for item in chosen:
        for source, name in _files(item):
            place = target / item.scope / name
            length = _copy(source, place, digests.get(source), force=args.force)
            copied.append({"scope": item.scope, "path": str(place), "size": length})
    total = sum(each["size"] for each in copied)
    context.say(f"{counted(len(copied), 'file')}, {size(total)}, in {target}\n")
    return Outcome({"run_id": folder.name, "to": str(target.absolute()), "files": copied})


def _chosen(found: list[Item], names: list[str], run_id: str) -> list[Item]:
    """The items that are meant, each once; all that are there without `names`."""
    if not names:
        wanted = [item for item in found if not item.missing]
    else:
        wanted = []
        for name in names:
            matches = [item for item in found if item.answers_to(name)]
            if not matches:
                near = nearest(name, [item.path.name for item in found])
                mean = f": did you mean {near!r}?" if near else ""
                raise Failure(
                    Kind.USAGE,
                    f"run {run_id} has no file {name!r}{mean}",
                    hint=f"rchctl artifacts {run_id}",
                )
            wanted += matches
    once = {(item.scope, item.path): item for item in wanted}
    for item in once.values():
        if item.missing:
            raise Failure(
                Kind.ARTIFACTS, f"{item.path} is not there, though an index names it", subkind="GONE"
            )
    return list(once.values())


def _files(item: Item) -> Iterator[tuple[Path, Path]]:
    """The plain files of an item, each with its name below the scope's folder."""
    if item.kind == "file":
        yield item.path, Path(item.path.name)
        return
    for where, _, names in os.walk(item.path):
        for name in sorted(names):
            path = Path(where, name)
            yield path, path.relative_to(item.path.parent)


def _copy(source: Path, place: Path, digest: str | None, *, force: bool) -> int:
    """Copy one file, whole or not at all; its length in bytes."""
    if place.exists() and not force:
        raise Failure(Kind.USAGE, f"{place} is there already", hint="add --force, or another --to")
    draft = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        seen = hashlib.sha256()
        length = 0
        fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as reader, draft.open("xb") as writer:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise Failure(Kind.ARTIFACTS, f"{source} is no file", subkind="INTEGRITY_MISMATCH")
            while block := reader.read(_BLOCK):
                seen.update(block)
                writer.write(block)
                length += len(block)
        if digest is not None and seen.hexdigest() != digest:
            raise Failure(
                Kind.ARTIFACTS,
                f"{source} is not the file that was verified: sha256 {seen.hexdigest()}, not {digest}",
                subkind="INTEGRITY_MISMATCH",
                hint="rchctl check --read-data",
            )
        draft.replace(place)
    except OSError as error:
        where = error.filename or place
        raise Failure(Kind.ARTIFACTS, f"{where}: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)
    return length
