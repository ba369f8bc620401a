"""What a check is, and how a list of them is run. Pure but for what the checks themselves do.

A check holds one promise of the contract. It returns where the promise is kept, raises
`Broken` where it is not, and `NotOffered` where the peer does not offer what it is about.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

Rig = TypeVar("Rig")


class Broken(Exception):  # noqa: N818  (it is a finding, not an error of ours)
    """The peer breaks the promise; the text says what was expected and what was seen."""


class NotOffered(Exception):  # noqa: N818  (as above)
    """The peer does not offer what the check is about; the text names the feature."""


class Verdict(StrEnum):
    """How a check ended."""

    PASS = "pass"  # noqa: S105  (no password)
    FAIL = "fail"
    NOT_OFFERED = "not offered"


@dataclass(frozen=True, kw_only=True)
class Check(Generic[Rig]):
    """One promise: its `section` of the contract (`3.2`), a sentence as its `name`, and what tries it."""

    section: str
    name: str
    run: Callable[[Rig], None]


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a check ended. `detail` is one line or more for people, empty where it passed."""

    section: str
    name: str
    verdict: Verdict
    detail: str
    seconds: float


class Suite(Generic[Rig]):
    """A list of checks that modules add theirs to, in order."""

    def __init__(self) -> None:
        self.checks: list[Check[Rig]] = []

    def check(self, section: str, name: str) -> Callable[[Callable[[Rig], None]], Callable[[Rig], None]]:
        """Decorates the function that tries the promise `name` of `section`."""

        def add(run: Callable[[Rig], None]) -> Callable[[Rig], None]:
            self.checks.append(Check(section=section, name=name, run=run))
            return run

        return add


def run_checks(
    checks: Iterable[Check[Rig]], rig: Rig, clock: Callable[[], float] = time.monotonic
) -> Iterator[Result]:
    """Each result as soon as it is known. Whatever else a check raises is a failure, too."""
    for check in checks:
        begun = clock()
        verdict, detail = Verdict.PASS, ""
        try:
            check.run(rig)
        except NotOffered as missing:
            verdict, detail = Verdict.NOT_OFFERED, str(missing)
        except Broken as broken:
            verdict, detail = Verdict.FAIL, str(broken)
        except Exception as error:  # noqa: BLE001  (a peer that breaks a check in another way has failed it)
            verdict, detail = Verdict.FAIL, f"{type(error).__name__}: {error}"
        yield Result(
            section=check.section, name=check.name, verdict=verdict, detail=detail, seconds=clock() - begun
        )
