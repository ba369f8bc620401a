"""Swift toolchains: which one serves a wish, and what of it enters a job's identity (spec section 7).

Host and worker compute the same members from the same capabilities, so that the worker can
tell when the toolchain that a job names is no longer there.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping

from rch.contract.errors import Failure, Kind
from rch.contract.records import Capabilities, ToolchainEntry

HOST_DESTINATION = "host"
"""The `name` of the destination of a job that runs on the worker itself."""

_VERSION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6}){0,3})(-[0-9A-Za-z][0-9A-Za-z.+-]{0,63})?")
_BOUND = re.compile(r"(>=|<=|>|<|==)\s*(\S+)")
_COMPARE: Mapping[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}


def swift_toolchain_inputs(capabilities: Capabilities, entry: ToolchainEntry) -> dict[str, str]:
    """The toolchain's five members of `job_key_inputs`."""
    return {
        "swift_version": entry.version,
        "toolchain_dir": entry.path,
        "os_name": capabilities.os_name,
        "os_version": capabilities.os_version,
        "arch": capabilities.arch,
    }


def host_destination_inputs(capabilities: Capabilities) -> dict[str, str]:
    """The destination of a job that builds and tests on the worker itself."""
    return {
        "platform": capabilities.os_name,
        "name": HOST_DESTINATION,
        "os_version": capabilities.os_version,
        "provisioning": "existing",
    }


def numbers_of(version: str) -> tuple[int, ...]:
    """The numbers of a version, without zeros at the end: 6.0 and 6.0.0 are one; () if it has none."""
    found = _VERSION.match(version)
    if found is None:
        return ()
    numbers = [int(part) for part in found[1].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def choose_swift(capabilities: Capabilities, wanted: str | None) -> tuple[ToolchainEntry, str | None]:
    """The toolchain that serves `wanted` (`6.3.1`, `6.3`, `>=6.0,<7`), and a warning or None.

    An exact version wins; else the highest that matches, with a warning; releases come before
    development snapshots. With nothing wanted, the active one. None that matches is
    `WORKER_INCOMPATIBLE` / `NO_TOOLCHAIN`; a wish that is no version is `CONFIG` / `BAD_VALUE`.
    """
    there = sorted(
        (entry for entry in capabilities.toolchains if entry.kind == "swift" and numbers_of(entry.version)),
        key=_rank,
        reverse=True,
    )
    if wanted is None:
        return _any(capabilities, there), None
    matches = _matcher(wanted)
    exact = [entry for entry in there if _same(entry.version, wanted)]
    if exact:
        return exact[0], None
    fitting = [entry for entry in there if matches(entry.version)]
    if not fitting:
        raise _incompatible(capabilities, f"Swift {wanted} is wanted", there)
    best = fitting[0]
    return best, f"Swift {best.version} at {best.path} serves swift_version = {wanted!r}"


def _rank(entry: ToolchainEntry) -> tuple[bool, tuple[int, ...], bool, str]:
    return "-" not in entry.version, numbers_of(entry.version), entry.active, entry.path


def _same(version: str, wanted: str) -> bool:
    if not _VERSION.fullmatch(wanted):
        return False
    return numbers_of(version) == numbers_of(wanted) and _suffix(version) == _suffix(wanted)


def _suffix(version: str) -> str:
    return version.partition("-")[2]


def _any(capabilities: Capabilities, there: list[ToolchainEntry]) -> ToolchainEntry:
    if not there:
        raise _incompatible(capabilities, "a Swift toolchain is wanted", there)
    return next((entry for entry in there if entry.active), there[0])


def _incompatible(capabilities: Capabilities, wish: str, there: list[ToolchainEntry]) -> Failure:
    have = ", ".join(f"{entry.version} ({entry.path})" for entry in there) or "none"
    return Failure(
        Kind.WORKER_INCOMPATIBLE, f"{wish}; {capabilities.hostname} has {have}", subkind="NO_TOOLCHAIN"
    )


def _matcher(wanted: str) -> Callable[[str], bool]:
    """What a version must satisfy: every bound of a range, or the numbers that it begins with."""
    if _VERSION.fullmatch(wanted):
        prefix = tuple(int(part) for part in wanted.partition("-")[0].split("."))
        return lambda version: not _suffix(wanted) and _padded(version, len(prefix)) == prefix
    bounds = [_bound(part.strip(), wanted) for part in wanted.split(",")]
    return lambda version: all(compare(numbers_of(version), limit) for compare, limit in bounds)


def _padded(version: str, length: int) -> tuple[int, ...]:
    return (*numbers_of(version), 0, 0, 0, 0)[:length]


def _bound(
    text: str, wanted: str
) -> tuple[Callable[[tuple[int, ...], tuple[int, ...]], bool], tuple[int, ...]]:
    found = _BOUND.fullmatch(text)
    if found is None or not _VERSION.fullmatch(found[2]):
        message = f"swift_version = {wanted!r} is no version (6.3.1, 6.3) and no range (>=6.0,<7)"
        raise Failure(Kind.CONFIG, message, subkind="BAD_VALUE")
    return _COMPARE[found[1]], numbers_of(found[2])
