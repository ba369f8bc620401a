"""`rchd` with `RCH_TEST_GRACE` seconds beyond a job's time, instead of the minute that a worker is left.

For `RCH_RCHD`. The worker has the better clock and comes first, unless a test holds it.
"""

from __future__ import annotations

import os

from rchd import __main__ as program
from rchd.core import upkeep

if __name__ == "__main__":
    upkeep.TIMEOUT_GRACE_SECONDS = float(os.environ["RCH_TEST_GRACE"])
    program.main()
