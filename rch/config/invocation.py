"""What a config asks to be run, and what an argv is judged against (spec sections 4, 6)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from rch.config.agree import SWIFT_CONFIGURATIONS, implied_backend, implied_project
from rch.config.keys import bad_value
from rch.config.offered import refuse_not_offered
from rch.config.root import CONFIG_NAME
from rch.config.schema import Config, StepTable
from rch.config.sources import parse_toml
from rch.config.worker_config import WorkerConfig
from rch.contract.errors import Failure
from rch.contract.policy import MAX_RETRIES, MAX_TIMEOUT_SECONDS, Action, Caps, ClassifierPolicy


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a plan with its names filled in; `index` counts from 0."""

    index: int
    action: Action
    scheme: str | None = None
    configuration: str | None = None
    only_testing: tuple[str, ...] = ()


def steps(config: Config) -> tuple[Step, ...]:
    """The ordered steps of a run."""
    rows = config.actions.step or tuple(StepTable(action=action) for action in config.actions.verify)
    return tuple(_step(config, index, row) for index, row in enumerate(rows))


def steps_for_action(config: Config, action: Action) -> tuple[Step, ...]:
    """The plan's steps of one action, numbered anew; a plain one where the plan has none."""
    rows = [row for row in config.actions.step if row.action == action] or [StepTable(action=action)]
    return tuple(_step(config, index, row) for index, row in enumerate(rows))


def _step(config: Config, index: int, row: StepTable) -> Step:
    project = config.project
    default = next(iter(project.configurations), None)
    if config.backend == "swiftpm" and "debug" in project.configurations:
        default = "debug"
    return Step(
        index=index,
        action=row.action,
        scheme=row.scheme or next(iter(project.schemes), None),
        configuration=row.configuration or default,
        only_testing=row.only_testing,
    )


def step_argv(config: Config, step: Step) -> tuple[str, ...]:
    """The command line that a configured step stands for, its tool first."""
    chosen = ("--configuration" if config.backend == "swiftpm" else "-configuration", step.configuration)
    if config.backend == "swiftpm":
        argv = ["swift", step.action, *_given(chosen)]
        for name in step.only_testing:
            argv += ["--filter", name]
        return tuple(argv)
    project = config.project
    argv = ["xcodebuild", step.action]
    argv += _given(("-workspace", project.workspace), ("-project", project.project))
    argv += _given(("-scheme", step.scheme), chosen, ("-destination", config.destination.value))
    if step.action == "test":
        argv += [f"-only-testing:{name}" for name in step.only_testing]
        if config.run.retry_tests > 1:
            argv += ["-retry-tests-on-failure", "-test-iterations", str(config.run.retry_tests)]
    return tuple(argv)


def _given(*pairs: tuple[str, str | None]) -> list[str]:
    return [word for flag, value in pairs if value is not None for word in (flag, value)]


def policy_for(config: Config) -> ClassifierPolicy:
    """What the host judges an argv against."""
    project = config.project
    return ClassifierPolicy(
        backend=config.backend,
        workspace=project.workspace,
        project=project.project,
        schemes=project.schemes,
        configurations=project.configurations,
        destination=config.destination.value,
        allow_narrowing=config.run.allow_narrowing,
        selectors=tuple(sorted({name for row in config.actions.step for name in row.only_testing})),
        caps=Caps(retries=config.run.retry_tests),
        allowance_below_seconds=config.timeouts.overall_seconds,
        allow_flags=tuple(sorted(config.policy.allow_flags)),
    )


class _BundleStep(msgspec.Struct, frozen=True, kw_only=True):
    action: str = ""
    only_testing: tuple[str, ...] = ()


class _BundleActions(msgspec.Struct, frozen=True, kw_only=True):
    step: tuple[_BundleStep, ...] = ()


class _BundlePlan(msgspec.Struct, frozen=True, kw_only=True):
    actions: _BundleActions = _BundleActions()


def own_selectors(repo_toml: bytes | None) -> tuple[tuple[str, ...], ...]:
    """What each test step of a bundle's own `.rch/xcode.toml` narrows itself to, where one does.

    A file that cannot be read as such names nothing.
    """
    if repo_toml is None:
        return ()
    try:
        plan = msgspec.convert(parse_toml(repo_toml, CONFIG_NAME), _BundlePlan)
    except (Failure, msgspec.ValidationError):
        return ()
    found = (step.only_testing for step in plan.actions.step if step.action == "test")
    return tuple(names for names in found if names)


class _BundleProject(msgspec.Struct, frozen=True, kw_only=True):
    workspace: str | None = None
    project: str | None = None
    package: str | None = None
    schemes: tuple[str, ...] = ()
    configurations: tuple[str, ...] = ()


class _BundleDestination(msgspec.Struct, frozen=True, kw_only=True):
    value: str | None = None


class _BundleNames(msgspec.Struct, frozen=True, kw_only=True):
    """The names that a worker takes from a bundle; every other key is the host's business."""

    backend: str | None = None
    project: _BundleProject = _BundleProject()
    destination: _BundleDestination = _BundleDestination()


def policy_from_bundle(
    repo_toml: bytes | None, worker: WorkerConfig, *, top_level: Iterable[str] = ()
) -> ClassifierPolicy:
    """What a worker judges `sanitized_argv` against.

    Names come from the bundle's own `.rch/xcode.toml` (None: an implied Swift package), read
    leniently, since a newer host may know more keys; `top_level` are the names in the bundle's
    root, for what the file leaves out. Numbers have the built-in caps alone, narrowing is the
    host's to decide, policy-only flags are the worker's own.
    """
    names = _BundleNames(backend="swiftpm") if repo_toml is None else _bundle_names(repo_toml)
    project: dict[str, Any] = msgspec.to_builtins(names.project)
    listed = tuple(top_level)
    backend = names.backend or implied_backend(project, listed)
    if backend not in {"xcodebuild", "swiftpm"}:
        raise bad_value(CONFIG_NAME, "backend", f"= {backend!r} is not xcodebuild or swiftpm")
    swift = backend == "swiftpm"
    project |= implied_project("swiftpm" if swift else "xcodebuild", project, listed)
    return ClassifierPolicy(
        backend="swiftpm" if swift else "xcodebuild",
        workspace=project["workspace"],
        project=project["project"],
        schemes=tuple(project["schemes"]),
        configurations=tuple(project["configurations"] or (SWIFT_CONFIGURATIONS if swift else ())),
        destination=names.destination.value,
        allow_narrowing=True,
        caps=Caps(retries=MAX_RETRIES),
        allowance_below_seconds=MAX_TIMEOUT_SECONDS + 1,
        allow_flags=tuple(sorted(worker.allow_flags)),
    )


def _bundle_names(repo_toml: bytes) -> _BundleNames:
    tree = parse_toml(repo_toml, CONFIG_NAME)
    refuse_not_offered("backend", tree.get("backend"), CONFIG_NAME)
    try:
        return msgspec.convert(tree, _BundleNames)
    except msgspec.ValidationError as error:
        raise bad_value(CONFIG_NAME, "a name", f"has a wrong type: {error}") from error
