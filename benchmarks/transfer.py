"""`unchanged`, `change` and `upload`: a source on its way to its verification, against rsync and tar."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from ours import Ours, counted, ours
from table import Figure, Found, clocked, in_turns
from theirs import Loopback, loopback, run, tool
from trees import LARGE, QUICK, SMALL, Shape, Tree

from rch.files.paths import worker_paths

UNCHANGED_GOAL, TIME_GOAL, BYTES_GOAL, UPLOAD_GOAL = 0.4, 0.8, 0.3, 1.0
_UPLOADS = {
    "kept as a tar, synced": 'zstd -q -d -o "{far}/f.tar" && sync "{far}/f.tar"',
    "kept compressed, not synced": 'cat > "{far}/f.tar.zst"',
    "unpacked, not synced": 'zstd -q -d | tar -xf - -C "{far}"',
}


def _shapes(*, quick: bool) -> tuple[Shape, ...]:
    return (QUICK,) if quick else (SMALL, LARGE)


def unchanged(rounds: int, *, quick: bool) -> list[Found]:
    """A request for what was requested before."""
    return [_unchanged(shape, rounds, quick=quick) for shape in _shapes(quick=quick)]


def _unchanged(shape: Shape, rounds: int, *, quick: bool) -> Figure:
    with loopback() as around, around.master() as master, ours(around) as we:
        tree = Tree(around.root / "tree", shape)
        we.run(we.submit(tree.root))
        around.rsync("-a", master=master, source=tree.root, into=around.far)
        taken = in_turns(
            rounds,
            {
                "ours": lambda _: clocked(lambda: we.run(we.resubmit(tree.root))),
                "theirs": lambda _: clocked(
                    lambda: around.rsync("-a", master=master, source=tree.root, into=around.far)
                ),
            },
        )
    return Figure(
        name=f"unchanged, {shape.name}",
        ours=taken["ours"],
        theirs=taken["theirs"],
        goal=None if quick else UNCHANGED_GOAL,
    )


def change(rounds: int, *, quick: bool) -> list[Found]:
    """Some files edited, up to the verified source on the worker."""
    found: list[Found] = []
    for shape in _shapes(quick=quick):
        with loopback() as around, around.master() as master, ours(around) as we:
            tree = Tree(around.root / "tree", shape)
            we.run(we.submit(tree.root))
            around.rsync("-ac", master=master, source=tree.root, into=around.far)
            for count in (1,) if quick else (1, 7, 100):
                found += _change(we, around, master, tree, count, rounds, quick=quick)
    return found


def _change(
    we: Ours, around: Loopback, master: str, tree: Tree, count: int, rounds: int, *, quick: bool
) -> list[Figure]:
    def edit(number: int) -> None:
        tree.edit(count, number)
        we.rest()

    def we_send(_: int) -> tuple[float, int]:
        with counted() as sizes:
            lasted = clocked(lambda: we.run(we.submit(tree.root)))
        return lasted, sum(sizes)

    def they_send(_: int) -> tuple[float, int]:
        sent: list[int] = []
        lasted = clocked(
            lambda: sent.append(around.rsync("-ac", master=master, source=tree.root, into=around.far))
        )
        return lasted, sent[0]

    taken = in_turns(rounds, {"ours": we_send, "theirs": they_send}, edit)
    name = f"{count} changed of {tree.shape.name}"
    return [
        Figure(
            name=f"change, {name}",
            unit=unit,
            ours=[one[place] for one in taken["ours"]],
            theirs=[one[place] for one in taken["theirs"]],
            goal=None if quick else goal,
        )
        for place, unit, goal in ((0, "ms", TIME_GOAL), (1, "bytes", BYTES_GOAL))
    ]


def upload(rounds: int, *, quick: bool) -> list[Found]:
    """A source that the worker has never seen, up to its word that it is verified and durable."""
    return [figure for shape in _shapes(quick=quick) for figure in _upload(shape, rounds, quick=quick)]


def _upload(shape: Shape, rounds: int, *, quick: bool) -> list[Figure]:
    with loopback() as around, around.master() as master, ExitStack() as stack:
        tree = Tree(around.root / "tree", shape)
        now = [stack.enter_context(ours(around))]

        def before(number: int) -> None:
            """Nobody knows anything of the source, and a connection stands."""
            stack.close()
            for old in (now[0].paths.spool, worker_paths(around.user.env).sources, *around.far.iterdir()):
                shutil.rmtree(old, ignore_errors=True)
            for index in range(len(_UPLOADS)):
                (around.far / f"{index}").mkdir()
            tree.edit(1, 1000 + number)
            now[0] = stack.enter_context(ours(around))
            now[0].rest()

        sides: dict[str, Callable[[int], float]] = {
            "ours": lambda _: clocked(lambda: now[0].run(now[0].submit(tree.root)))
        }
        for index, (name, command) in enumerate(_UPLOADS.items()):
            argv = _piped(around, master, tree.root, command.format(far=around.far / str(index)))
            sides[name] = partial(_timed_run, argv)
        taken = in_turns(rounds, sides, before)
    return [
        Figure(
            name=f"upload, {shape.name}; theirs {name}",
            ours=taken["ours"],
            theirs=taken[name],
            goal=UPLOAD_GOAL if index == 0 and not quick else None,
        )
        for index, name in enumerate(_UPLOADS)
    ]


def _timed_run(argv: list[str], _: int) -> float:
    return clocked(lambda: run(argv))


def _piped(around: Loopback, master: str, root: Path, command: str) -> list[str]:
    """`command` runs at the far end; it holds no single quote."""
    line = f'cd "$1" && shift && tar --sort=name -cf - . | zstd -q -3 -T2 | "$@" \'{command}\''
    ssh = [*around.ssh(master=master), around.host]
    return [tool("bash"), "-o", "pipefail", "-c", line, "upload", str(root), *ssh]
