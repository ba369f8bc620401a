"""What decides about a job's end beside its key: whoever lets one result stand for another compares it.

The worker keys its result cache by it, and the host lets runs wait for one another by it (section 11).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DECIDING = {
    "run": ("allow_no_tests", "retry_tests", "retry_infrastructure"),
    "timeouts": ("overall_seconds", "idle_log_seconds"),
    "project": ("package",),
}


def verdict_policy(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an effective config that may turn one verdict into another.

    Whether no tests are a pass, how often is retried, when time is over, which folder is built, and
    what `[cache]` says of the products that a build begins with. What the gate allows shows in the argv.
    """
    policy: dict[str, Any] = {
        table: {name: _table(config, table).get(name) for name in names}
        for table, names in _DECIDING.items()
    }
    policy["cache"] = {name: value for name, value in _table(config, "cache").items() if name != "results"}
    return policy


def wants_results(config: Mapping[str, Any]) -> bool:
    """`cache.results`: whether an earlier result may stand for an execution."""
    return _table(config, "cache").get("results", True) is True


def covers(profile: str, asked: str) -> bool:
    """Whether a set of `profile` holds all that one of `asked` has."""
    return profile == asked or (profile, asked) == ("rich", "minimal")


def _table(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}
