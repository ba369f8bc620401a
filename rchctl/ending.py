"""What stands below a run's log: failed tests and first messages with their places, then the verdict."""

from __future__ import annotations

from typing import Any

from rchctl.context import Context
from rchctl.render import verdict


def ending(run: dict[str, Any], context: Context, *, quiet: bool = False) -> str:
    """The block that ends a run which was followed; `quiet`: the verdict alone."""
    found = verdict(run, context.console)
    if quiet or context.json or run.get("state") != "FAILED" or not run.get("run_dir"):
        return found
    from rchctl.report.findings import findings

    return findings(run, context) + found
