"""What must agree before a pass: each check gives the sentences of what does not (spec section 9)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from worker_agent.results import signs
from worker_agent.results.cases import Case
from worker_agent.results.facts import Facts, console_names
from worker_agent.results.lines import xctest_name
from worker_agent.results.signs import runner_sign
from worker_agent.results.xcresult import Bundle
from worker_agent.results.xcresult_db import DatabaseRead
from worker_agent.results.xcresult_summary import SummaryRead

MAX_DOUBTS = 50
_RESULTS = frozenset({"Passed", "Failed", "Skipped", "Expected Failure"})
BUILT = frozenset({"", "succeeded"})
"""What a bundle says of a build that was done; older forms say nothing."""
_WORST = ("failed", "unknown", "passed", "expected_failure", "skipped")
_PHASES = {
    ("swiftpm", "build"): (("build",),),
    ("swiftpm", "test"): (("build", "test"),),
    ("xcodebuild", "build"): (("build",),),
    ("xcodebuild", "test"): (("test",), ("build", "test")),
}


def doubts_of(facts: Facts) -> list[str]:
    """Every doubt, the first 50."""
    return [doubt for check in _CHECKS for doubt in check(facts)][:MAX_DOUBTS]


def problems_of(facts: Facts) -> list[str]:
    """What is wrong with the sources of results themselves."""
    problems = [f"{file.name} {file.problem}" for file in facts.xunit if file.problem is not None]
    if facts.bundle is not None and facts.action == "test" and facts.bundle.unread is not None:
        problems.append(f"{facts.bundle.name} {facts.bundle.unread}")
    return problems


def _exit_codes(facts: Facts) -> list[str]:
    failed = facts.count("failed")
    doubts = [
        f"{one.name} said {one.exit_code} without a failed test" for one in facts.phases if not one.ok
    ]
    if failed and not doubts:
        return [f"{facts.tool('test')} said 0 with {failed} failed tests"]
    return doubts


def _signs_of_failure(facts: Facts) -> list[str]:
    """What xcodebuild said of a failure that its code 0 denies; printed by a test it is no pass either.

    A runner is started anew after a crash that the results tell of, where tests are tried again.
    """
    if not facts.xcode or facts.phases[-1:] == () or not facts.phases[-1].ok:
        return []
    retried = any(case.lost_attempts for case in facts.cases)
    said = [one.text for one in facts.log.signs if not (retried and one.kind == signs.CRASH)]
    flaky = {name for case in facts.cases if case.lost_attempts for name in console_names(case)}
    listed = [f"{name} is one of the failing tests" for name in sorted(facts.log.failing - flaky)]
    words = [one for one in facts.runner_words if runner_sign(one) is not None]
    return [f"xcodebuild said 0 and: {text}" for text in (*said, *listed, *words)]


def _build_report(facts: Facts) -> list[str]:
    """The bundle's report on its build, after which xcodebuild said 0."""
    build = facts.bundle.build if facts.bundle else None
    if build is None or facts.bundle is None:
        return []
    if build.problem is not None:
        return [f"{facts.bundle.name} build: {build.problem}"]
    return [] if build.status in BUILT else [f"the bundle's build has the status {build.status!r}"]


def _all_phases(facts: Facts) -> list[str]:
    run = tuple(phase.name for phase in facts.phases if phase.name != "resolve" or not facts.xcode)
    wanted = _PHASES[facts.backend, facts.action]
    if run in wanted:
        return []
    return [f"phases {', '.join(run)} were run in place of {', '.join(wanted[0])}"]


def _sources_whole(facts: Facts) -> list[str]:
    if facts.action == "test" and facts.xcode and facts.bundle is None:
        return ["there is no result bundle"]
    if facts.action == "test" and not facts.xcode and not facts.xunit:
        return ["there is no results file"]
    problems, early = problems_of(facts), _ended_early(facts)
    return [f"{early}: {'; '.join(problems)}"] if problems and early else problems


def _ended_early(facts: Facts) -> str | None:
    """The likely reason of a results file that is not whole: one of the tests that ran called `exit`."""
    if running := facts.log.running:
        others = f" and {len(running) - 3} more" if len(running) > 3 else ""
        return f"the tests ended early while {', '.join(name[:80] for name in running[-3:])}{others} ran"
    cut = any(file.problem is not None and file.problem.startswith("is cut short") for file in facts.xunit)
    return "the tests ended early" if cut else None


def _build_said_errors(facts: Facts) -> list[str]:
    first = facts.first_error
    if first is not None and first.path is not None and not first.path.startswith("/"):
        return [f"the build said 0 and {first.path}:{first.line}: error: {first.message}"]
    build = facts.bundle.build if facts.bundle else None
    return [f"the build said 0 with {build.error_count} errors"] if build and build.error_count else []


def _console_agrees(facts: Facts) -> list[str]:
    """Only tests that the results know count: a test may print any other project's log."""
    green = [case for case in facts.cases if case.outcome in {"passed", "skipped"} and not case.flaky]
    held = {name: case.outcome for case in green for name in console_names(case)}
    log = facts.log
    red = log.failed | log.failing
    told = (*sorted(log.passed | red | log.skipped), *log.unfinished, *log.running)
    if facts.action == "test" and not facts.cases and (told or log.signal is not None):
        return [f"the console tells of {told[0] if told else log.crash} and the results hold no test"]
    return [
        *(
            f"{name} failed on the console and {held[name]} in the results"
            for name in sorted(red & held.keys())
        ),
        *(f"{name} started and never ended" for name in log.unfinished if name in held),
    ]


