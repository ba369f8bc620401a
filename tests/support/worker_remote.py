"""A lab whose only worker is behind a real sshd on loopback, with a forced command and a pin."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.lab import Lab, lab
from support.sshd import SshdServer

WORKER = (sys.executable, "-m", "worker_agent", "xcode", "rpc")
KEPT = ("PATH", "HOME", "LANG", "RCH_WORKER_HOME", "RCH_WORKER_KILL_GRACE", "PYTHONPATH")


@contextmanager
def remote_lab(root: Path) -> Iterator[tuple[Lab, SshdServer]]:
    """The user, and the server that can be stopped and started."""
    with lab(root) as user:
        env = {name: user.env[name] for name in KEPT if name in user.env}
        with SshdServer(root / "sshd", command=WORKER, env=env) as server:
            user.workers(
                f'[[worker]]\nname = "mini"\nhost = "{server.host}"\nport = {server.port}\n'
                f'user = "{server.user}"\nssh_key_path = "{server.client_key}"\n'
                f'known_host_fingerprint = "{server.fingerprints["ed25519"]}"\n'
            )
            yield user, server
