"""No space at the n-th write of a whole run, and at some after it: the same verdict, a little later."""

from __future__ import annotations

import sys
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

import pytest
from crash.daemon_life import FULL_DAEMON, Life, a_life

from rchctl.client import Client, ConnectionLost, NoDaemon, RemoteFailure

SAMPLE = (34, 100)
PARTS = 16
SPREAD = 40

pytestmark = [pytest.mark.spec("4"), pytest.mark.fault("H12")]


def survive(root: Path, full_at: int, many: int) -> list[str]:
    """A whole run on a disk that is full for so many steps; what the daemon did."""
    with a_life(root) as life:
        trace = root / "steps"
        argv = [sys.executable, str(FULL_DAEMON), "full", str(full_at), str(many), str(trace)]
        life.serve(argv)
        client = connected(life)
        if client is None:  # it did not start on a full disk: it says so, and starts when there is space
            assert "no space left" in life.log.lower()
            life.start(0)
            client = connected(life)
            assert client is not None, life.log
        assert life.daemon is not None
        with closing(client):
            assert use(life, client) == "SUCCEEDED"
        assert life.daemon.poll() is None, "it went on without a restart"
        life.daemon.terminate()
        assert life.daemon.wait(20) == 0
        life.check(was_running=False)
        return trace.read_text().splitlines()


def connected(life: Life) -> Client | None:
    """A greeted connection; None where the daemon refused to start, with its exit code."""
    assert life.daemon is not None
    while life.daemon.poll() is None:
        with suppress(NoDaemon, ConnectionLost):
            client = Client.open(life.paths)
            client.hello()
            return client
    assert life.daemon.returncode == 4, life.log
    return None


def use(life: Life, client: Client) -> str:
    """Submit, as often as it is refused for want of space, and follow to the end."""
    while True:
        try:
            return life.use(client)
        except RemoteFailure as refusal:
            if refusal.subkind != "NO_SPACE" or life.run_id is not None:
                raise


@pytest.mark.parametrize("step", SAMPLE)
def test_a_disk_that_is_full_for_a_while_changes_no_verdict(tmp_path: Path, step: int) -> None:
    done = survive(tmp_path / "user", step, 4)
    assert sum(line.startswith("full ") for line in done) == 4


@pytest.mark.faults_long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_disk_may_be_full_at_any_write(tmp_path: Path, part: int) -> None:
    for step in count(part + 1, PARTS):
        done = survive(tmp_path / str(step), step, 4)
        if len(done) < step:  # it came to its end before
            assert step > len(survive(tmp_path / "undisturbed", 0, 0)) - SPREAD
            return
