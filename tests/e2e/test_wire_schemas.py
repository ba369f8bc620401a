"""What rchctl, rchd and rch-worker say to one another as processes, held against the shipped schemas."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.emitted import LEDGER, Ledger
from support.lab import FAILING_TEST, Lab, lab
from support.until import until
from support.wire import TAPPED, hold_worker, socket_tap

from rch.contract.worker_rpc import OPERATIONS

pytestmark = [pytest.mark.spec("8"), pytest.mark.spec("12"), pytest.mark.spec("3.1")]

ASKED = (
    ("workers", "list"),
    ("workers", "explain"),
    ("workers", "drain", "tapped"),
    ("workers", "drain", "tapped", "--off"),
    ("workers", "gc", "--dry-run"),
    ("verify", "--dry-run"),
    ("list",),
    ("status", "latest"),
    ("status", "no-such-run"),
    ("tail", "latest"),
    ("rerun", "latest", "--failed"),
    ("gc", "--dry-run"),
    ("metrics",),
    ("rpc", "--describe"),
)


@contextmanager
def daemon_of(user: Lab, real: Path) -> Iterator[None]:
    """A daemon at the socket `real`; clients of `user` dial another one."""
    with subprocess.Popen(
        [sys.executable, "-m", "rchd", "run"],
        env={**user.env, "RCH_SOCKET": str(real)},
        stderr=subprocess.DEVNULL,
    ) as daemon:
        try:
            until(real.exists, 30)
            yield
        finally:
            daemon.terminate()


def test_all_that_goes_over_pipes_and_socket_in_a_day_of_work(tmp_path: Path) -> None:
    ledger, pipes = Ledger(), tmp_path / "pipes"
    pipes.mkdir()
    with lab(tmp_path) as user:
        command = [sys.executable, str(TAPPED), str(pipes)]
        user.workers(f'[[worker]]\nname = "tapped"\ntransport = "local"\ncommand = {command!r}\n')
        real = user.socket.with_name("d")
        with daemon_of(user, real), socket_tap(user.socket, real) as tap:
            good = user.project()
            assert user.rchctl("verify", cwd=good).returncode == 0
            assert user.rchctl("verify", cwd=user.project("bad", test=FAILING_TEST)).returncode == 50
            assert user.rchctl("exec", "--", "swift", "package", "clean", cwd=good).returncode == 10
            slow = user.project("slow", build="echo begun; exec sleep 60")
            going = user.start("verify", cwd=slow)
            assert going.stdout is not None
            until(lambda: "RUNNING" in user.rchctl("status", "latest").stdout, 30)
            assert user.rchctl("cancel", "latest").returncode == 0
            going.communicate(timeout=60)
            for words in ASKED:
                user.rchctl(*words, cwd=good)
            user.rchctl("daemon", "status")
        tap.hold(ledger)
        hold_worker(pipes, ledger)
    assert ledger.wrong == []
    seen = {name.removesuffix(".schema.json") for name in ledger.counts}
    assert {f"worker-rpc/{op}.{way}" for op in OPERATIONS for way in ("request", "response")} <= seen
    assert "local-api/runs.event.notification" in seen
    assert {"local-api/runs.submit.response", "local-api/runs.watch.response"} <= seen
    LEDGER.counts.update(ledger.counts)
