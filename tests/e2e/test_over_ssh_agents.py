"""Keys that only an agent has, over a jump host: two sshds on loopback, real agents, a real daemon."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support import sshd
from support.agents import ssh_agent
from support.lab import lab

pytestmark = [
    pytest.mark.sshd,
    pytest.mark.skipif(not sshd.available, reason="OpenSSH's sshd is not installed"),
]

WORKER = (sys.executable, "-m", "worker_agent", "xcode", "rpc")


@pytest.mark.spec("6")
def test_a_daemon_outlives_the_agent_of_the_terminal_that_started_it(tmp_path: Path) -> None:
    with (
        lab(tmp_path) as user,
        sshd.SshdServer(tmp_path / "door", forwarding=True) as jump,
        sshd.SshdServer(tmp_path / "sshd", command=WORKER, env=user.env) as server,
    ):
        keys = (server.client_key, jump.client_key)
        known = jump.known_hosts(tmp_path / "known")
        # The library finds the SSH config by HOME, as ssh would not.
        (tmp_path / ".ssh").mkdir()
        (tmp_path / ".ssh" / "config").write_text(
            f"Host door\n HostName {jump.host}\n Port {jump.port}\n UserKnownHostsFile {known}\n"
            f"Host mini\n HostName {server.host}\n Port {server.port}\n ProxyJump door\n"
            f"Host *\n User {server.user}\n"
        )
        user.workers(
            f'[[worker]]\nname = "mini"\nhost = "mini"\n'
            f'known_host_fingerprint = "{server.fingerprints["ed25519"]}"\n'
        )
        nobody = user.rchctl("workers", "probe")
        assert nobody.returncode == 20, nobody.stdout
        assert "refused every key" in nobody.stdout
        pid = user.daemon_pid
        for number in range(2):
            with ssh_agent(user.socket.parent / f"agent{number}", *keys) as agent:
                probed = user.rchctl("workers", "probe", env={"SSH_AUTH_SOCK": agent})
                assert probed.returncode == 0, probed.stdout + probed.stderr
            # What comes next dials anew, and the agent of this turn is gone.
            assert server.kill_sessions() + jump.kill_sessions() > 0
        assert user.rchctl("workers", "probe").returncode == 20
        assert user.daemon_pid == pid
