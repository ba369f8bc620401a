"""What a check is, and how a list of them is run. Pure but for what the checks themselves do.

A check holds one promise of the contract. It returns where the promise is kept, raises
`Broken` where it is not, and `NotOffered` where the peer does not offer what it is about.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

Rig = TypeVar("Rig")


class Broken(Exception):  # noqa: N818  (it is a finding, not an error of ours)
    """The peer breaks the promise; the text says what was expected and what was seen."""


class NotOffered(Exception):  # noqa: N818  (as above)
    """The peer does not offer `feature`, which the check is about; `why` says how that was seen."""

    def __init__(self, feature: str, why: str = "") -> None:
        super().__init__(f"{feature}: {why}" if why else feature)
        self.feature = feature


class Verdict(StrEnum):
    """How a check ended."""

    PASS = "pass"  # noqa: S105  (no password)
    FAIL = "fail"
    NOT_OFFERED = "not offered"


@dataclass(frozen=True, kw_only=True)
class Check(Generic[Rig]):
    """One promise: its `section` of the contract (`3.2`), a sentence as its `name`, and what tries it.

    `id` is its short name on the command line. `needs` are the features without which it cannot be
    tried; the peer is asked for them before `run` is called. `page` is where the docs say what is asked
    for, as `docs/conformance.md#heading`; empty where no one place does.
    """

    id: str
    section: str
    name: str
    run: Callable[[Rig], None]
    needs: tuple[str, ...] = ()
    page: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a check ended. `detail` is one line or more for people, empty where it passed.

    `feature` is what was not offered, None otherwise; `page` that of the check.
    """

    id: str
    section: str
    name: str
    verdict: Verdict
    detail: str
    seconds: float
    feature: str | None = None
    page: str = ""


class Suite(Generic[Rig]):
    """A list of checks that modules add theirs to, in order.

    `pages` names the page of a check by its id, or by its section.
    """

    def __init__(self, pages: Mapping[str, str] | None = None) -> None:
        self.checks: list[Check[Rig]] = []
        self._pages = pages or {}

    def check(
        self, section: str, name: str, *, needs: tuple[str, ...] = ()
    ) -> Callable[[Callable[[Rig], None]], Callable[[Rig], None]]:
        """Decorates the function that tries the promise `name` of `section`; its own name is the id."""

        def add(run: Callable[[Rig], None]) -> Callable[[Rig], None]:
            check_id = run.__name__.strip("_").replace("_", "-")
            if any(check.id == check_id for check in self.checks):
                raise ValueError(f"two checks are called {check_id}")
            page = self._pages.get(check_id, self._pages.get(section, ""))
            made = Check(id=check_id, section=section, name=name, run=run, needs=needs, page=page)
            self.checks.append(made)
            return run

        return add


def run_checks(
    checks: Iterable[Check[Rig]],
    rig: Rig,
    need: Callable[[str], None] = lambda _feature: None,
    clock: Callable[[], float] = time.monotonic,
    heard: Callable[[], list[str]] = list,
) -> Iterator[Result]:
    """Each result as soon as it is known. Whatever else a check raises is a failure, too.

    `need` raises `NotOffered` for a feature that the peer lacks. `heard` gives, as lines, the last of what
    was asked and answered since it was called before; a failure shows them.
    """
    for check in checks:
        heard()
        begun = clock()
        verdict, detail, feature = Verdict.PASS, "", None
        try:
            for each in check.needs:
                need(each)
            check.run(rig)
        except NotOffered as missing:
            verdict, detail, feature = Verdict.NOT_OFFERED, str(missing), missing.feature
        except Broken as broken:
            verdict, detail = Verdict.FAIL, str(broken)
        except Exception as error:  # noqa: BLE001  (a peer that breaks a check in another way has failed it)
            verdict, detail = Verdict.FAIL, f"{type(error).__name__}: {error}"
        if verdict is Verdict.FAIL:
            detail = "\n".join((detail, *heard()))
        yield Result(
            id=check.id,
            section=check.section,
            name=check.name,
            verdict=verdict,
            detail=detail,
            seconds=clock() - begun,
            feature=feature,
            page=check.page,
        )
