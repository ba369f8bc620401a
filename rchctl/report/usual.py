"""How many tests a project had when it was last tested, from the records on this disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rch.contract.errors import Failure
from rchctl.report.past import past_runs

_MOST_FOLDERS = 200
_MOST_RUNS = 5


def usual_tests(run: Mapping[str, Any], action: str) -> int | None:
    """The tests of that step in the newest run like `run` (a `RunView`); None where there is none."""
    root, scope = run.get("root"), tuple(run.get("scope") or ())
    artifacts = Path(str(run.get("run_dir") or "")).parent
    try:
        for past in past_runs(artifacts, lambda _, where: where == root, _MOST_RUNS, most=_MOST_FOLDERS):
            if past.simulated != bool(run.get("simulated")) or past.scope != scope:
                continue
            for step in past.steps:
                if step.action == action and step.tests is not None and step.tests.total:
                    return step.tests.total
    except Failure:  # a folder that cannot be read: nothing is known
        return None
    return None
