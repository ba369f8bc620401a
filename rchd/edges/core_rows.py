"""Between the core and a store: runs and news as rows, and the core that a start makes of them."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from pathlib import Path

import msgspec

from rchd.core import effects as fx
from rchd.core import model as m
from rchd.core.daemon import Core
from rchd.edges.store_rows import Batch, EventRow, JobRow, RunRow, StateStore

_RUN = msgspec.json.Decoder(m.Run)


def load_core(store: StateStore, artifacts: Path) -> Core:
    """The core with every run that has not ended, which is never garbage to the collector.

    Ten thousand runs are some hundred thousand objects: to walk them again and again while they are
    made took most of a start, and each later walk would hold up all clients.
    """
    gc.disable()
    try:
        loaded = store.load(active_only=True)
        runs = [decode_run(row.doc) for row in loaded.runs]
        core = Core(str(artifacts), runs, last_seq=loaded.last_event_seq)
        gc.freeze()
    finally:
        gc.enable()
    return core


def encode_run(run: m.Run) -> bytes:
    """A run as its row holds it."""
    return msgspec.json.encode(run)


def decode_run(doc: bytes) -> m.Run:
    """A run from its row."""
    return _RUN.decode(doc)


def rows_of(dirty: Iterable[m.Run], effects: Iterable[fx.Effect]) -> Batch:
    """What a batch commits: the rows of its runs and their jobs, and its durable news."""
    runs: list[RunRow] = []
    jobs: list[JobRow] = []
    for run in dirty:
        runs.append(
            RunRow(
                run_id=run.run_id,
                seq=run.seq,
                state=run.state,
                created_at=run.created_at,
                updated_at=run.updated_at,
                client_token=run.accepted.client_token,
                doc=encode_run(run),
            )
        )
        jobs += [
            JobRow(
                job_id=run.accepted.steps[index].job_id,
                run_id=run.run_id,
                step_index=index,
                seq=step.seq,
                state=step.state,
                doc=msgspec.json.encode(step),
            )
            for index, step in enumerate(run.steps)
            if step.state is not None
        ]
    events = [
        EventRow(
            seq=effect.seq,
            run_id=effect.run_id,
            at=effect.at,
            type=effect.type,
            doc=msgspec.json.encode(effect.view),
        )
        for effect in effects
        if isinstance(effect, fx.Announce) and effect.type == "run"
    ]
    return Batch(runs=tuple(runs), jobs=tuple(jobs), events=tuple(events))
