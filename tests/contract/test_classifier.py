"""The gate: a corpus of invocations, its canonical form, and what a refusal says."""

from __future__ import annotations

import msgspec
import pytest
from support.invocations import BASE, CORPUS, DESTINATION, POLICIES, RESOLVED, S, X

from rch.contract.classifier import Accepted, Rejected, classify
from rch.contract.denied import SWIFT_DENIED, WORKER_OWNED, XCODEBUILD_DENIED
from rch.contract.flag_values import parse_destination, refines, unbalanced
from rch.contract.policy import GRAMMARS, ClassifierPolicy, ReasonCode

ACCEPTED = [(policy, words) for policy, expected, words in CORPUS if expected == "ok"]


@pytest.mark.spec("6")
@pytest.mark.parametrize(("policy", "expected", "words"), CORPUS)
def test_corpus(policy: str, expected: str, words: list[str]) -> None:
    verdict = classify(words, POLICIES[policy])
    if isinstance(verdict, Accepted):
        found = "ok"
    else:
        found = ", ".join(f"{reason.code}:{reason.subject}" for reason in verdict.reasons)
    assert found == expected, verdict


@pytest.mark.spec("13")
def test_corpus_is_broad() -> None:
    assert len(CORPUS) >= 150
    codes = {part.partition(":")[0] for _, expected, _ in CORPUS for part in expected.split(", ")}
    assert codes == {"ok", *ReasonCode}


@pytest.mark.spec("6")
@pytest.mark.parametrize(("policy", "words"), ACCEPTED)
def test_what_is_accepted_is_its_own_canonical_form(policy: str, words: list[str]) -> None:
    first = classify(words, POLICIES[policy])
    assert isinstance(first, Accepted)
    again = classify(first.sanitized_argv, POLICIES[policy])
    assert isinstance(again, Accepted)
    assert again.sanitized_argv == first.sanitized_argv
    assert again.narrowing == first.narrowing
    assert first.original_argv == tuple(words)


@pytest.mark.spec("6")
def test_canonical_form_has_one_spelling_and_one_order() -> None:
    one = ["swift", "build", "-j", "4", "--configuration=release", "--product", "demo"]
    other = ["build", "--product=demo", "-c", "release", "--jobs", "4"]
    canonical = ("build", "--configuration", "release", "--jobs", "4", "--product", "demo")
    for words in (one, other):
        verdict = classify(words, S)
        assert isinstance(verdict, Accepted)
        assert verdict.sanitized_argv == canonical


@pytest.mark.spec("6")
def test_flags_sort_by_name_and_settings_come_last() -> None:
    words = ["ONLY_ACTIVE_ARCH=YES", "CODE_SIGN_IDENTITY=", "-quiet", *BASE, "-jobs", "2", "build"]
    verdict = classify(words, X)
    assert isinstance(verdict, Accepted)
    assert verdict.sanitized_argv == (
        *("build", "-destination", DESTINATION, "-jobs", "2", "-quiet", "-scheme", "App"),
        *("-workspace", "App.xcworkspace", "CODE_SIGN_IDENTITY=", "ONLY_ACTIVE_ARCH=YES"),
    )


@pytest.mark.spec("6")
def test_resolved_destination_takes_the_place_of_the_constraint_and_classifies_to_itself() -> None:
    first = classify(["test", *BASE], X, resolved_destination=RESOLVED)
    assert isinstance(first, Accepted)
    assert RESOLVED in first.sanitized_argv
    assert DESTINATION not in first.sanitized_argv
    again = classify(first.sanitized_argv, X, resolved_destination=RESOLVED)
    assert isinstance(again, Accepted)
    assert again.sanitized_argv == first.sanitized_argv


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    "resolved",
    [
        "platform=iOS Simulator,name=iPhone 15,OS=18.2",
        "platform=tvOS Simulator,name=iPhone 16,OS=18.2",
        "platform=iOS Simulator,name=iPhone 16,OS=latest",
        "platform=iOS Simulator,name=iPhone 16",
        "platform=iOS Simulator,name=iPhone 16,OS=18.2,variant=Mac Catalyst",
        "id=1234",
        "",
    ],
)
def test_destination_outside_the_constraint_is_refused(resolved: str) -> None:
    verdict = classify(["test", *BASE], X, resolved_destination=resolved)
    assert isinstance(verdict, Rejected)
    assert [reason.code for reason in verdict.reasons] == ["DESTINATION_MISMATCH"]


