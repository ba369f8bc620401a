from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
from support.evidence import ERRORS, after_tests, bundle_of, case, log_of

from rch.contract.errors import lookup
from worker_agent.model import EndedByUs
from worker_agent.results import signs
from worker_agent.results.cases import Case
from worker_agent.results.facts import Facts
from worker_agent.results.logfacts import LogFacts
from worker_agent.results.verdict import decide
from worker_agent.results.xcresult import Bundle
from worker_agent.results.xcresult_summary import BuildRead
from worker_agent.results.xcresult_tests import TestsRead

CODES = (0, 1, 65, 64, 66, 69, 70, 74, None)
REFUSALS = {
    64: "USAGE",
    66: "PROJECT_MISSING",
    69: "LICENSE",
    70: "NO_DESTINATION",
    74: "PACKAGE_RESOLUTION",
}
LOGS = {
    "silent": LogFacts(),
    "build": log_of(signs.BUILD_FAILED),
    "errors": ERRORS,
    "infra": log_of(signs.INFRASTRUCTURE),
    "crash": log_of(signs.CRASH),
    "both": log_of(signs.CRASH, signs.INFRASTRUCTURE, signs.TESTS_FAILED),
    "packages": log_of(signs.PACKAGE_RESOLUTION),
    "red": LogFacts(failed=frozenset({"SumTests.a"}), failing=frozenset({"SumTests.a"})),
    "unfinished": LogFacts(unfinished=("SumTests.a",)),
}
CASES = {
    "none": (),
    "green": (case("a()"), case("b()")),
    "red": (case("a()", "failed"), case("b()")),
    "skips": (case("a()", "skipped"),),
    "expected": (case("a()", "expected_failure"),),
    "flaky": (case("a()", lost=True),),
    "unknown": (case("a()", "unknown"), case("b()")),
}
BUNDLES = (
    "whole",
    "absent",
    "unwritten",
    "cut",
    "lying summary",
    "lying database",
    "no database",
    "build errors",
)
ENDS = (None, "USER", "TIMEOUT_IDLE")


def bundle_in(state: str, cases: tuple[Case, ...]) -> Bundle | None:
    whole = bundle_of(*cases)
    red, green = bundle_of(case("z()", "failed")), bundle_of(case("z()"))
    other = green if any(one.outcome == "failed" for one in cases) else red
    return {
        "whole": whole,
        "absent": None,
        "unwritten": Bundle(problem="was not written"),
        "cut": replace(whole, tests=TestsRead(problem="is cut short")),
        "lying summary": replace(whole, summary=other.summary),
        "lying database": replace(whole, database=other.database),
        "no database": replace(whole, database=None),
        "build errors": replace(whole, build=BuildRead(error_count=1)),
    }[state]


def every() -> Iterator[tuple[tuple[object, ...], Facts]]:
    product = itertools.product(CODES, LOGS, CASES, BUNDLES, ENDS, (False, True))
    for code, log, cases, state, end, allowed in product:
        if end is not None and state != "whole":
            continue
        facts = after_tests(
            code,
            bundle_in(state, CASES[cases]),
            LOGS[log],
            signal=9 if code is None else None,
            allow_no_tests=allowed,
        )
        ended = EndedByUs(end) if end else None
        yield (code, log, cases, state, end, allowed), replace(facts, ended=ended)


@pytest.mark.spec("9")
def test_nothing_that_can_come_together_breaks_the_rules() -> None:
    seen: set[str] = set()
    for (code, log, cases, state, end, allowed), facts in every():
        decision = decide(facts)
        about = (code, log, cases, state, end, allowed, decision.outcome, decision.why)
        seen.add(decision.outcome)
        failed, ran = facts.count("failed"), facts.ran
        if end is not None:
            assert decision.outcome == end, about
            continue
        assert decision.outcome not in ENDS, about
        whole = state in {"whole", "no database"}
        if decision.outcome == "PASSED":
            assert (decision.status, decision.exit_code, decision.kind) == ("success", 0, None)
            assert code == 0, about
            assert whole, about
            assert not failed, about
            assert ran or allowed, about
            assert not facts.count("unknown"), about
            assert log in {"silent", "red", "unfinished"} or (log == "crash" and cases == "flaky"), about
            assert not (log in {"red", "unfinished"} and cases == "green"), about
            continue
        assert decision.kind is not None
        assert decision.exit_code == lookup(decision.kind, decision.subkind).exit_code > 0
        assert lookup(decision.kind, decision.subkind) is not lookup(decision.kind), (
            about
        )  # a row of its own
        assert decision.status == "failed", about
        if code in REFUSALS:
            assert decision.outcome == REFUSALS[int(str(code))], about
            continue
        if code == 0:
            wrong = bool(failed) or not whole or bool(facts.count("unknown")) or bool(ran)
            wrong = wrong or log != "silent"
            assert decision.outcome == ("INCONSISTENT" if wrong else "NO_TESTS_RAN"), about
        if decision.outcome == "TESTS_FAILED":
            assert failed, about
            assert log not in {"infra", "both", "crash"}, about
        if code in {1, 65} and log in {"infra", "both"} and facts.cases:
            assert decision.outcome == "INFRASTRUCTURE", about
        if code in {1, 65} and whole and ran and not failed and log in {"silent", "packages", "red"}:
            assert decision.outcome == "INCONSISTENT", about
        if decision.outcome == "BUILD_FAILED":
            assert not facts.cases, about
    assert seen >= {
        "PASSED",
        "USER",
        "TIMEOUT_IDLE",
        *REFUSALS.values(),
        "BUILD_FAILED",
        "INFRASTRUCTURE",
        "TESTS_CRASHED",
        "TESTS_FAILED",
        "NO_TESTS_RAN",
        "INCONSISTENT",
    }
