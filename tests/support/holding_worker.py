"""A worker that waits before one operation: `holding_worker.py FOLDER`.

It is the real `rch-worker xcode rpc`. A request of the operation that FOLDER/op names touches
FOLDER/held and is answered only once FOLDER/gate is there, so that a run can be held in each phase.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from support.lab import Lab
from support.until import until

from worker_agent import ops, rpc


class Hold:
    """The test's side: makes the one worker of `user` such a one."""

    def __init__(self, user: Lab) -> None:
        self._folder = user.root / "hold"
        self._folder.mkdir()
        self.let_go()
        tests = Path(__file__).parents[1]
        program = (
            f"import sys; sys.path.append({str(tests)!r}); import support.holding_worker as h; h.main()"
        )
        command = [sys.executable, "-c", program, str(self._folder)]
        user.workers(f'[[worker]]\nname = "held"\ntransport = "local"\ncommand = {command}\n')

    def hold(self, op: str) -> None:
        """From now on `op` waits."""
        (self._folder / "held").unlink(missing_ok=True)
        (self._folder / "op").write_text(op)
        (self._folder / "gate").unlink()

    def wait(self) -> None:
        """Until a request is held."""
        until((self._folder / "held").exists)

    def let_go(self) -> None:
        """Nothing waits any more."""
        (self._folder / "gate").touch()


def main() -> None:
    """Serve standard input and output."""
    folder = Path(sys.argv[1])
    perform = ops.perform

    def held(call: ops.Call) -> Any:
        if not (folder / "gate").exists() and call.request.op == (folder / "op").read_text():
            (folder / "held").touch()
            while not (folder / "gate").exists():
                time.sleep(0.01)
        return perform(call)

    vars(rpc)["perform"] = held
    sys.exit(rpc.serve_stdio(os.environ))
