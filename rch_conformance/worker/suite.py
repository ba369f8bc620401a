"""The list that every check of a worker is in, and what checks are written with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from rch_conformance.checks import Broken, Suite
from rch_conformance.worker.pages import PAGES
from rch_conformance.worker.rig import Rig

WORKER: Suite[Rig] = Suite(PAGES)
check = WORKER.check

S = TypeVar("S", bound=msgspec.Struct)


def expect(truth: object, otherwise: str) -> None:
    """`Broken` unless it is true."""
    if not truth:
        raise Broken(otherwise)


def expect_same(what: str, seen: object, wanted: object) -> None:
    """`Broken` unless both are equal, of one type."""
    if type(seen) is not type(wanted) or seen != wanted:
        raise Broken(f"{what} is {seen!r:.300}, not {wanted!r:.300}")


def operations_on_jobs(rig: Rig) -> tuple[str, ...]:
    """The operations that ask for one job and change nothing, of those that the worker offers."""
    return tuple(op for op in ("status", "tail", "fetch") if op != "tail" or "tail" in rig.features)


def shaped(payload: Mapping[str, Any], kind: type[S], what: str) -> S:
    """The payload as its type; `Broken` names the member that does not fit."""
    try:
        return msgspec.convert(dict(payload), kind)
    except msgspec.ValidationError as error:
        raise Broken(f"{what}: {error}") from error
