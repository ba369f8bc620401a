"""Each broken worker is found, by the check that names the promise which it breaks (section 13)."""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance.mutant_bench import a_mutant_bench
from conformance.mutants import VARIANTS, every_mutant

from rch_conformance.checks import Verdict

MUTANTS = {name: check for name, (check, _) in every_mutant().items()}
# These are found by what does not come: the check has to wait for it.
SILENT = {
    "length not checked before the body",
    "lines without a bound",
    "session goes on after a refused frame",
}
EACH_TIME = {
    "argv executed as it came",
    "busy without retry_after_seconds",
    "commit marker first",
    "extra file",
    "log bytes lost",
    "many jobs under one lease",
    "nonce not repeated",
    "package built wherever it is said to lie",
    "second execution of a job that runs",
    "seq falls",
    "stale fence accepted",
    "unsigned while signing is offered",
    "wrong bundle digest accepted",
    "wrong transport digest accepted",
}
"""One or two of each class; the others are tried by `make test-faults`."""


def _cases() -> list[object]:
    return [
        name if name in EACH_TIME else pytest.param(name, marks=pytest.mark.faults_long)
        for name in sorted(MUTANTS)
    ]


@pytest.mark.spec("13")
@pytest.mark.parametrize("name", _cases())
def test_a_mutant_is_caught_by_the_check_of_its_promise(name: str, tmp_path: Path) -> None:
    timeout = 3.0 if name in SILENT else 20.0
    with a_mutant_bench(tmp_path) as bench:
        (result,) = bench.results(name, MUTANTS[name], timeout=timeout, job_timeout=8)
    assert result.verdict is Verdict.FAIL, result
    assert "Error:" not in result.detail.partition(" ")[0], f"the check itself broke: {result.detail}"


@pytest.mark.spec("13")
@pytest.mark.faults_long
@pytest.mark.timeout(400)
def test_the_honest_worker_passes_the_checks_that_find_mutants(tmp_path: Path) -> None:
    with a_mutant_bench(tmp_path) as bench:
        results = bench.results("none", *MUTANTS.values())
    assert [each for each in results if each.verdict is not Verdict.PASS] == []


@pytest.mark.spec("13")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.faults_long) if "name" in name else name
        for name in sorted(VARIANTS)
    ],
)
def test_a_worker_that_keeps_the_contract_in_another_way_passes(name: str, tmp_path: Path) -> None:
    with a_mutant_bench(tmp_path) as bench:
        results = bench.results(name, *VARIANTS[name][0])
    assert [each for each in results if each.verdict is not Verdict.PASS] == []


def test_there_are_mutants_enough() -> None:
    assert len(MUTANTS) >= 25


@pytest.mark.spec("13")
def test_there_is_each_of_those_that_are_tried_each_time_and_more_than_a_hundred_in_all() -> None:
    assert MUTANTS.keys() >= EACH_TIME
    assert len(MUTANTS) > 100