@pytest.mark.spec("7")
@pytest.mark.parametrize(
    ("constraint", "resolved", "good"),
    [
        ("platform=macOS", "platform=macOS,arch=arm64", True),
        ("platform=macOS,arch=x86_64", "platform=macOS,arch=arm64", False),
        ("platform=iOS Simulator,name=A,OS=18.1", "platform=iOS Simulator,name=A,OS=18.1", True),
        ("platform=iOS Simulator,name=A,OS=18.1", "platform=iOS Simulator,name=A,OS=18.2", False),
        ("platform=iOS Simulator,name=A", "platform=iOS Simulator,name=A,OS=18.2", True),
        ("generic/platform=iOS", "generic/platform=iOS", True),
        ("generic/platform=iOS", "platform=iOS", False),
    ],
)
def test_a_resolved_destination_refines_its_constraint(
    constraint: str, resolved: str, *, good: bool
) -> None:
    assert refines(resolved, constraint) is good


@pytest.mark.spec("6")
def test_destination_with_a_key_twice_or_unknown_is_none() -> None:
    assert parse_destination("platform=macOS,platform=macOS") is None
    assert parse_destination("platform=macOS,flavour=x") is None
    assert parse_destination("name=iPhone 16") is None
    assert parse_destination("platform=macOS, arch=arm64") is None
    assert parse_destination("platform=macOS,arch=arm64") == {"platform": "macOS", "arch": "arm64"}


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("expression", "at"),
    [
        ("STOk(", 4),
        ("a)", 1),
        ("((a)", 0),
        ("[a-z", 0),
        ("a(b[)]", 1),
        (r"\(", None),
        (r"\\(", 2),
        ("[(]", None),
        (r"[\]]", None),
        ("^(A|B)/t[0-9]+(/|$)", None),
        # What the dialects read in more than one way is left to the tool.
        (r"\Q(\E", None),
        ("[a[(]b)]", None),
        ("[](]", None),
        ("(" * 256, 0),
    ],
)
def test_a_bracket_of_an_expression_that_has_no_partner_is_found(expression: str, at: int | None) -> None:
    assert unbalanced(expression) == at


@pytest.mark.spec("6")
def test_an_expression_with_a_bracket_too_many_is_refused_with_its_place() -> None:
    verdict = classify(["test", "--filter", "STOk("], POLICIES["sn"])
    assert isinstance(verdict, Rejected)
    assert "the ( at character 5 has no partner (the letter itself is \\()" in verdict.rejection_reason


@pytest.mark.spec("9")
def test_narrowing_is_on_record() -> None:
    verdict = classify(["test", "--skip", "B", "--filter", "A"], POLICIES["sn"])
    assert isinstance(verdict, Accepted)
    assert verdict.narrowing == ("--filter=A", "--skip=B")
    verdict = classify(["test", *BASE, "-only-testing", "A/B"], POLICIES["xn"])
    assert isinstance(verdict, Accepted)
    assert verdict.narrowing == ("-only-testing:A/B",)
    part = classify(["build", "--target", "Core"], S)
    assert isinstance(part, Accepted)
    assert part.narrowing == ("--target=Core",)
    plan = classify(["test", *BASE, "-testPlan", "Smoke"], X)
    assert isinstance(plan, Accepted)
    assert plan.narrowing == ("-testPlan=Smoke",)
    full = classify(["test", *BASE], X)
    assert isinstance(full, Accepted)
    assert full.narrowing == ()


