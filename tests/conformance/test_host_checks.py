"""Our own host is held to the contract, and the checks can fail (spec section 13)."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.broken_daemon import BREAKS
from support.hosts import all_checks, broken_by, failures_of

from rch_conformance.host.cases import CASES
from rch_conformance.host.suite import NEEDED

# One of each kind; runs are shared among checks, so that many look at few.
REPRESENTATIVE = (
    "success",
    "again",
    "app",
    "build-failed",
    "refused-here",
    "busy",
    "interrupted",
    "lease-lost",
    "cut-line",
    "no-tail",
    "unsigned",
    "wrong-digest",
    "stand-in",
    "protocol-9",
)
TOGETHER = (
    "believes everybody",
    "names no lease",
    "uploads always",
    "takes every file",
    "adds to a set",
    "mixes codes up",
    "skips no step",
    "never waits",
)
"""These leave one another alone, and so can be looked at in one daemon."""


def _looking_at(cases: tuple[str, ...]) -> list[str]:
    """The checks that need no other case."""
    all_checks()
    return [check for check, needed in NEEDED.items() if set(needed) <= set(cases)]


@pytest.mark.spec("13")
def test_our_host_keeps_what_it_promises(tmp_path: Path) -> None:
    checks = _looking_at(REPRESENTATIVE)
    assert len(checks) >= 35
    assert failures_of(checks, tmp_path) == {}


@pytest.mark.spec("13")
@pytest.mark.faults_long
@pytest.mark.timeout(600)
def test_our_host_keeps_all_that_it_promises(tmp_path: Path) -> None:
    assert failures_of((check.id for check in all_checks()), tmp_path) == {}


@pytest.mark.spec("13")
def test_a_host_that_breaks_its_promises_is_found_out_in_each(tmp_path: Path) -> None:
    checks = [BREAKS[name][1] for name in TOGETHER]
    assert set(failures_of(checks, tmp_path, broken_by(TOGETHER))) == set(checks)


@pytest.mark.spec("13")
@pytest.mark.faults_long
@pytest.mark.parametrize("name", BREAKS)
def test_a_host_with_one_fault_is_found_out_by_the_check_for_it(name: str, tmp_path: Path) -> None:
    check = BREAKS[name][1]
    assert set(failures_of([check], tmp_path, broken_by([name]))) == {check}


def test_each_case_is_looked_at_and_each_check_names_its_cases() -> None:
    assert {check.id for check in all_checks()} == set(NEEDED)
    looked_at = {case for cases in NEEDED.values() for case in cases}
    assert looked_at == set(CASES)
    assert not [check.id for check in all_checks() if check.name.endswith(".")]
