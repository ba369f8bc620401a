"""Each refused word comes with its place and with what to type instead."""

from __future__ import annotations

import pytest
from support.invocations import CORPUS, POLICIES

from rch.contract.classifier import Rejected, classify
from rch.contract.remedies import remedy
from rch.contract.words import shown

REFUSED = [(policy, words) for policy, expected, words in CORPUS if expected != "ok"]


@pytest.mark.spec("6")
@pytest.mark.parametrize(("policy", "words"), REFUSED)
def test_every_reason_has_its_word_and_one_line_that_mends_it(policy: str, words: list[str]) -> None:
    verdict = classify(words, POLICIES[policy])
    assert isinstance(verdict, Rejected)
    assert len(verdict.places) == len(verdict.reasons)
    assert list(verdict.places) == sorted(verdict.places)
    for reason, at in zip(verdict.reasons, verdict.places, strict=True):
        text = remedy(reason, POLICIES[policy])
        assert 0 < len(text) <= 200
        assert "\n" not in text
        if reason.code in {"MISSING_REQUIRED_FLAG", "MISSING_ACTION"}:
            assert at == len(words) or reason.subject in {"-test-iterations", "argv"}
        elif words and reason.subject.startswith("-") and reason.subject.isascii():
            assert shown(words[at]).startswith(reason.subject[:20])


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("policy", "words", "said"),
    [
        ("x", "build -scheme App", "add -workspace App.xcworkspace"),
        ("xp", "build -project App.xcodeproj -destination platform=macOS", "add -scheme App"),
        ("s", "build -c Profile", "use -c debug or release, or change project.configurations"),
        ("s", "test --filter X", "run.allow_narrowing = true"),
        ("s", "build --scratch-path x", "the worker sets its own"),
        ("s", "build --confguration debug", "did you mean --configuration?"),
        ("s", "build --zzzzzzzz", "leave it out"),
        ("s", "xcodebuild build", "use swift, or change backend"),
        ("s", "build -j 9999", "take a number up to the cap"),
        ("s", "", "swift build, or swift test"),
        ("x", "clean -sdk iphoneos", '[policy] allow_flags = ["-sdk"]'),
        ("x", "clean", "every run starts from a clean tree"),
        ("x", "build TEST_RUNNER_A=1", 'allow_flags = ["TEST_RUNNER_*"]'),
        ("x", "build CODE_SIGNING_ALLOWED=YES", "write CODE_SIGNING_ALLOWED=NO"),
        ("x", "build TMPDIR=/x", "the worker sets its own"),
        ("x", "test -retry-tests-on-failure", "run.retry_tests (2 to 5)"),
    ],
)
def test_the_remedy_names_the_words_or_the_key(policy: str, words: str, said: str) -> None:
    verdict = classify(words.split(), POLICIES[policy])
    assert isinstance(verdict, Rejected)
    assert any(said in remedy(reason, POLICIES[policy]) for reason in verdict.reasons), [
        remedy(reason, POLICIES[policy]) for reason in verdict.reasons
    ]
