"""Starts a job's detached supervisor and hands it the job's lock (spec section 3.3)."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from typing import Protocol

from rch.contract.worker_rpc import Code, RpcError, SubmitResult
from rch.files.locks import FileLock
from worker_agent.nursery import nursery
from worker_agent.worker import Worker

_PATIENCE_SECONDS = 60.0


class _Child(Protocol):
    """What was started and is to be collected."""

    def poll(self) -> int | None:
        """How it ended, None while it runs."""


_started: list[_Child] = []


class Stillborn(RpcError):  # noqa: N818  (as its base: an answer)
    """The supervisor ended before its first word. What it did is on disk and its lock is free."""


def launch(worker: Worker, job_id: str, lock: FileLock) -> SubmitResult:
    """Start the supervisor; give its first word, said when it owns the job and its state is durable.

    The lock's descriptor is open in the child before ours is closed, so the job is never
    without an owner; if the child fails at once (`Stillborn`) the lock is free with it. `lock` is
    released.
    """
    collect()
    said, saying = os.pipe()
    errors = os.open(
        worker.jobs.folder(job_id) / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
    )
    begin = _forked if nursery.is_open() else _executed
    try:
        child = begin(worker, job_id, lock.fd, saying, errors)
    except OSError as error:
        os.close(said)
        raise RpcError(
            Code.INTERNAL, f"the supervisor of job {job_id} did not start: {error.strerror}"
        ) from error
    finally:
        lock.release()
        os.close(saying)
        os.close(errors)
    _started.append(child)
    try:
        state, seq = _first_word(said, job_id).split()
        return SubmitResult(state=state, seq=int(seq))
    finally:
        os.close(said)


def _executed(worker: Worker, job_id: str, lock_fd: int, saying: int, errors: int) -> _Child:
    return subprocess.Popen(
        # -P: what lies in the current folder is none of our modules.
        [
            sys.executable,
            "-P",
            "-m",
            "worker_agent",
            "xcode",
            "supervise",
            job_id,
            str(lock_fd),
            str(saying),
        ],
        stdin=subprocess.DEVNULL,
        stdout=errors,
        stderr=errors,
        cwd="/",
        env=dict(worker.env),
        pass_fds=(lock_fd, saying),
        start_new_session=True,
    )


def _forked(worker: Worker, job_id: str, lock_fd: int, saying: int, errors: int) -> _Child:
    def life() -> int:
        from worker_agent.supervisor import supervise

        # A worker of its own: what was read of the disk is read again, as a new program would.
        return supervise(Worker(worker.env), job_id, lock_fd, saying)

    nursery.load()
    from worker_agent.supervisor import NAME

    return _Fork(nursery.fork(NAME, life, (lock_fd, saying), errors))


class _Fork:
    """A forked child, as far as it is to be collected."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def poll(self) -> int | None:
        """How it ended, None while it runs."""
        try:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:
            return 0
        return status if pid else None


def sweep_later(worker: Worker) -> None:
    """Start a sweep; what it needs is collected with the supervisors."""
    from worker_agent import sweep

    collect()
    with contextlib.suppress(OSError):  # a tree that stays for now is no reason to fail
        _started.append(_forked_sweep(worker) if nursery.is_open() else sweep.start(worker))


def _forked_sweep(worker: Worker) -> _Child:
    from worker_agent import sweep

    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        return _Fork(nursery.fork(sweep.NAME, lambda: sweep.alone(worker.env), (), nothing))
    finally:
        os.close(nothing)


def _first_word(said: int, job_id: str) -> str:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    poller = select.poll()
    poller.register(said, select.POLLIN)
    word = b""
    while not word.endswith(b"\n"):
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise RpcError(Code.INTERNAL, f"the supervisor of job {job_id} does not answer")
        piece = os.read(said, 64)
        if not piece:
            raise Stillborn(Code.INTERNAL, f"the supervisor of job {job_id} ended at its start")
        word += piece
    return word.decode()


def collect() -> int:
    """Forget what has ended, so that a long session keeps no zombies; how many still run."""
    _started[:] = [child for child in _started if child.poll() is None]
    return len(_started)