@pytest.mark.spec("6")
def test_rejected_flags_and_first_reason_are_told() -> None:
    verdict = classify(["build", *BASE, "-xcconfig", "x", "A=B", "-jobs", "0"], X)
    assert isinstance(verdict, Rejected)
    assert verdict.rejected_flags == ("-xcconfig", "A", "-jobs")
    assert verdict.rejection_reason.startswith("-xcconfig: ")
    assert verdict.rejection_reason.endswith("(DENIED_FLAG)")


@pytest.mark.spec("6")
def test_unknown_flag_names_the_nearest_and_the_right_case() -> None:
    verdict = classify(["build", *BASE, "-quite"], X)
    assert isinstance(verdict, Rejected)
    assert "-quiet" in verdict.reasons[0].message
    verdict = classify(["build", *BASE, "-DerivedDataPath", "x"], X)
    assert isinstance(verdict, Rejected)
    assert "-derivedDataPath" in verdict.reasons[0].message


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([""], "'': an empty word"),
        (["\x07"], "\\u{7}: a control character"),
        (["a" * 1025], ": a word over 1024 characters"),
        (["--parallel=x"], "--parallel: write --parallel"),
        (["--jobs:4"], "--jobs: write --jobs VALUE"),
    ],
)
def test_a_word_that_cannot_be_read_is_told_with_what_is_wrong(words: list[str], message: str) -> None:
    verdict = classify(["test", *words], S)
    assert isinstance(verdict, Rejected)
    assert verdict.reasons[0].message.endswith(message)


@pytest.mark.spec("6")
def test_values_of_refused_settings_are_not_repeated() -> None:
    verdict = classify(["build", *BASE, "API_TOKEN=hunter2", "-authenticationKeyID", "hunter2"], X)
    assert isinstance(verdict, Rejected)
    assert "hunter2" not in "".join(reason.message + reason.subject for reason in verdict.reasons)


@pytest.mark.spec("6")
def test_limits_hold_at_the_limit_and_one_beyond() -> None:
    word = "-only-testing:" + "A" * 127
    assert isinstance(classify(["test", *BASE, word], POLICIES["xn"]), Accepted)
    assert isinstance(classify(["test", *BASE, word + "AA"], POLICIES["xn"]), Rejected)
    many = [f"-only-testing:T{index}" for index in range(4096 - 1 - len(BASE))]
    assert isinstance(classify(["test", *BASE, *many], POLICIES["xn"]), Accepted)
    verdict = classify(["test", *BASE, *many, "-quiet"], POLICIES["xn"])
    assert isinstance(verdict, Rejected)
    assert len(verdict.reasons) == 1
    verdict = classify(["build", "x" * 1025], S)
    assert isinstance(verdict, Rejected)
    assert verdict.reasons[0].code == "PARSE_ERROR"


@pytest.mark.spec("6")
def test_verdicts_and_policies_are_json() -> None:
    for policy, _, words in CORPUS:
        verdict = classify(words, POLICIES[policy])
        coded = msgspec.json.encode(verdict)
        assert msgspec.json.decode(coded, type=Accepted | Rejected) == verdict
    coded = msgspec.json.encode(X)
    assert msgspec.json.decode(coded, type=ClassifierPolicy) == X


@pytest.mark.spec("6")
def test_tables_do_not_contradict_themselves() -> None:
    assert not set(GRAMMARS["xcodebuild"].flags) & set(XCODEBUILD_DENIED)
    assert not set(GRAMMARS["swiftpm"].flags) & set(SWIFT_DENIED)
    assert all(
        flag.name in grammar.flags for grammar in GRAMMARS.values() for flag in grammar.flags.values()
    )
    for owned in ("-derivedDataPath", "-resultBundlePath", "--scratch-path", "--xunit-output"):
        assert owned in WORKER_OWNED
