"""The gate on any argv: what it lets through fits a grammar that is written a second time."""

from __future__ import annotations

import re
from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.invocations import BASE, DESTINATION, POLICIES

from rch.contract.classifier import Accepted, Rejected, classify
from rch.contract.denied import WORKER_OWNED
from rch.contract.policy import GRAMMARS, Check, ClassifierPolicy

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
