"""The flag table of the gate: what may stand in an invocation (spec section 6).

Everything here is data: `words` reads an argv against this table, `flag_values` checks one
value, `classifier` judges the whole. What is refused by name stands in `denied`; a flag that
stands in no table is unknown, and an unknown flag is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Literal

import msgspec

from rch.contract.denied import (
    SWIFT_DENIED,
    SWIFT_DENIED_ACTIONS,
    XCODEBUILD_DENIED,
    XCODEBUILD_DENIED_ACTIONS,
    Denied,
)

Backend = Literal["xcodebuild", "swiftpm"]
Action = Literal["build", "test"]

MAX_RETRIES = 5
MAX_TIMEOUT_SECONDS = 86_400


class ReasonCode(StrEnum):
    """Why an invocation is refused."""

    PARSE_ERROR = "PARSE_ERROR"
    MISSING_ACTION = "MISSING_ACTION"
    DENIED_ACTION = "DENIED_ACTION"
    UNKNOWN_ACTION = "UNKNOWN_ACTION"
    DENIED_FLAG = "DENIED_FLAG"
    UNKNOWN_FLAG = "UNKNOWN_FLAG"
    DUPLICATE_FLAG = "DUPLICATE_FLAG"
    MISSING_VALUE = "MISSING_VALUE"
    MISSING_REQUIRED_FLAG = "MISSING_REQUIRED_FLAG"
    WORKSPACE_MISMATCH = "WORKSPACE_MISMATCH"
    PROJECT_MISMATCH = "PROJECT_MISMATCH"
    SCHEME_MISMATCH = "SCHEME_MISMATCH"
    CONFIGURATION_NOT_ALLOWED = "CONFIGURATION_NOT_ALLOWED"
    DESTINATION_MISMATCH = "DESTINATION_MISMATCH"
    DENIED_BUILD_SETTING = "DENIED_BUILD_SETTING"


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """The highest number that a counting flag may carry; `retries` 0 forbids retrying."""

    jobs: int = 64
    workers: int = 16
    iterations: int = 100
    retries: int = 0


class ClassifierPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What an argv is judged against; the body of `classifier_policy.json`.

    Holds nothing that varies between runs of one config. `destination` is the constraint as
    configured; `selectors` are test identifiers that the config itself names, allowed even
    without `allow_narrowing`; test time allowances must be below `allowance_below_seconds`;
    `allow_flags` are the policy-only flags that are permitted. `grammar` rises with the tables.
    """

    grammar: int = 1
    backend: Backend
    workspace: str | None = None
    project: str | None = None
    schemes: tuple[str, ...] = ()
    configurations: tuple[str, ...] = ()
    destination: str | None = None
    allow_narrowing: bool = False
    selectors: tuple[str, ...] = ()
    caps: Caps = Caps()
    allowance_below_seconds: int = 1800
    allow_flags: tuple[str, ...] = ()


class Check(Enum):
    """How the value of a flag is checked; `NOTHING` means that it takes none."""

    NOTHING = auto()
    WORKSPACE = auto()
    PROJECT = auto()
    SCHEME = auto()
    CONFIGURATION = auto()
    DESTINATION = auto()
    NAME = auto()
    SELECTOR = auto()
    FILTER = auto()
    YES_NO = auto()
    JOBS = auto()
    WORKERS = auto()
    ITERATIONS = auto()
    ALLOWANCE = auto()
    LANGUAGE = auto()
    REGION = auto()
    SANITIZER = auto()
    SCM_PROVIDER = auto()
    SDK = auto()
    ARCH = auto()


@dataclass(frozen=True, slots=True)
class Flag:
    """One allowed flag in its canonical spelling.

    `serves` names the actions it belongs to; `narrows` marks a scope that is put on record;
    a `repeats` flag may come again with another value; `policy_only` ones need `allow_flags`.
    """

    name: str
    check: Check = Check.NOTHING
    serves: tuple[Action, ...] = ("build", "test")
    aliases: tuple[str, ...] = ()
    repeats: bool = False
    narrows: bool = False
    policy_only: bool = False


@dataclass(frozen=True, slots=True)
class Grammar:
    """The whole of one tool's command line: lookups by the spelling that a user types."""

    tool: str
    flags: Mapping[str, Flag]
    denied: Mapping[str, Denied]
    denied_actions: frozenset[str]
    settings: Mapping[str, tuple[str, ...]]
    exclusive: tuple[tuple[str, str], ...]


_TEST: tuple[Action, ...] = ("test",)
_BUILD: tuple[Action, ...] = ("build",)

