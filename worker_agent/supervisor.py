"""The detached owner of one job: it holds the job's lock from before `submit` answers to its end.

It writes RUNNING before anybody is told, and the terminal state after the set is sealed and
the slot is free. Whatever cuts it short, the lock is free at once and `submit` sees by the
files how far it came (spec sections 3.3, 8; faults W1, W3, W4, W9, W11).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from rch.contract.records import JobStateRecord
from rch.contract.states import JobState
from rch.files.durable import is_no_space
from rch.files.locks import FileLock
from worker_agent.life import Life, note_trace
from worker_agent.nursery import take_a_name
from worker_agent.worker import Worker

if TYPE_CHECKING:  # it comes in once the submitter has its answer: it takes its time
    from worker_agent.execution import Execution


NAME = "rch-supervise"
"""What a supervisor is called in lists of processes; at most 15 letters."""
_SPACE_PATIENCE_SECONDS = 600.0
_SPACE_LOOK_SECONDS = 0.5

T = TypeVar("T")


def supervise(worker: Worker, job_id: str, lock_fd: int, ready_fd: int) -> int:
    """Own the job behind the lock `lock_fd`; say its state and `seq` on `ready_fd` once that is durable."""
    # Ours until the process ends: letting go is the last thing that it does.
    lock = FileLock.adopt(lock_fd, worker.jobs.lock_path(job_id))
    lock.describe(f"job {job_id}")
    take_a_name(NAME)
    os.set_inheritable(ready_fd, False)
    for number in (signal.SIGHUP, signal.SIGINT):
        # A handler, not SIG_IGN: a tool would inherit that, and never heed the INT of a cancel.
        signal.signal(number, lambda _number, _frame: None)
    request = worker.jobs.request(job_id)
    if request is None:
        raise FileNotFoundError(f"job {job_id} has no request")
    life = Life(worker.jobs, request)
    life.begin()
    with suppress(BrokenPipeError):
        os.write(ready_fd, f"{life.state.state} {life.state.seq}\n".encode())
    os.close(ready_fd)
    _stay_awake()
    _carry_out(worker, life)
    lock.release()
    return 0


def _carry_out(worker: Worker, life: Life) -> None:
    """Execute or explain why not, seal what there is, come to the end; nothing escapes it."""
    from worker_agent.execution import Execution

    job_id = life.request.job.job_id
    gone = worker.jobs.end_leftovers(job_id)
    execution = Execution(worker, life)
    if life.over is None:
        execution.run()
        gone = worker.jobs.end_leftovers(job_id)
    patience = Patience(_SPACE_PATIENCE_SECONDS)
    end = _sealed(execution, patience)
    _remember(worker, life, end)
    execution.leave()
    if end is None:  # there is no set to fetch, but the job is at its end and says so
        cancelled = life.state.state == JobState.CANCEL_REQUESTED
        end = life.moved(JobState.CANCELLED if cancelled else JobState.FAILED)
    if gone:
        patience.outlast(lambda: worker.leases.drop(job_id))
    patience.outlast(lambda: life.end_with(end))
    execution.clean_up()


def _remember(worker: Worker, life: Life, end: JobStateRecord | None) -> None:
    """Have a success answer for later jobs, before anybody hears of it; it does not hang on that."""
    if end is None or end.state != JobState.SUCCEEDED or life.attempt > 1:
        return
    from worker_agent.results import cache

    try:
        key = cache.key_of(worker, life.request.job)
        if key is not None:
            cache.store(worker, key, life.request.job, end.updated_at)
    except Exception:  # noqa: BLE001  (whatever it is, the job comes to an end)
        note_trace()


def _sealed(execution: Execution, patience: Patience) -> JobStateRecord | None:
    """The terminal state of a sealed set, None where no set can be had."""
    try:
        return execution.seal()
    except OSError as error:
        note_trace()
        no_space = is_no_space(error)
    except Exception:  # noqa: BLE001  (whatever it is, the job comes to an end)
        note_trace()
        return None
    try:
        execution.make_room(no_space=no_space)
        return patience.outlast(execution.seal)
    except Exception:  # noqa: BLE001  (as above)
        note_trace()
        return None


class Patience:
    """Waits for space on a full disk, `seconds` in all; whoever owns a job does not give it up at once."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def outlast(self, act: Callable[[], T]) -> T:
        """What `act` gives, tried again while the disk is full."""
        while True:
            try:
                return act()
            except OSError as error:
                if not is_no_space(error) or time.monotonic() > self._deadline:
                    raise
            time.sleep(_SPACE_LOOK_SECONDS)


def _stay_awake() -> None:
    """On macOS the machine does not fall asleep while we live."""
    if sys.platform == "darwin":
        import subprocess

        with suppress(OSError):
            subprocess.Popen(["/usr/bin/caffeinate", "-i", "-w", str(os.getpid())])
