"""A sync that the disk refuses (EIO), the n-th of a whole run, and the n-th of the database's own log.

What could not be made durable is told to nobody; the daemon refuses, goes on, or ends and says why;
a daemon that starts afterwards brings the run to its end.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from crash.daemon_life import FULL_DAEMON, Life, a_life

from rchctl.client import Client, ConnectionLost, NoDaemon, RemoteFailure

SAMPLE = (18, 41)
LOG_SAMPLE = (6,)
PARTS = 8
WORDS = ("input/output error", "disk i/o error")

pytestmark = [pytest.mark.spec("4"), pytest.mark.fault("H11")]


def survive(root: Path, argv: list[str]) -> None:
    """A run under a daemon whose disk fails once, and under plain ones until it is over."""
    with a_life(root) as life:
        life.serve([each.format(life=life) for each in argv])
        state = attempt(life, broken=True)
        if state is None:
            life.start(0)
            state = attempt(life, broken=False)
        assert life.stop()
        if state == "SUCCEEDED":
            life.check(was_running=False)


def attempt(life: Life, *, broken: bool) -> str | None:
    """A client's whole work; None where the daemon ended over its disk and said so."""
    assert life.daemon is not None
    client = connected(life)
    if client is not None:
        with closing(client), suppress(ConnectionLost):
            state = use(life, client, broken=broken)
            if state != "SUCCEEDED":
                assert broken
                check_failed(client.call("runs.get", {"run": life.run_id}))
            return state
    life.daemon.wait(20)
    assert broken
    assert life.daemon.returncode == 4, life.log
    assert is_told("".join(life.log.splitlines(keepends=True)[-2:])), life.log
    return None


def use(life: Life, client: Client, *, broken: bool) -> str:
    """Submit, once more where it was refused over the disk, and follow to the end."""
    try:
        return life.use(client)
    except RemoteFailure as refusal:
        if not (broken and life.run_id is None and is_told(refusal.message)):
            raise
    return life.use(client)


def check_failed(run: dict[str, Any]) -> None:
    """The verdict's artifacts could not be kept here: that is what the run says."""
    assert (run["state"], run["failure_kind"], run["exit_code"]) == ("FAILED", "ARTIFACTS", 70), run
    assert is_told(run["human_summary"]), run


def is_told(text: str) -> bool:
    """Whether it names what the disk said."""
    return any(words in text.lower() for words in WORDS)


def connected(life: Life) -> Client | None:
    """A greeted connection; None where the daemon ended before."""
    assert life.daemon is not None
    while life.daemon.poll() is None:
        with suppress(NoDaemon, ConnectionLost):
            client = Client.open(life.paths)
            client.hello()
            return client
    return None


def broken_at(root: Path, number: int) -> list[str]:
    """A daemon one of whose own syncs fails; what it did."""
    trace = root.with_suffix(".steps")
    survive(root, [sys.executable, str(FULL_DAEMON), "broken", str(number), "1", str(trace)])
    return trace.read_text().splitlines()


def log_broken_at(root: Path, number: int) -> None:
    """A daemon under strace, whose kernel refuses the n-th sync of the database's log."""
    strace = tracer()
    how = [
        "-D",
        "-f",
        "--seccomp-bpf",
        "-o",
        "/dev/null",
        "-P",
        "{life.paths.database}-wal",
        "-e",
        "trace=fsync,fdatasync",
    ]
    inject = ["-e", f"inject=fsync,fdatasync:error=EIO:when={number}"]
    survive(root, [strace, *how, *inject, sys.executable, "-m", "rchd", "run"])


def tracer() -> str:
    """`strace`, where it is there and may trace."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    done = subprocess.run([strace, "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"strace may not trace here: {done.stderr.strip()}")
    return strace


@pytest.mark.parametrize("number", SAMPLE)
def test_a_sync_that_fails_is_told_and_nothing_is_lost(tmp_path: Path, number: int) -> None:
    done = broken_at(tmp_path / "user", number)
    assert sum(line.startswith("full ") for line in done) == 1


@pytest.mark.parametrize("number", LOG_SAMPLE)
def test_a_transition_whose_sync_the_kernel_refuses_has_not_been(tmp_path: Path, number: int) -> None:
    log_broken_at(tmp_path / "user", number)


@pytest.mark.faults_long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_any_sync_may_fail(tmp_path: Path, part: int) -> None:
    for number in count(part + 1, PARTS):
        if len(broken_at(tmp_path / str(number), number)) < number:  # it came to its end before
            return


@pytest.mark.faults_long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", range(1, 25))
def test_any_sync_of_the_log_may_fail(tmp_path: Path, number: int) -> None:
    log_broken_at(tmp_path / "user", number)
