"""`rchctl` as a real process, for its tests."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from support.plain import PLAIN

TIMEOUT = 90


@dataclass
class Cli:
    """Runs `rchctl` under `home`; `env` adds to a bare environment."""

    home: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def socket(self) -> Path:
        """Where its daemon listens."""
        return self.home / "s"

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the developer's own settings."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {
            **kept,
            **PLAIN,
            "HOME": str(self.home),
            "RCH_HOME": str(self.home),
            "RCH_SOCKET": str(self.socket),
            **self.env,
        }

    def __call__(self, *args: str, **options: str) -> subprocess.CompletedProcess[str]:
        """The ended process."""
        return subprocess.run(
            [sys.executable, "-m", "rchctl", *args],
            env={**self.environment, **options},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    def start(self, *args: str, **options: str) -> subprocess.Popen[str]:
        """The running process."""
        return subprocess.Popen(
            [sys.executable, "-m", "rchctl", *args],
            env={**self.environment, **options},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
