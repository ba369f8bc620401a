"""The gate: a corpus of invocations, its canonical form, and properties that hold for any argv."""

from __future__ import annotations

import re
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.invocations import BASE, CORPUS, DESTINATION, POLICIES, RESOLVED, S, X

from rch.contract.classifier import Accepted, Rejected, classify
from rch.contract.denied import SWIFT_DENIED, WORKER_OWNED, XCODEBUILD_DENIED
from rch.contract.flag_values import parse_destination, refines, unbalanced
from rch.contract.policy import GRAMMARS, Check, ClassifierPolicy, ReasonCode

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


# What an accepted argv may look like, written a second time, as one pattern over its words.
_NAME = r"\w[\w .+-]*"
_YES_NO = "(YES|NO)"
_NUMBER = r"[1-9]\d*"
_SWIFT_GRAMMAR = re.compile(
    r"(build|test)(\0("
    r"--configuration\0(debug|release)|--jobs\0([1-9]|[1-5]\d|6[0-4])|--sanitize\0(address|thread|undefined)"
    r"|--(filter|skip)\0[\w.^$|()*+?\[\]{}/\\ -]+|--(product|target)\0" + _NAME + r"|--(no-)?parallel))*"
)
_XCODE_GRAMMAR = re.compile(
    r"(build|test)(\0("
    rf"-configuration\0(Debug|Release)|-destination\0{re.escape(DESTINATION)}|-workspace\0App\.xcworkspace"
    r"|-scheme\0(App|App Tests|build)"
    rf"|-testPlan\0{_NAME}|-(only|skip)-testing:{_NAME}(/\w+(/\w+(\(\))?)?)?"
    rf"|-(parallel-testing-enabled|test-timeouts-enabled|enable\w+)\0{_YES_NO}"
    rf"|-(jobs|parallel-testing-worker-count|maximum-parallel-testing-workers|test-iterations)\0{_NUMBER}"
    rf"|-(default|maximum)-test-execution-time-allowance\0{_NUMBER}|-retry-tests-on-failure"
    r"|-testLanguage\0[\w-]+|-testRegion\0\w+|-disableAutomaticPackageResolution"
    r"|-onlyUsePackageVersionsFromResolvedFile|-quiet|-verbose|-skipMacroValidation"
    r"|-skipPackagePluginValidation|-scmProvider\0(system|xcode)|-sdk\0[a-z]+[\d.]*|-arch\0\w+))*"
    r"(\0(CODE_SIGNING_(ALLOWED|REQUIRED)=NO|CODE_SIGN_IDENTITY=-?|COMPILER_INDEX_STORE_ENABLE=NO"
    r"|ONLY_ACTIVE_ARCH=YES|TEST_RUNNER_\w+=[^\0]*))*"
)
_VALUES = st.sampled_from(
    [
        *(
            "App",
            "Debug",
            "debug",
            "release",
            "YES",
            "NO",
            "1",
            "4",
            "65",
            "0",
            "A/B",
            "A/B/c()",
            "../x",
            "en",
        ),
        *(
            "GB",
            "thread",
            "system",
            "macosx",
            "arm64",
            "/x",
            "",
            "-x",
            "@x",
            "a\nb",
            "App.xcworkspace",
            DESTINATION,
        ),
    ]
)


def _spellings(backend: str) -> st.SearchStrategy[str]:
    grammar = GRAMMARS["xcodebuild" if backend == "x" else "swiftpm"]
    known = [*grammar.flags, *grammar.denied, *WORKER_OWNED]
    loose = ["build", "test", "archive", "run", "--", "-", "@x", "A=B", "ONLY_ACTIVE_ARCH=YES", "TMPDIR=/x"]
    joined = st.builds("{}{}{}".format, st.sampled_from(known), st.sampled_from(":="), _VALUES)
    return st.one_of(
        st.sampled_from([*known, *loose]),
        st.sampled_from(known).map(str.swapcase),
        joined,
        _VALUES,
        st.text(max_size=8),
    )


_GOOD = {
    Check.CONFIGURATION: ["Debug", "debug"],
    Check.NAME: ["Smoke", "demo-tool"],
    Check.SELECTOR: ["A", "A/B", "A/B/c", "A/B/c()"],
    Check.FILTER: ["A.B", "^a|b$", "A/b"],
    Check.LANGUAGE: ["en"],
    Check.REGION: ["GB"],
    Check.SANITIZER: ["thread"],
    Check.SCM_PROVIDER: ["system"],
    Check.SDK: ["macosx"],
    Check.ARCH: ["arm64"],
    Check.YES_NO: ["YES", "NO"],
}


