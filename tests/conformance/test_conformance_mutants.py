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
LONG = {
    "held tail sleeps",
    "cancel does not end the job",
    "release does not cancel",
    "session goes on after a refused frame",
    "length not checked before the body",
    "lines without a bound",
    "bomb unpacked",
    "lease never expires",
    "no grace for an expired lease",
    "slot free when its lease expires",
    "renewal extends nothing",
    "no slot without a lease",
    "upload under a lease refused",
    "expires_at in the past",
    "another policy in the set",
    "another profile in the index",
    "attestation without the worker's name",
    "effective configuration empty",
    "minimal profile is a rich one",
    "no events",
    "summary without a verdict",
    "pointers of the index swapped",
    "statements signed by another as well",
    "provenance without the toolchain",
    "a cut part loses the upload",
    "channel outlives its input",
    "length of the limit refused",
    "needless PAX accepted",
    "one upload_id, one file",
    "cancel answered with another state",
    "destination's name not checked",
    "log of a running job not counted",
    "one reason of a cancel known",
    "strange cursor is an internal error",
    "timeouts not kept",
    # Each of these has a neighbour that breaks the same check.
    "both digests told alike",
    "code beside the list",
    "file twice",
    "links that lead out accepted",
    "message of two lines",
    "more leases than slots",
    "no statements",
    "other capabilities attested",
    "probe answered in version 1",
    "release of a stale lease is an error",
    "seq skips",
    "too large without max_bytes",
    "totals of parts not checked",
    "toolchain not checked",
    "wrong manifest attested",
    "wrong digest of a part accepted",
}


def _cases() -> list[object]:
    return [
        pytest.param(name, marks=pytest.mark.faults_long) if name in LONG else name
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
@pytest.mark.faults_long  # `make test` has it pass every check, as a command
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
