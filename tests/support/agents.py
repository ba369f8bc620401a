"""OpenSSH's own ssh-agent, for a test."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def ssh_agent(path: Path, *keys: Path) -> Iterator[str]:
    """An agent that listens at `path` and holds `keys`; its socket is gone at the end."""
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    env = {**os.environ, "SSH_AUTH_SOCK": str(path)}
    try:
        for key in keys:
            subprocess.run(
                ["ssh-add", "-q", str(key)],
                check=True,
                env=env,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        yield str(path)
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
