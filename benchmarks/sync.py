"""`sync`: a warm workspace brought to a new source and verified, alone, against `rsync -az --delete`."""

from __future__ import annotations

import time
from pathlib import Path

from ours import ours
from table import Figure, Found, clocked, in_turns
from theirs import loopback
from trees import QUICK, TWELVE, Tree

from rch.contract.records import Accepted
from worker_agent.sync import collector_at_rest, sync_tree
from worker_agent.sync_record import NOTHING, decode_record, encode_record
from worker_agent.worker import Worker

NEW_LINE_GOAL, MASTER_GOAL = 0.3, 0.55
SETTLE_SECONDS = 0.06  # after an edit: stamps that are as young as a tick prove nothing
_SETTLED_NS = 1_000_000


class Workspace:
    """The worker's own sync of one folder, with the record of it that stays on disk: a thin adapter."""

    def __init__(self, worker: Worker, folder: Path) -> None:
        self._sources = worker.sources
        self._folder = folder
        self._record = folder / "record"
        self._used = 0
        (folder / "tree").mkdir(parents=True)
        self._record.write_bytes(encode_record(NOTHING))

    def sync(self, source_sha256: str) -> int:
        """Bring the tree to the source, as a job that finds its slot does; the files that were written."""
        record = decode_record(self._record.read_bytes())
        with collector_at_rest(), self._sources.open(source_sha256) as reader:
            synced = sync_tree(
                self._folder / "tree",
                self._sources.members(source_sha256),
                record,
                reader,
                newer_than=self._used,
                aside=lambda: self._folder / "aside",
            )
        self._record.write_bytes(encode_record(synced.record))
        return synced.written

    def settle(self) -> None:
        """The job is over."""
        self._used = time.time_ns() + _SETTLED_NS


def sync(rounds: int, *, quick: bool) -> list[Found]:
    """One edit in 12,000 files; the source is at the worker, the workspace holds the one before."""
    with loopback() as around, ours(around) as we, around.master() as master:
        tree = Tree(around.root / "tree", QUICK if quick else TWELVE)
        workspace = Workspace(Worker(around.user.env), around.root / "slot")
        now: list[Accepted] = [we.run(we.take(tree.root))]
        we.run(we.upload(now[0]))
        workspace.sync(now[0].source.source_sha256)
        for into in ("new", "kept"):
            (around.far / into).mkdir()
            around.rsync("-az", master=master, source=tree.root, into=around.far / into)

        def before(number: int) -> None:
            workspace.settle()
            tree.edit(1, number)
            time.sleep(SETTLE_SECONDS)
            now[0] = we.run(we.take(tree.root))
            we.run(we.has_source(now[0]))
            we.run(we.upload(now[0]))

        def we_sync(_: int) -> float:
            written: list[int] = []
            lasted = clocked(lambda: written.append(workspace.sync(now[0].source.source_sha256)))
            if written != [1]:
                raise RuntimeError(f"one file was edited, {written} were written")
            return lasted

        def they_sync(line: str | None, into: str) -> float:
            words = ("-az", "--delete")
            place = around.far / into
            return clocked(lambda: around.rsync(*words, master=line, source=tree.root, into=place))

        taken = in_turns(
            rounds,
            {
                "ours": we_sync,
                "new": lambda _: they_sync(None, "new"),
                "kept": lambda _: they_sync(master, "kept"),
            },
            before,
        )
    return [
        Figure(
            name=f"sync, {tree.shape.name}; theirs {name}",
            ours=taken["ours"],
            theirs=taken[side],
            goal=None if quick else goal,
        )
        for side, name, goal in (
            ("new", "over a new line", NEW_LINE_GOAL),
            ("kept", "over a ControlMaster", MASTER_GOAL),
        )
    ]
