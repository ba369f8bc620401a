"""Our own host is held to the contract, and the checks can fail (spec section 13)."""

from __future__ import annotations

import json
import shlex
import tempfile
from pathlib import Path

import pytest
from support.broken_daemon import BREAKS
from support.hosts import RCHCTL, all_checks, broken_by, failures_of

from rch_conformance.cli import main
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
    "no-lease",
    "unsigned",
    "plain-set",
    "wrong-digest",
    "stand-in",
    "protocol-9",
    "preferred",
    "next",
    "unknown-members",
    "bad-statement",
    "wrong-root",
)
TOGETHER = (
    "believes everybody",
    "gives no right reason",
    "uploads always",
    "takes every file",
    "adds to a set",
    "mixes codes up",
    "skips no step",
    "never waits",
    "has one request id",
    "has ids of no order",
    "has two nonces",
    "uploads without a lease",
    "skips a seq",
    "knows one worker",
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
@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", BREAKS)
def test_a_host_with_one_fault_is_found_out_by_the_check_for_it(name: str, tmp_path: Path) -> None:
    check = BREAKS[name][1]
    assert set(failures_of([check], tmp_path, broken_by([name]))) == {check}


def test_the_command_lists_its_checks_and_refuses_a_client_that_is_not_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["host", "--list", "--section", "4"]) == 0
    assert "killed-daemon-goes-on" in capsys.readouterr().out
    assert main(["host", "--rchctl", "/no/such/rchctl --flag"]) == 2
    assert "there is no such program" in capsys.readouterr().err
    assert main(["host", "--only", "no-such-check"]) == 2


@pytest.mark.spec("13")
def test_the_command_reports_what_it_found_and_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    junit = tmp_path / "host.xml"
    client = shlex.join(RCHCTL)
    words = [
        "host",
        "--only",
        "other-protocol-is-refused",
        "--rchctl",
        client,
        "--json",
        "--junit",
        str(junit),
    ]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"pass": 1, "fail": 0, "not_offered": 0}
    assert "A worker of another protocol" in junit.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["host.xml"]


def test_each_case_is_looked_at_and_each_check_names_its_cases() -> None:
    assert {check.id for check in all_checks()} == set(NEEDED)
    looked_at = {case for cases in NEEDED.values() for case in cases}
    assert looked_at == set(CASES)
    assert not [check.id for check in all_checks() if check.name.endswith(".")]
