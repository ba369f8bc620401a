"""`memory`: the most memory that daemon and worker take while a large source goes up."""

from __future__ import annotations

import random
import threading
from pathlib import Path

from processes import peak_of, workers_of
from table import Figure, Found
from theirs import Loopback, loopback

MEGA = 1_000_000
BOUND_MB = 200
_FILE = 4 << 20
_LOOK_SECONDS = 0.02


def memory(rounds: int, *, quick: bool) -> list[Found]:
    """One run of a real daemon over ssh, once: memory does not vary as time does."""
    del rounds
    size = (4 if quick else 1024) << 20
    with loopback() as around:
        project = around.user.project()
        fill(project, size)
        around.user.rchctl("daemon", "start")
        daemon = around.user.daemon_pid
        idle = peak_of(daemon)
        watch = Watch(around)
        with watch:
            done = around.user.json("run", "--action", "build", cwd=project)
        if done["exit_code"]:
            raise RuntimeError(done)
        peak = peak_of(daemon)
    sizes = f"{size >> 20} MiB uploaded"
    note = f"{idle / MEGA:.0f} MB before it; the bound is of this benchmark's own, not of the source's size"
    goal = None if quick else float(BOUND_MB)
    return [
        Figure(
            name=f"memory of rchd, {sizes}",
            unit="MB",
            ours=[peak / MEGA],
            goal=goal,
            absolute=True,
            note=note,
        ),
        Figure(
            name=f"memory of the largest worker process, {sizes}",
            unit="MB",
            ours=[watch.peak / MEGA],
            goal=goal,
            absolute=True,
        ),
    ]


class Watch:
    """Looks at the worker's processes until the end; `peak` is the most that one of them took."""

    def __init__(self, around: Loopback) -> None:
        self.peak = 0
        self._home = around.user.worker_home
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            for pid in workers_of(self._home):
                self.peak = max(self.peak, peak_of(pid))


def fill(root: Path, size: int) -> None:
    """Half of the bytes are noise, half repeat soon."""
    rng = random.Random(1)  # noqa: S311  (the same bytes each time)
    for number in range(max(1, size // _FILE)):
        with (root / f"asset{number}.bin").open("wb") as file:
            for _ in range(_FILE >> 21):
                file.write(rng.randbytes(1 << 20))
                file.write(rng.randbytes(64) * (1 << 14))
