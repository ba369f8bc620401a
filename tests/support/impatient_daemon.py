"""`rchd` that waits `RCH_TEST_PATIENCE` seconds for a worker instead of a minute. For `RCH_RCHD`."""

from __future__ import annotations

import os
from functools import partial

from rchd import __main__ as program
from rchd.core import ask
from rchd.edges import pool
from rchd.edges.worker_client import Deadlines

if __name__ == "__main__":
    patience = float(os.environ["RCH_TEST_PATIENCE"])
    vars(pool)["Deadlines"] = partial(
        Deadlines, call=patience, stall=patience, digest=patience, tail_grace=patience
    )
    ask.LAST_FETCH_SECONDS = float(os.environ.get("RCH_TEST_LAST_FETCH", ask.LAST_FETCH_SECONDS))
    program.main()
