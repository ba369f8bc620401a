"""Versions as tools print them, and wishes for them: exact, a prefix, or a range (spec section 7)."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping

Numbers = tuple[int, ...]

_VERSION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6}){0,3})(-[0-9A-Za-z][0-9A-Za-z.+-]{0,63})?")
_BOUND = re.compile(r"(>=|<=|>|<|==)\s*(\S+)")
_COMPARE: Mapping[str, Callable[[Numbers, Numbers], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}


def numbers_of(version: str) -> Numbers:
    """The numbers of a version, without zeros at the end: 6.0 and 6.0.0 are one; () if it has none."""
    found = _VERSION.match(version)
    if found is None:
        return ()
    numbers = [int(part) for part in found[1].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def is_release(version: str) -> bool:
    """Whether a version has no suffix such as `-dev`."""
    return "-" not in version


def same_version(version: str, wanted: str) -> bool:
    """Whether `wanted` is that very version: its numbers and its suffix."""
    if not _VERSION.fullmatch(wanted):
        return False
    return numbers_of(version) == numbers_of(wanted) and _suffix(version) == _suffix(wanted)


def lags(version: str, ours: str) -> bool:
    """Whether a program of this project is older than the one that asks; one without a version is not."""
    return () < numbers_of(version) < numbers_of(ours)


def matcher(wanted: str) -> Callable[[str], bool]:
    """What a version must satisfy: every bound of a range, or the numbers that it begins with.

    ValueError: `wanted` is no version and no range.
    """
    if _VERSION.fullmatch(wanted):
        prefix = tuple(int(part) for part in wanted.partition("-")[0].split("."))
        return lambda version: not _suffix(wanted) and _padded(version, len(prefix)) == prefix
    bounds = [_bound(part.strip()) for part in wanted.split(",")]
    return lambda version: all(compare(numbers_of(version), limit) for compare, limit in bounds)


def _suffix(version: str) -> str:
    return version.partition("-")[2]


def _padded(version: str, length: int) -> Numbers:
    return (*numbers_of(version), 0, 0, 0, 0)[:length]


def _bound(text: str) -> tuple[Callable[[Numbers, Numbers], bool], Numbers]:
    found = _BOUND.fullmatch(text)
    if found is None or not _VERSION.fullmatch(found[2]):
        raise ValueError(text)
    return _COMPARE[found[1]], numbers_of(found[2])
