"""From a config to its steps, their command lines, and the policy on both sides (spec section 6)."""

from __future__ import annotations

import msgspec
import pytest

from rch.config.invocation import policy_for, policy_from_bundle, step_argv, steps, steps_for_action
from rch.config.schema import Config
from rch.config.worker_config import WorkerConfig
from rch.contract.classifier import Accepted, Rejected, classify
from rch.contract.errors import Failure
from rch.contract.policy import ClassifierPolicy

DESTINATION = "platform=iOS Simulator,name=iPhone 16,OS=latest"
RESOLVED = "platform=iOS Simulator,name=iPhone 16,OS=18.2"

SWIFT = msgspec.convert(
    {"backend": "swiftpm", "project": {"package": ".", "configurations": ["release", "debug"]}}, Config
)
XCODE_TREE = {
    "backend": "xcodebuild",
    "project": {
        "workspace": "App.xcworkspace",
        "schemes": ["App", "Other"],
        "configurations": ["Debug", "Release"],
    },
    "destination": {"value": DESTINATION},
}
XCODE = msgspec.convert(XCODE_TREE, Config)
XCODE_TOML = f"""
backend = "xcodebuild"
some_newer_key = 1
[project]
workspace = "App.xcworkspace"
schemes = ["App", "Other"]
configurations = ["Debug", "Release"]
some_newer_key = 1
[destination]
value = "{DESTINATION}"
""".encode()


def _accepted(argv: tuple[str, ...], policy: ClassifierPolicy, resolved: str | None = None) -> Accepted:
    verdict = classify(argv, policy, resolved_destination=resolved)
    assert isinstance(verdict, Accepted), verdict
    return verdict


@pytest.mark.spec("6")
def test_swift_steps_are_debug_unless_told() -> None:
    plan = steps(SWIFT)
    assert [(step.index, step.action) for step in plan] == [(0, "build"), (1, "test")]
    assert [step_argv(SWIFT, step) for step in plan] == [
        ("swift", "build", "--configuration", "debug"),
        ("swift", "test", "--configuration", "debug"),
    ]


@pytest.mark.spec("6")
def test_xcode_steps_take_the_first_names() -> None:
    argv = step_argv(XCODE, steps(XCODE)[1])
    assert argv == (
        *("xcodebuild", "test", "-workspace", "App.xcworkspace", "-scheme", "App"),
        *("-configuration", "Debug", "-destination", DESTINATION),
    )


@pytest.mark.spec("6")
def test_step_tables_stand_in_their_order_with_their_names() -> None:
    rows = [
        {"action": "test", "scheme": "Other", "only_testing": ["OtherTests/Suite"]},
        {"action": "build", "configuration": "Release"},
        {"action": "test"},
    ]
    config = msgspec.convert({**XCODE_TREE, "actions": {"step": rows}, "run": {"retry_tests": 3}}, Config)
    plan = steps(config)
    assert [(step.action, step.scheme, step.configuration) for step in plan] == [
        ("test", "Other", "Debug"),
        ("build", "App", "Release"),
        ("test", "App", "Debug"),
    ]
    assert step_argv(config, plan[0])[-4:] == (
        *("-only-testing:OtherTests/Suite", "-retry-tests-on-failure"),
        *("-test-iterations", "3"),
    )
    assert [step.index for step in steps_for_action(config, "test")] == [0, 1]
    for step in plan:
        _accepted(step_argv(config, step), policy_for(config), RESOLVED)


@pytest.mark.spec("6")
def test_action_without_a_step_in_the_plan_runs_plainly() -> None:
    config = msgspec.convert({"backend": "swiftpm", "actions": {"verify": ["build"]}}, Config)
    (step,) = steps_for_action(config, "test")
    assert (step.index, step.action) == (0, "test")