def _well_formed(backend: str, action: str) -> st.SearchStrategy[list[str]]:
    """A flag of the action, most often with a value that fits."""
    flags = GRAMMARS["xcodebuild" if backend == "x" else "swiftpm"].flags
    names = [name for name, flag in flags.items() if action in flag.serves and name not in BASE]

    def with_value(name: str) -> st.SearchStrategy[list[str]]:
        check = flags[name].check
        if check is Check.NOTHING:
            return st.just([name])
        good = st.sampled_from(_GOOD.get(check, ["2"]))
        return st.builds(lambda value: [name, value], st.one_of(good, good, good, _VALUES))

    return st.sampled_from(names).flatmap(with_value)


def _argvs(backend: str) -> st.SearchStrategy[list[str]]:
    base = list(BASE) if backend == "x" else []

    def of(action: str) -> st.SearchStrategy[list[str]]:
        good = st.lists(_well_formed(backend, action), max_size=3)
        odd = st.lists(_spellings(backend).map(lambda word: [word]), max_size=1)
        pieces = st.builds(lambda some, other: [*some, *other], good, odd).flatmap(st.permutations)
        return pieces.map(lambda parts: [action, *base, *(word for part in parts for word in part)])

    free = st.lists(_spellings(backend), max_size=5)
    return st.one_of(of("build"), of("test"), of("test"), free)


def _check_any(words: list[str], policy: ClassifierPolicy, grammar: re.Pattern[str]) -> bool:
    verdict = classify(words, policy)
    if isinstance(verdict, Rejected):
        assert verdict.reasons
        assert all(
            reason.message.isprintable() and reason.subject.isprintable() for reason in verdict.reasons
        )
        return False
    argv = verdict.sanitized_argv
    assert grammar.fullmatch("\0".join(argv)), argv
    assert not WORKER_OWNED & {re.split("[:=]", word)[0] for word in (*argv, *words)}
    again = classify(argv, policy)
    assert isinstance(again, Accepted)
    assert again.sanitized_argv == argv
    said, kept = _loose(words), _loose(argv)
    assert said == kept, "a word was lost or made up"
    return True


def _loose(words: list[str] | tuple[str, ...]) -> Counter[str]:
    """The words without their order, tool and joints, aliases told."""
    alias = {"-c": "--configuration", "-j": "--jobs"}
    parts: list[str] = []
    for word in words:
        joined = re.fullmatch(r"(-[^:=]+)[:=](.*)", word)
        parts += joined.groups() if joined else [word]
    return Counter(alias.get(part, part) for part in parts if part not in {"swift", "xcodebuild"})


@pytest.mark.spec("6")
@settings(max_examples=150, deadline=None)
@given(words=_argvs("x"))
def test_no_xcodebuild_argv_outside_the_grammar_is_accepted(words: list[str]) -> None:
    _check_any(words, POLICIES["xn"], _XCODE_GRAMMAR)


@pytest.mark.spec("6")
@settings(max_examples=150, deadline=None)
@given(words=_argvs("s"))
def test_no_swift_argv_outside_the_grammar_is_accepted(words: list[str]) -> None:
    _check_any(words, POLICIES["sn"], _SWIFT_GRAMMAR)


@pytest.mark.spec("6")
@pytest.mark.parametrize("backend", ["x", "s"])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_the_order_of_flags_changes_nothing(backend: str, data: st.DataObject) -> None:
    policy, base = POLICIES[f"{backend}n"], list(BASE) if backend == "x" else []
    pieces = data.draw(st.lists(_well_formed(backend, "test"), max_size=5))
    moved = data.draw(st.permutations(pieces))
    one = classify(["test", *base, *(word for piece in pieces for word in piece)], policy)
    other = classify(["test", *(word for piece in moved for word in piece), *base], policy)
    if isinstance(one, Accepted):
        assert isinstance(other, Accepted)
        assert other.sanitized_argv == one.sanitized_argv
    else:
        assert isinstance(other, Rejected)


@pytest.mark.spec("6")
@settings(max_examples=200, deadline=None)
@given(words=st.lists(st.text(max_size=12), max_size=6), backend=st.sampled_from("xs"))
def test_any_text_is_answered_and_its_verdict_can_be_stored(words: list[str], backend: str) -> None:
    verdict = classify(words, POLICIES[backend])
    assert msgspec.json.encode(verdict)
