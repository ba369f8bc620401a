"""`tail` of a mock job: what of its log and events is new, held until there is some (spec section 3.3)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from rch.contract.worker_rpc import Code, RpcError, TailRequest, TailResult
from rch_conformance.mock.worker import MockWorker

_CURSOR = re.compile(r"1:(\d{1,18}):(\d{1,9})", re.ASCII)
_MOST_BYTES, _MOST_EVENTS, _MOST_SECONDS = 128 << 10, 1000, 60.0
_LOOK_SECONDS = 0.02


def tail(worker: MockWorker, asked: TailRequest, pause: Callable[[float], bool]) -> TailResult:
    """The news from the cursor on; `pause` sleeps and says whether nobody waits any more."""
    if "tail" not in worker.features:
        raise RpcError(Code.UNKNOWN_OPERATION, "op 'tail' is not known")
    offset, event = _position(asked.cursor)
    first = worker.life(asked.job_id).state
    deadline = time.monotonic() + min(_MOST_SECONDS, max(0.0, asked.wait_seconds or 0.0))
    while True:
        life = worker.life(asked.job_id)
        fresh = len(life.log) > offset or len(life.events) > event or life.over or life.state != first
        if fresh or time.monotonic() >= deadline or pause(_LOOK_SECONDS):
            break
    most = min(_MOST_BYTES, asked.max_bytes or _MOST_BYTES)
    chunk = life.log[offset : offset + most]
    events = life.events[event : event + min(_MOST_EVENTS, asked.max_events or _MOST_EVENTS)]
    offset, event = offset + len(chunk), event + len(events)
    done = life.over and offset == len(life.log) and event == len(life.events)
    return TailResult(
        log_chunk=chunk.decode("ascii"),
        events=events,
        next_cursor=None if done else f"1:{offset}:{event}",
        state=life.state,
        seq=life.seq,
    )


def _position(cursor: str | None) -> tuple[int, int]:
    """Bytes of the log and events that were read."""
    if cursor is None:
        return 0, 0
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise RpcError(Code.INVALID_REQUEST, f"cursor {cursor[:80]!r} is none of this worker's")
    return int(found[1]), int(found[2])
