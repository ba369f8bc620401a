"""`rch-conformance host` in this process: which checks passed of a host, sound or broken."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from support import broken_daemon
from support.plain import PLAIN

from rch_conformance.checks import Check, Result, Verdict, run_checks
from rch_conformance.host.cases import CASES
from rch_conformance.host.command import load_checks, needed
from rch_conformance.host.home import Home
from rch_conformance.host.rig import Rig
from rch_conformance.host.suite import SUITE

RCHCTL = (sys.executable, "-m", "rchctl")
TIMEOUT = 100.0


def all_checks() -> list[Check[Rig]]:
    """Every check of a host."""
    load_checks()
    return SUITE.checks


def results_of(ids: Iterable[str], mark: Path, env: Mapping[str, str] | None = None) -> list[Result]:
    """What these checks say of our own host in a home of its own, with `env` besides.

    `mark` stands in the environment of its programs, so that what outlives the test is found.
    """
    wanted = set(ids)
    checks = [check for check in all_checks() if check.id in wanted]
    assert {check.id for check in checks} == wanted
    names = needed(check.id for check in checks)
    cases = {name: CASES[name] for name in {*names, *(CASES[each].after or each for each in names)}}
    with (
        Home(RCHCTL, TIMEOUT, {**PLAIN, "RCH_TEST_OF": str(mark), **(env or {})}) as home,
        Rig(home, cases) as rig,
    ):
        rig.ahead(names)
        return list(run_checks(checks, rig))


def failures_of(ids: Iterable[str], mark: Path, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The checks that did not pass, each with what it says."""
    found = results_of(ids, mark, env)
    return {each.id: each.detail for each in found if each.verdict is not Verdict.PASS}


def broken_by(names: Iterable[str]) -> dict[str, Any]:
    """The environment of a daemon that is broken in these ways."""
    command = shlex.join([sys.executable, str(broken_daemon.__file__)])
    return {"RCH_RCHD": command, "RCH_TEST_BREAKS": ",".join(names)}
