"""The worker's clocks: boot time for lives, wall time for people (spec section 2)."""

from __future__ import annotations

import sys
import time
from functools import cache
from pathlib import Path

from rch.contract.ids import timestamp

_LINUX_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_seconds() -> float:
    """Seconds since boot, sleep included: neither a wall-clock jump nor a closed lid moves it."""
    if sys.platform == "darwin":
        return time.clock_gettime(time.CLOCK_MONOTONIC)  # counts sleep there, unlike `time.monotonic`
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@cache
def boot_id() -> str:
    """Which boot of the machine this is: `boot_seconds` of two boots are never compared."""
    if _LINUX_BOOT_ID.exists():
        return _LINUX_BOOT_ID.read_text(encoding="ascii").strip()
    import subprocess

    asked = subprocess.run(
        ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True, check=True
    )
    return asked.stdout.strip()


def now() -> str:
    """The wall clock as RFC 3339, for people."""
    return timestamp(time.time())


def in_seconds(seconds: float) -> str:
    """The wall clock `seconds` from now, for people."""
    return timestamp(time.time() + seconds)
