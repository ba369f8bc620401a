"""`bundle`: a tree into a compressed, durable bundle with its digests, against tar, sha256sum and zstd."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from table import Figure, Found, clocked, in_turns
from theirs import run, tool
from trees import LARGE, QUICK, SMALL, Shape, Tree

from rchd.edges.snapshot import SnapshotOptions, take

GOAL = 0.6
THREADS = min(4, os.cpu_count() or 1)  # as many as `rchd.edges.spool` takes
# $1 is the tree, $2 a new folder, $3 the threads.
COMMAND = """set -o pipefail
cd "$1" && tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - . \
 | tee >(sha256sum > "$2/sha256") | zstd -q -3 -T"$3" -o "$2/out.tar.zst"
"""


def theirs(root: Path, folder: Path) -> None:
    """The digest is not waited for."""
    folder.mkdir()
    run([tool("bash"), "-c", COMMAND, "bundle", str(root), str(folder), str(THREADS)])


def ours(root: Path, folder: Path) -> None:
    """A fresh spool each time."""
    take(root, SnapshotOptions(), folder)


def bundle(rounds: int, *, quick: bool) -> list[Found]:
    """Each tree, with a new spool in each round."""
    return [_one(shape, rounds) for shape in ((QUICK,) if quick else (SMALL, LARGE))]


def _one(shape: Shape, rounds: int) -> Figure:
    with tempfile.TemporaryDirectory(prefix="rch-b") as name:
        place = Path(name)
        tree = Tree(place / "tree", shape)

        def before(_: int) -> None:
            for old in place.glob("out-*"):
                shutil.rmtree(old)

        taken = in_turns(
            rounds,
            {
                "ours": lambda number: clocked(lambda: ours(tree.root, place / f"out-a{number}")),
                "theirs": lambda number: clocked(lambda: theirs(tree.root, place / f"out-b{number}")),
            },
            before,
        )
    return Figure(
        name=f"bundle, {shape.name}",
        ours=taken["ours"],
        theirs=taken["theirs"],
        goal=None if shape is QUICK else GOAL,
    )
