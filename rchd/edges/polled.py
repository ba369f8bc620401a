"""News of a job at a worker that offers no `tail`: its status, asked for now and then (section 3.3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from rch.contract.states import is_terminal
from rch.contract.worker_rpc import JobRequest, StatusResult, TailRequest, TailResult

PAUSE_SECONDS = 1.0
SAID = "[rchd: this worker shows no log while it works; build.log comes with the artifacts]\n"
"""The live log of such a job: nobody should wait at an empty one."""

Status = Callable[[JobRequest], Awaitable[StatusResult]]


async def polled(status: Status, request: TailRequest) -> TailResult:
    """The answer to `request`, made of statuses; its cursor is the `seq` that was told last.

    As a worker would, it holds the answer until there is news or `wait_seconds` are over.
    """
    until = anyio.current_time() + (request.wait_seconds or 0.0)
    while True:
        found = await status(JobRequest(job_id=request.job_id))
        left = until - anyio.current_time()
        if str(found.seq) != request.cursor or is_terminal(found.state) or left <= 0:
            return _news(request, found)
        await anyio.sleep(min(PAUSE_SECONDS, left))


def _news(request: TailRequest, found: StatusResult) -> TailResult:
    return TailResult(
        log_chunk=SAID if request.cursor is None else "",
        events=(),
        next_cursor=None if is_terminal(found.state) else str(found.seq),
        state=found.state,
        seq=found.seq,
    )