_XCODEBUILD = (
    Flag("-workspace", Check.WORKSPACE),
    Flag("-project", Check.PROJECT),
    Flag("-scheme", Check.SCHEME),
    Flag("-destination", Check.DESTINATION),
    Flag("-configuration", Check.CONFIGURATION),
    Flag("-testPlan", Check.NAME, _TEST, narrows=True),  # a plan may be any part of the tests
    Flag("-only-testing", Check.SELECTOR, _TEST, repeats=True, narrows=True),
    Flag("-skip-testing", Check.SELECTOR, _TEST, repeats=True, narrows=True),
    Flag("-parallel-testing-enabled", Check.YES_NO, _TEST),
    Flag("-parallel-testing-worker-count", Check.WORKERS, _TEST),
    Flag("-maximum-parallel-testing-workers", Check.WORKERS, _TEST),
    Flag("-jobs", Check.JOBS),
    Flag("-test-iterations", Check.ITERATIONS, _TEST),
    Flag("-retry-tests-on-failure", serves=_TEST),
    Flag("-test-timeouts-enabled", Check.YES_NO, _TEST),
    Flag("-default-test-execution-time-allowance", Check.ALLOWANCE, _TEST),
    Flag("-maximum-test-execution-time-allowance", Check.ALLOWANCE, _TEST),
    Flag("-enableCodeCoverage", Check.YES_NO),
    Flag("-enableAddressSanitizer", Check.YES_NO),
    Flag("-enableThreadSanitizer", Check.YES_NO),
    Flag("-enableUndefinedBehaviorSanitizer", Check.YES_NO),
    Flag("-testLanguage", Check.LANGUAGE, _TEST),
    Flag("-testRegion", Check.REGION, _TEST),
    Flag("-disableAutomaticPackageResolution"),
    Flag("-onlyUsePackageVersionsFromResolvedFile"),
    Flag("-quiet"),
    Flag("-verbose"),
    Flag("-skipMacroValidation", policy_only=True),
    Flag("-skipPackagePluginValidation", policy_only=True),
    Flag("-scmProvider", Check.SCM_PROVIDER, policy_only=True),
    Flag("-sdk", Check.SDK, policy_only=True),
    Flag("-arch", Check.ARCH, policy_only=True),
)

_SWIFT = (
    Flag("--configuration", Check.CONFIGURATION, aliases=("-c",)),
    Flag("--filter", Check.FILTER, _TEST, repeats=True, narrows=True),
    Flag("--skip", Check.FILTER, _TEST, repeats=True, narrows=True),
    Flag("--parallel", serves=_TEST),
    Flag("--no-parallel", serves=_TEST),
    Flag("--product", Check.NAME, _BUILD, narrows=True),
    Flag("--target", Check.NAME, _BUILD, narrows=True),
    Flag("--jobs", Check.JOBS, aliases=("-j",)),
    Flag("--sanitize", Check.SANITIZER),
)

TEST_RUNNER = "TEST_RUNNER_*"
"""The one policy-only entry that is a family of variables, not a flag."""

POLICY_ONLY = frozenset({flag.name for flag in _XCODEBUILD if flag.policy_only} | {TEST_RUNNER})
"""What `allow_flags` of a host's `[policy]` or of a worker's own config may name."""

_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "CODE_SIGNING_ALLOWED": ("NO",),
    "CODE_SIGNING_REQUIRED": ("NO",),
    "CODE_SIGN_IDENTITY": ("", "-"),
    "COMPILER_INDEX_STORE_ENABLE": ("NO",),
    "ONLY_ACTIVE_ARCH": ("YES",),
}


def _by_spelling(flags: tuple[Flag, ...]) -> dict[str, Flag]:
    return {spelling: flag for flag in flags for spelling in (flag.name, *flag.aliases)}


GRAMMARS: Mapping[Backend, Grammar] = {
    "xcodebuild": Grammar(
        tool="xcodebuild",
        flags=_by_spelling(_XCODEBUILD),
        denied=XCODEBUILD_DENIED,
        denied_actions=XCODEBUILD_DENIED_ACTIONS,
        settings=_SETTINGS,
        exclusive=(("-workspace", "-project"),),
    ),
    "swiftpm": Grammar(
        tool="swift",
        flags=_by_spelling(_SWIFT),
        denied=SWIFT_DENIED,
        denied_actions=SWIFT_DENIED_ACTIONS,
        settings={},
        exclusive=(("--parallel", "--no-parallel"),),
    ),
}
