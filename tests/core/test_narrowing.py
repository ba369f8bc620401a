"""Less than the gate: what is narrowed, what is refused, and how it is put on record."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.playbook import Playbook, accepted

from rch.contract.classifier import Rejected, classify
from rch.contract.errors import Failure, Kind
from rch.contract.policy import ClassifierPolicy
from rch.contract.records import Accepted, AcceptedRequest, Narrowing, TestFailure, TestSummary
from rchd.core import model as m
from rchd.core.narrow import narrowed, scope_of
from rchd.core.plan import again
from rchd.core.rerun import MOST_TESTS, failed_steps, narrowing_to

SWIFT = [("build", ("swift", "build"), ()), ("test", ("swift", "test"), ())]
POLICY = ClassifierPolicy(backend="swiftpm", configurations=("debug",), allow_narrowing=True)


def xcode_test(*own: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """A test step whose own `only_testing` is this."""
    return "test", ("xcodebuild", "test", *(f"-only-testing:{name}" for name in own)), own


def refusal(call: Any, *args: Any) -> Failure:
    with pytest.raises(Failure) as told:
        call(*args)
    assert told.value.kind is Kind.USAGE
    return told.value


@pytest.mark.spec("6")
def test_the_test_steps_are_narrowed_and_the_build_stays() -> None:
    asked = Narrowing(filters=("One", "Two"), skips=("Slow",))
    assert narrowed(SWIFT, asked, "swiftpm") == [
        ("build", ("swift", "build")),
        ("test", ("swift", "test", "--filter", "One", "--filter", "Two", "--skip", "Slow")),
    ]


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("own", "asked", "left"),
    [
        ((), ("App/A",), ("App/A",)),
        (("App",), ("App/A",), ("App/A",)),
        (("App/A",), ("App",), ("App/A",)),
        (("App/A", "App/B"), ("App/A/one", "App/B/two"), ("App/A/one", "App/B/two")),
        (("App/A", "Kit"), ("App/A/one", "Other"), ("App/A/one",)),
    ],
)
def test_what_both_plan_and_caller_want_is_left(
    own: tuple[str, ...], asked: tuple[str, ...], left: tuple[str, ...]
) -> None:
    found = narrowed([xcode_test(*own)], Narrowing(only_testing=asked), "xcodebuild")
    assert found == [("test", ("xcodebuild", "test", *(f"-only-testing:{name}" for name in left)))]


@pytest.mark.spec("6")
def test_a_step_of_which_nothing_is_asked_for_is_left_out_and_never_all_of_them() -> None:
    steps = [xcode_test("UnitTests"), xcode_test("UITests")]
    found = narrowed(steps, Narrowing(only_testing=("UITests/Login",)), "xcodebuild")
    assert found == [("test", ("xcodebuild", "test", "-only-testing:UITests/Login"))]
    told = refusal(narrowed, steps, Narrowing(only_testing=("AppTestsX",)), "xcodebuild")
    assert "UITests, UnitTests" in told.message


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("narrowing", "backend", "words"),
    [
        (Narrowing(only_testing=("A/B",)), "swiftpm", "--filter"),
        (Narrowing(skip_testing=("A/B",)), "swiftpm", "--filter"),
        (Narrowing(filters=("A",)), "xcodebuild", "--only-testing"),
        (Narrowing(skips=("A",)), "xcodebuild", "--only-testing"),
        (Narrowing(), "swiftpm", "name one"),
    ],
)
def test_the_words_of_the_other_backend_are_refused_with_what_to_type(
    narrowing: Narrowing, backend: str, words: str
) -> None:
    assert words in refusal(narrowed, SWIFT, narrowing, backend).hint


@pytest.mark.spec("6")
def test_a_run_without_a_test_step_has_nothing_to_narrow() -> None:
    assert "--action test" in refusal(narrowed, SWIFT[:1], Narrowing(filters=("A",)), "swiftpm").hint


@pytest.mark.spec("6")
def test_a_filter_of_the_command_line_itself_is_replaced_however_it_is_written() -> None:
    argv = ("swift", "test", "--filter", "Wide", "--parallel", "--filter=Wider", "--skip", "Slow")
    found = narrowed([("test", argv, ())], Narrowing(by_step=(("^A/b$",),)), "swiftpm")
    assert found == [("test", ("swift", "test", "--parallel", "--skip", "Slow", "--filter", "^A/b$"))]
    words = ("xcodebuild", "test", "-only-testing", "A", "-only-testing:B", "-quiet")
    found = narrowed([("test", words, ())], Narrowing(by_step=(("A/c",),)), "xcodebuild")
    assert found == [("test", ("xcodebuild", "test", "-quiet", "-only-testing:A/c"))]


def recorded(
    *scope: str, request: AcceptedRequest | None = None, selectors: tuple[str, ...] = ()
) -> Accepted:
    base = accepted()
    steps = (base.steps[0], msgspec.structs.replace(base.steps[1], scope=scope))
    policy = {"backend": "swiftpm", "selectors": list(selectors)}
    return msgspec.structs.replace(base, steps=steps, request=request, policy=policy)


@pytest.mark.spec("9")
def test_what_the_plan_itself_says_is_the_gate_and_what_a_caller_says_is_less() -> None:
    assert scope_of(recorded("--filter=Own", selectors=("Own",))) == ()
    assert scope_of(recorded("-only-testing:A/B", selectors=("A/B",))) == ()
    assert scope_of(recorded("--filter=Mine", selectors=("Own",))) == ("--filter=Mine",)
    asked = AcceptedRequest(narrowing=Narrowing(filters=("Own",)))
    assert scope_of(recorded("--filter=Own", request=asked, selectors=("Own",))) == ("--filter=Own",)


# --- again --------------------------------------------------------------------------------


@pytest.mark.spec("12")
def test_a_run_is_asked_for_again_as_it_was() -> None:
    asked = AcceptedRequest(actions=("test",), overrides={"run.retry_tests": "2"}, narrowing=Narrowing())
    base = accepted(priority=7, simulate=True, queue=False)
    params = again(
        msgspec.structs.replace(base, request=asked, group="save", supersede=True, origin="editor")
    )
    assert (params.start, params.actions, params.overrides) == (base.root, asked.actions, asked.overrides)
    assert (params.priority, params.simulate, params.queue) == (7, True, False)
    assert (params.group, params.supersede, params.origin) == ("save", True, "editor")
    assert params.client_token is None


@pytest.mark.spec("12")
def test_what_was_not_written_down_is_not_asked_for_again() -> None:
    assert "earlier version" in refusal(again, accepted()).message
    withheld = AcceptedRequest(withheld=("cache.token",))
    told = refusal(again, msgspec.structs.replace(accepted(), request=withheld))
    assert "cache.token" in told.message
    assert "rchctl verify" in told.hint


def ended(status: str = "failed", subkind: str | None = "TESTS_FAILED", *, step: int = 1) -> m.Run:
    """A run whose step `step` ended so."""
    play = Playbook()
    run = play.accept(accepted())
    play.to_step(run)
    for index in range(step):
        play.finish_step(run, index)
    play.finish_step(run, step, status)
    if status == "failed" and (end := run.steps[step].summary) is not None:
        run.steps[step].summary = msgspec.structs.replace(end, failure_subkind=subkind)
    return run


def over(run: m.Run) -> m.Run:
    run.state = type(run.state)("FAILED")
    return run


def told(*failures: tuple[str, str], failed: int | None = None) -> TestSummary:
    listed = tuple(TestFailure(suite=suite, name=name, message="no") for suite, name in failures)
    return TestSummary(
        created_at="2026-01-01T00:00:00.000Z",
        run_id="run-00000001",
        job_id="job",
        job_key="k",
        total=9,
        passed=1,
        failed=len(listed) if failed is None else failed,
        skipped=0,
        failures=listed,
        duration_ms=1,
    )


@pytest.mark.spec("6")
def test_only_tests_that_failed_are_a_list_of_what_to_run_again() -> None:
    assert failed_steps(over(ended())) == [1]
    running = ended()
    assert "is not over" in refusal(failed_steps, running).message
    built = over(ended(subkind="BUILD_FAILED", step=0))
    assert "BUILD_FAILED" in refusal(failed_steps, built).message
    assert "TESTS_CRASHED" in refusal(failed_steps, over(ended(subkind="TESTS_CRASHED"))).message
    passed = over(ended("success"))
    found = refusal(failed_steps, passed)
    assert "no test failed" in found.message
    assert found.hint == f"type rchctl rerun {passed.run_id} to run all of it again"


@pytest.mark.spec("6")
def test_more_failures_than_are_listed_or_than_are_a_few_run_the_whole_again() -> None:
    run = over(ended())
    assert (
        "2 are listed"
        in refusal(narrowing_to, run, {1: told(("A.B", "a"), ("A.B", "b"), failed=3)}).message
    )
    few = told(*(("A.B", f"t{number}") for number in range(MOST_TESTS)))
    assert len(narrowing_to(run, {1: few}).by_step[0]) == MOST_TESTS
    many = told(*(("A.B", f"t{number}") for number in range(MOST_TESTS + 1)))
    assert f"more than {MOST_TESTS}" in refusal(narrowing_to, run, {1: many}).message


@pytest.mark.spec("6")
def test_a_failed_test_is_named_from_its_beginning_to_its_end() -> None:
    run = over(ended())
    found = narrowing_to(
        run, {1: told(("AppTests.Sum", "testOne"), ("AppTests.Sum", "add()"), ("Sum", "x"))}
    )
    names = [
        "AppTests.Sum/testOne",
        "AppTests.Sum/testOneMore",
        "AppTests.Sum/add()/Sum.swift:3:4",
        "AppTests.Sum/added()",
        "XAppTests.Sum/testOne",
        "Other.Sum/x",
    ]
    fits = [name for name in names if any(re.search(one, name) for one in found.by_step[0])]
    assert fits == [names[0], names[2], names[5]]


@pytest.mark.spec("6")
@given(st.text(min_size=1, max_size=300), st.text(max_size=300))
def test_whatever_a_test_is_called_its_expression_is_accepted_and_fits_it(name: str, suite: str) -> None:
    run = over(ended())
    (found,) = narrowing_to(run, {1: told((suite, name))}).by_step
    verdict = classify(("swift", "test", "--filter", found[0]), POLICY)
    assert not isinstance(verdict, Rejected), found
    text = f"{suite}/{name}" if suite else name
    assert re.search(found[0], text, re.DOTALL), found


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("suite", "name", "left"),
    [
        ("AppTests.Sum", "testOne", ("AppTests/Sum/testOne",)),
        ("AppTests.Sum", "add()", ("AppTests/Sum/add()",)),
        ("AppTests.Sum", "testAdd()", ("AppTests/Sum/testAdd", "AppTests/Sum/testAdd()")),
        ("AppTests.Sum", "add(a:b:)", ("AppTests/Sum",)),
        ("AppTests.Outer.Inner", "add()", ("AppTests/Outer",)),
        ("AppTests", "in plain words", ("AppTests",)),
    ],
)
def test_a_test_that_xcodebuild_cannot_be_told_is_run_with_its_suite(
    suite: str, name: str, left: tuple[str, ...]
) -> None:
    run = over(ended())
    options = msgspec.structs.replace(run.accepted.options, backend="xcodebuild")
    run.accepted = msgspec.structs.replace(run.accepted, options=options)
    assert narrowing_to(run, {1: told((suite, name))}).by_step == (left,)
