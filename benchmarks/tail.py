"""`tail`: from a line's write in a job to its bytes at whoever follows, against `ssh host tail -F`."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from pathlib import Path

from ours import now
from table import Figure, Found, in_turns, percentile
from theirs import Loopback, loopback

GOAL = 3.0
PAUSE_SECONDS = 0.1
# Each line says when it was written, in milliseconds of the clock that all processes share.
WRITER = textwrap.dedent("""
    import sys, time
    time.sleep(1)
    for _ in range(int(sys.argv[1])):
        print("at", time.monotonic() * 1000, flush=True)
        time.sleep(float(sys.argv[2]))
""")


def tail(rounds: int, *, quick: bool) -> list[Found]:
    """The median of a round's lines."""
    lines = 3 if quick else 30
    with loopback() as around, around.master() as master:
        writer = around.root / "writer.py"
        writer.write_text(WRITER)
        write = f"{sys.executable} {writer} {lines} {PAUSE_SECONDS}"
        project = around.user.project(build=f"exec {write}")
        taken = in_turns(
            rounds,
            {
                "ours": lambda _: we_follow(around, project, lines),
                "theirs": lambda number: they_follow(around, master, write, lines, number),
            },
        )
    return [
        Figure(
            name="tail, p50 from the write to the reader",
            ours=taken["ours"],
            theirs=taken["theirs"],
            goal=None if quick else GOAL,
        )
    ]


def we_follow(around: Loopback, project: Path, lines: int) -> float:
    """A run on the worker, followed by `rchctl tail -f`."""
    user = around.user
    run_id = user.json("submit", "--no-cache", "--action", "build", cwd=project)["data"]["run_id"]
    with user.start("tail", "-f", run_id) as follower:
        delays = _delays(follower)
        follower.wait(60)
    return _median(delays, lines)


def they_follow(around: Loopback, master: str, write: str, lines: int, number: int) -> float:
    """The same writer into a file at the far end, followed by `tail -F`."""
    path = around.far / f"log-{number}"
    path.touch()
    with path.open("ab") as file, subprocess.Popen(write.split(), stdout=file) as writer:
        # Whoever is not waited for is a zombie, and for `--pid` those live.
        threading.Thread(target=writer.wait, daemon=True).start()
        argv = [*around.ssh(master=master), around.host, f"tail -n +1 -F -s 0.2 --pid={writer.pid} {path}"]
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as follower:
            delays = _delays(follower)
    return _median(delays, lines)


def _delays(follower: subprocess.Popen[str]) -> list[float]:
    """How long each line was on its way, until the follower ends."""
    if follower.stdout is None:
        return []
    return [now() - float(line.split()[1]) for line in follower.stdout if line.startswith("at ")]


def _median(delays: list[float], lines: int) -> float:
    if len(delays) != lines:
        raise RuntimeError(f"{len(delays)} of {lines} lines came")
    return percentile(delays, 0.5)
