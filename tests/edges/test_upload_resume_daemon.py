"""Daemon and worker die in the middle of an upload: the next daemon goes on with the very same bytes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from support import sshd
from support.fault_proxy import UP, Line, Throttle, line_to
from support.lab import Lab, lab
from support.until import until

from rchd.edges.parts import PART_BYTES

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(not sshd.available, reason="OpenSSH's sshd is not installed"),
]

WORKER = (sys.executable, "-m", "worker_agent", "xcode", "rpc")
SLOW = 24 << 20
OVERHEAD = 1 << 20  # SSH's own bytes and every other call


def inventory(user: Lab, server: sshd.SshdServer, line: Line) -> None:
    user.workers(
        f'[[worker]]\nname = "mini"\nhost = "{server.host}"\nport = {line.port}\n'
        f'user = "{server.user}"\nknown_host_fingerprint = "{server.fingerprints["ed25519"]}"\n'
        f'ssh_key_path = "{server.client_key}"\n'
    )


def parts_of(user: Lab) -> list[int]:
    """How many bytes of each upload on its way the worker has."""
    return [path.stat().st_size for path in user.worker_home.glob("data/sources/incoming/*.part")]


@pytest.mark.faults_long
@pytest.mark.spec("5")
@pytest.mark.fault("S2")
@pytest.mark.parametrize("spool", ["is there", "is gone"])
def test_both_ends_die_in_an_upload(tmp_path: Path, spool: str) -> None:
    kept = ("PATH", "HOME", "LANG", "RCH_WORKER_HOME", "RCH_WORKER_KILL_GRACE")
    with lab(tmp_path) as user:
        env = {name: user.env[name] for name in kept}
        project = user.project()
        (project / "noise").write_bytes(os.urandom(3 * PART_BYTES))
        with (
            sshd.SshdServer(tmp_path / "sshd", command=WORKER, env=env) as server,
            line_to(server.port) as line,
        ):
            inventory(user, server, line)
            assert user.rchctl("workers", "probe").returncode == 0
            line.set(Throttle(SLOW, UP))
            run_id = user.json("submit", cwd=project)["data"]["run_id"]
            until(lambda: max(parts_of(user), default=0) >= PART_BYTES)
            user.kill_daemon()
            server.kill_sessions()
            line.idle()
            (bundle,) = user.root.glob("home/**/spool/*.tar.zst")
            if spool == "is gone":
                bundle.unlink()
            sent = line.proxy.handed_on[UP]
            line.set()
            done = user.rchctl("wait", run_id)
            again = line.proxy.handed_on[UP] - sent
        if spool == "is there":
            assert done.returncode == 0, done.stderr
            assert again <= bundle.stat().st_size - PART_BYTES + OVERHEAD
            assert parts_of(user) == []
        else:
            assert done.returncode == 30, done.stdout
            assert again < OVERHEAD
