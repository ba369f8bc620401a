"""The one list of checks of a host, in the order of the contract."""

from __future__ import annotations

from collections.abc import Callable

from rch_conformance.checks import Suite
from rch_conformance.host.rig import Rig
from rch_conformance.host.seen import require_equal

SUITE: Suite[Rig] = Suite()
NEEDED: dict[str, tuple[str, ...]] = {}
"""The cases that a check looks at, by its id, so that their runs can begin before its turn comes."""


def looks_at(section: str, name: str, *cases: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorates a check that is given the runs of `cases`, in their order."""

    def add(check: Callable[..., None]) -> Callable[..., None]:
        def run(rig: Rig) -> None:
            check(*(rig.run(case) for case in cases))

        run.__name__ = check.__name__
        SUITE.check(section, name)(run)
        NEEDED[SUITE.checks[-1].id] = cases
        return check

    return add


def ends(
    section: str,
    name: str,
    case: str,
    kind: str | None,
    subkind: str | None,
    code: int,
    fetches: int | None = None,
) -> None:
    """Adds the check that the run of `case` ends in that way, after so many fetches where that is told."""

    def run(rig: Rig) -> None:
        found = rig.run(case)
        require_equal(found.failure, (kind, subkind, code), "failure kind, subkind and exit code")
        if fetches is not None:
            require_equal(len(found.asked("fetch")), fetches, "how often the set was fetched")

    run.__name__ = f"ends_{case}"
    SUITE.check(section, name)(run)
    NEEDED[SUITE.checks[-1].id] = (case,)