def _console_vouches(facts: Facts) -> list[str]:
    """What the console must say of tests that the results do not call failed.

    SwiftPM writes a test of XCTest down as passed where its process said 0, even if it never began.
    """
    if facts.xcode or not facts.xunit:
        return []
    told = Counter(facts.log.vouched)
    held = Counter(
        xctest_name(f"{case.suite}.{case.name}")
        for case in facts.xunit[0].cases
        if case.outcome in {"passed", "skipped"}
    )
    functions = {case.name for file in facts.xunit[1:] for case in file.cases if case.outcome != "failed"}
    red = sorted(functions & facts.log.failed_functions)
    open_ones = [name for name in facts.log.running if name in functions]
    silent = sorted(name for name, number in held.items() if told[name] < number)
    return [
        *(f"{name} passed in the results and the console never said so" for name in silent),
        *(f"{name} failed on the console and not in the results" for name in red),
        *(f"{name} began on the console and never ended" for name in open_ones),
    ]


def _every_result(facts: Facts) -> list[str]:
    unknown = [case for case in facts.cases if case.outcome == "unknown"]
    return [f"{case.suite}.{case.name} has no result" for case in unknown[:MAX_DOUBTS]]


def _bundle_agrees(facts: Facts) -> list[str]:
    """A bundle's parts with one another; those that cannot be read are told elsewhere."""
    bundle = facts.bundle
    if facts.action != "test" or bundle is None or bundle.unread is not None:
        return []
    if bundle.tests is None or bundle.summary is None:
        return [f"{bundle.name} was not asked for its tests"]
    return [*bundle.tests.doubts, *_summary(bundle, bundle.summary), *_database(bundle, bundle.database)]


def _summary(bundle: Bundle, summary: SummaryRead) -> Iterator[str]:
    cases = bundle.cases
    failed = _number(cases, "failed")
    if summary.result not in _RESULTS and (cases or summary.result != "unknown"):
        yield f"the bundle's result is {summary.result!r}"
    if (summary.result == "Failed" or summary.failed) and not failed:
        said = f"{summary.result} with {summary.failed} failed tests"
        yield f"the bundle's summary says {said}, its tests none"
    if failed and (summary.result != "Failed" or not summary.failed):
        yield f"{failed} tests of the bundle failed and its summary says {summary.result}"
    if bool(summary.total) != bool(cases):
        yield f"the bundle's summary counts {summary.total} tests, and it holds {len(cases)}"
    counts = (summary.passed, summary.failed, summary.skipped, summary.expected)
    ways = _ways_to_count(cases)
    if counts not in ways:
        yield f"the bundle's summary counts {_listed(counts)}, and it holds {_listed(ways[0])}"


def _database(bundle: Bundle, database: DatabaseRead | None) -> Iterator[str]:
    """The database; a layout that is not known proves nothing."""
    if database is None or database.foreign:
        return
    if database.problem is not None:
        yield f"the bundle's database {database.problem}"
        return
    failed = _number(bundle.cases, "failed")
    if database.failed != failed:
        yield f"the bundle's database holds {database.failed} failed tests, its report {failed}"
    green = {case.identifier for case in bundle.cases if case.outcome == "passed"}
    red = {case.identifier for case in bundle.cases if case.outcome != "passed"}
    for name in database.failing:
        if name in green and name not in red:
            yield f"{name} failed in the bundle's database and passed in its report"
    if database.other:
        yield f"the bundle's database holds {database.other} results of words that are not known"
    counts = (database.passed, database.failed, database.skipped, database.expected)
    if counts not in _ways_to_count(bundle.cases):
        yield f"the bundle's database holds {_listed(counts)}, its report another number"
    if bool(database.total) != bool(bundle.cases):
        yield f"the bundle's database holds {database.total} results, its report {len(bundle.cases)}"


def _ways_to_count(cases: tuple[Case, ...]) -> list[tuple[int, ...]]:
    """Counts by outcome: of cases, of tests whatever their devices, of arguments, of repetitions.

    Versions of the tool differ in which they count.
    """
    tests: dict[str, str] = {}
    for case in cases:
        name = f"{case.suite}/{case.identifier or case.name}"
        tests[name] = min(tests.get(name, case.outcome), case.outcome, key=_WORST.index)
    return [
        tuple(Counter(outcomes)[one] for one in ("passed", "failed", "skipped", "expected_failure"))
        for outcomes in (
            [case.outcome for case in cases],
            list(tests.values()),
            [one.outcome for case in cases for one in (case.arguments or (case,))],
            [one.outcome for case in cases for one in (case.attempts or (case,))],
            [
                one.outcome
                for case in cases
                for part in (case.arguments or (case,))
                for one in (part.attempts or (part,))
            ],
        )
    ]


def _number(cases: tuple[Case, ...], outcome: str) -> int:
    return sum(case.outcome == outcome for case in cases)


def _listed(numbers: tuple[int, ...]) -> str:
    words = ("passed", "failed", "skipped", "expected to fail")
    return ", ".join(f"{number} {word}" for number, word in zip(numbers, words, strict=True))


_CHECKS: tuple[Callable[[Facts], list[str]], ...] = (
    _exit_codes,
    _signs_of_failure,
    _build_report,
    _all_phases,
    _sources_whole,
    _build_said_errors,
    _every_result,
    _console_agrees,
    _console_vouches,
    _bundle_agrees,
)