@pytest.mark.spec("6")
@pytest.mark.parametrize("config", [SWIFT, XCODE])
def test_host_accepts_its_own_steps_and_worker_accepts_the_sanitized(config: Config) -> None:
    swift = config.backend == "swiftpm"
    resolved = None if swift else RESOLVED
    worker = policy_from_bundle(None if swift else XCODE_TOML, WorkerConfig())
    for step in steps(config):
        ours = _accepted(step_argv(config, step), policy_for(config), resolved)
        theirs = _accepted(ours.sanitized_argv, worker, resolved)
        assert theirs.sanitized_argv == ours.sanitized_argv


@pytest.mark.spec("3.3")
def test_a_host_key_cannot_widen_what_a_worker_runs() -> None:
    worker = policy_from_bundle(XCODE_TOML, WorkerConfig())
    wide = msgspec.convert(
        {**XCODE_TREE, "policy": {"allow_flags": ["-skipMacroValidation"]}},
        Config,
    )
    argv = (*step_argv(wide, steps(wide)[0]), "-skipMacroValidation")
    ours = _accepted(argv, policy_for(wide), RESOLVED)
    assert isinstance(classify(ours.sanitized_argv, worker, resolved_destination=RESOLVED), Rejected)
    permitting = policy_from_bundle(XCODE_TOML, WorkerConfig(allow_flags=("-skipMacroValidation",)))
    _accepted(ours.sanitized_argv, permitting, RESOLVED)


@pytest.mark.spec("3.3")
def test_a_scheme_that_the_bundle_does_not_name_is_refused_by_the_worker() -> None:
    worker = policy_from_bundle(XCODE_TOML, WorkerConfig())
    argv = ("build", "-workspace", "App.xcworkspace", "-scheme", "Secret", "-destination", DESTINATION)
    verdict = classify(argv, worker, resolved_destination=RESOLVED)
    assert isinstance(verdict, Rejected)
    assert [reason.code for reason in verdict.reasons] == ["SCHEME_MISMATCH"]


@pytest.mark.spec("3.3")
def test_narrowing_is_the_hosts_to_decide() -> None:
    narrowed = ("test", "--filter", "DemoTests")
    assert isinstance(classify(narrowed, policy_for(SWIFT)), Rejected)
    _accepted(narrowed, policy_from_bundle(None, WorkerConfig()))
    allowing = msgspec.convert({"backend": "swiftpm", "run": {"allow_narrowing": True}}, Config)
    _accepted(narrowed, policy_for(allowing))


@pytest.mark.spec("6")
def test_policy_does_not_vary_between_runs_of_one_config() -> None:
    assert msgspec.json.encode(policy_for(XCODE)) == msgspec.json.encode(policy_for(XCODE))
    slower = msgspec.convert({**XCODE_TREE, "queue": {"max_wait_seconds": 5}}, Config)
    assert policy_for(slower) == policy_for(XCODE)


@pytest.mark.spec("3.3")
def test_bundle_that_leaves_names_out_is_read_by_its_root() -> None:
    toml = b'[project]\nschemes = ["App"]\n[destination]\nvalue = "platform=macOS"\n'
    policy = policy_from_bundle(toml, WorkerConfig(), top_level=["App.xcodeproj", "README.md"])
    assert (policy.backend, policy.project, policy.workspace) == ("xcodebuild", "App.xcodeproj", None)
    policy = policy_from_bundle(b"[run]\n", WorkerConfig(), top_level=["Package.swift"])
    assert (policy.backend, policy.configurations) == ("swiftpm", ("debug", "release"))
    with pytest.raises(Failure, match=r"App\.xcodeproj"):
        policy_from_bundle(toml, WorkerConfig(), top_level=["App.xcodeproj", "App.xcworkspace"])


@pytest.mark.spec("3.3")
@pytest.mark.parametrize(
    "toml", [b'backend = "mcp"', b'backend = "make"', b"backend = 5", b"\xff", b"[project]\nschemes = 5"]
)
def test_bundle_with_a_broken_config_is_refused(toml: bytes) -> None:
    with pytest.raises(Failure) as caught:
        policy_from_bundle(toml, WorkerConfig(), top_level=["Package.swift"])
    assert caught.value.exit_code == 3
