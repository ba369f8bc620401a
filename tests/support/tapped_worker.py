"""A worker behind a tap: `tapped_worker.py FOLDER` is `rch-worker xcode rpc`.

What goes over its pipes is in `FOLDER/<pid>.in` and `FOLDER/<pid>.out` as well.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO


def main() -> int:
    """Pass on until both ends are closed; the worker's own exit code."""
    place = Path(sys.argv[1]) / str(os.getpid())
    argv = [sys.executable, "-m", "worker_agent", "xcode", "rpc"]
    worker = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    if worker.stdin is None or worker.stdout is None:
        raise AssertionError("both are pipes")
    asked = threading.Thread(
        target=_pass, args=(0, worker.stdin, place.with_suffix(".in")), daemon=True
    )  # who asks may never hang up
    asked.start()
    with open(1, "wb", buffering=0, closefd=False) as out:
        _pass(worker.stdout.fileno(), out, place.with_suffix(".out"))
    return worker.wait()


def _pass(source: int, sink: IO[bytes], copy: Path) -> None:
    with copy.open("wb", buffering=0) as kept:
        while data := os.read(source, 1 << 16):
            kept.write(data)
            try:
                sink.write(data)
                sink.flush()
            except OSError:
                break  # nobody reads any more
    if sink.fileno() != 1:
        sink.close()


if __name__ == "__main__":
    sys.exit(main())
