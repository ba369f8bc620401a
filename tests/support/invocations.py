"""The corpus of invocations that the gate is held to, and the policies that its lines name."""

from __future__ import annotations

import shlex

import msgspec

from rch.contract.policy import POLICY_ONLY, Caps, ClassifierPolicy
from rch_conformance.fixtures import INVOCATIONS

FILE = INVOCATIONS

DESTINATION = "platform=iOS Simulator,name=iPhone 16,OS=latest"
RESOLVED = "platform=iOS Simulator,name=iPhone 16,OS=18.2"
BASE = ("-workspace", "App.xcworkspace", "-scheme", "App", "-destination", DESTINATION)

X = ClassifierPolicy(
    backend="xcodebuild",
    workspace="App.xcworkspace",
    schemes=("App", "App Tests", "build"),
    configurations=("Debug", "Release"),
    destination=DESTINATION,
    selectors=("AppTests/Listed",),
)
S = ClassifierPolicy(
    backend="swiftpm", configurations=("debug", "release"), selectors=("DemoTests.Listed",)
)
POLICIES = {
    "x": X,
    "xp": msgspec.structs.replace(X, workspace=None, project="App.xcodeproj", destination="platform=macOS"),
    "xn": msgspec.structs.replace(
        X, allow_narrowing=True, caps=Caps(retries=3), allow_flags=tuple(sorted(POLICY_ONLY))
    ),
    "xg": msgspec.structs.replace(X, destination="generic/platform=iOS"),
    "s": S,
    "sn": msgspec.structs.replace(S, allow_narrowing=True),
}
CHARACTERS = {"{nul}": "\0", "{nl}": "\n", "{esc}": "\x1b", "{rlo}": "\u202e", "{sur}": "\ud800"}


def _words(text: str) -> list[str]:
    words: list[str] = []
    for word in shlex.split(text):
        if word == "{base}":
            words += BASE
            continue
        for name, character in CHARACTERS.items():
            word = word.replace(name, character)  # noqa: PLW2901  (the word as it is meant)
        words.append(DESTINATION if word == "{dest}" else word)
    return words


def _corpus() -> list[tuple[str, str, list[str]]]:
    rows = []
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            policy, expected, words = (part.strip() for part in line.split("|", 2))
            rows.append((policy, expected, _words(words)))
    return rows


CORPUS = _corpus()
