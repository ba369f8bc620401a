"""What a config leaves out and its root tells, and values that contradict each other (section 1, 6)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from rch.config.keys import bad_value
from rch.config.root import CONFIG_NAME, MANIFEST_NAME
from rch.config.schema import Config
from rch.config.sources import Origin
from rch.contract.destinations import EPHEMERAL, is_simulator, unserved
from rch.contract.errors import Failure, Kind
from rch.contract.flag_values import inside_root, valid_name, valid_selector
from rch.contract.policy import POLICY_ONLY, Backend

SWIFT_CONFIGURATIONS = ("debug", "release")


def implied_backend(project: Mapping[str, object], names: Iterable[str]) -> Backend:
    """The backend of a config that names none, by its `[project]`, else by what lies in the root."""
    if project.get("package"):
        return "swiftpm"
    if project.get("workspace") or project.get("project"):
        return "xcodebuild"
    listed = tuple(names)
    xcode = [name for name in listed if name.endswith((".xcworkspace", ".xcodeproj"))]
    if MANIFEST_NAME in listed and xcode:
        raise _ambiguous(MANIFEST_NAME, xcode[0], 'set backend = "swiftpm" or "xcodebuild"')
    if MANIFEST_NAME not in listed and not xcode:
        message = f"{CONFIG_NAME}: backend is missing, and the root holds no package, workspace or project"
        raise Failure(
            Kind.CONFIG, message, subkind="NO_PROJECT", hint='set backend = "swiftpm" or "xcodebuild"'
        )
    return "xcodebuild" if xcode else "swiftpm"


def implied_project(
    backend: Backend, project: Mapping[str, object], names: Iterable[str], file: str = CONFIG_NAME
) -> dict[str, object]:
    """The keys of `[project]` that the root tells; CONFIG / AMBIGUOUS if it tells two things.

    `file`: where the backend stands, for the refusal.
    """
    if backend == "swiftpm":
        told: dict[str, object] = {"package": ".", "configurations": list(SWIFT_CONFIGURATIONS)}
        return {key: value for key, value in told.items() if not project.get(key)}
    if project.get("workspace") or project.get("project"):
        return {}
    listed = tuple(names)
    workspaces = [name for name in listed if name.endswith(".xcworkspace")]
    found = [*workspaces, *(name for name in listed if name.endswith(".xcodeproj"))]
    if len(found) > 1:
        last = found[-1]
        raise _ambiguous(found[0], last, "name one of the pair in [project]")
    if not found:
        message = f"{file}: backend = {backend} needs a workspace or project: the root holds none"
        raise Failure(
            Kind.CONFIG, message, subkind="NO_PROJECT", hint="set project.workspace or project.project"
        )
    return {"workspace" if workspaces else "project": found[0]}


def _ambiguous(one: str, other: str, hint: str) -> Failure:
    message = f"{CONFIG_NAME}: the root holds both {one} and {other}, and the config names neither"
    return Failure(Kind.CONFIG, message, subkind="AMBIGUOUS", hint=hint, data={"candidates": [one, other]})


class Agreement:
    """Checks that hold between keys. `files` maps a dotted key to the file that set it."""

    def __init__(self, config: Config, origins: Mapping[str, Origin], files: Mapping[str, str]) -> None:
        self.config = config
        self.origins = origins
        self.files = files

    def check(self, root: Path) -> None:
        """Raise CONFIG for the first disagreement, also with what lies in the root."""
        if self.config.backend == "swiftpm":
            self._check_swiftpm(root)
        else:
            self._check_xcodebuild(root)
        self._check_names()
        self._check_steps()
        self._check_timeouts()
        self._check_cache(root)
        for flag in self.config.policy.allow_flags:
            if flag not in POLICY_ONLY:
                raise self._bad(
                    "policy.allow_flags", f"names {flag}: only {', '.join(sorted(POLICY_ONLY))}"
                )

    def _bad(self, key: str, what: str) -> Failure:
        blamed = self.files.get("backend", CONFIG_NAME)
        return bad_value(self.files.get(key, blamed), key, what)

    def _own(self, key: str) -> bool:
        """Whether the project's own file or the command line set a key, and not the whole host."""
        return self.origins.get(key) in {Origin.REPO, Origin.CLI}

    def _is_ephemeral(self) -> bool:
        """Whether the project itself wants devices made; a host's wish is for what it fits alone."""
        own = self._own("destination.provisioning")
        return own and self.config.destination.provisioning == EPHEMERAL

    def _check_swiftpm(self, root: Path) -> None:
        project, clash = self.config.project, 'does not go with backend = "swiftpm"'
        given = {"workspace": project.workspace, "project": project.project, "schemes": project.schemes}
        for name, value in given.items():
            if value:
                raise self._bad(f"project.{name}", clash)
        for key in ("destination.value", "toolchain.xcode_build", "toolchain.xcode_version"):
            if self._own(key):
                raise self._bad(key, clash)
        if self.config.run.retry_tests and self._own("run.retry_tests"):
            raise self._bad("run.retry_tests", clash)
        if self._is_ephemeral():
            raise self._bad("destination.provisioning", clash)
        for name in project.configurations:
            if name not in SWIFT_CONFIGURATIONS:
                raise self._bad("project.configurations", f"names {name}: swiftpm has debug and release")
        if not (root / MANIFEST_NAME).is_file():
            what = f'= "." but {root} holds no {MANIFEST_NAME}'
            raise self._bad("project.package", what)

    def _check_xcodebuild(self, root: Path) -> None:
        project, clash = self.config.project, 'does not go with backend = "xcodebuild"'
        if project.package:
            raise self._bad("project.package", clash)
        if project.workspace and project.project:
            raise self._bad("project.workspace", "and project.project are both set: name one of the two")
        if self._own("toolchain.swift_version"):
            raise self._bad("toolchain.swift_version", clash)
        key, suffix = ("workspace", ".xcworkspace") if project.workspace else ("project", ".xcodeproj")
        self._check_container(root, key, project.workspace or project.project or "", suffix)
        if not project.schemes:
            raise self._bad("project.schemes", "is empty: xcodebuild needs a scheme")
        value = self.config.destination.value
        if value is None:
            raise self._bad("destination.value", 'is missing, such as "platform=macOS"')
        if (why := unserved(value)) is not None:
            raise self._bad("destination.value", f'= "{value}" {why}')
        if self._is_ephemeral() and not is_simulator(value):
            what = f'= "{EPHEMERAL}" is for simulators, and destination.value is "{value}"'
            raise self._bad("destination.provisioning", what)

    def _check_container(self, root: Path, key: str, value: str, suffix: str) -> None:
        if not inside_root(value) or not value.endswith(suffix):
            raise self._bad(f"project.{key}", f'= "{value}" is not a relative path to a *{suffix}')
        if not (root / value).exists():
            raise self._bad(f"project.{key}", f'= "{value}" is not in {root}')

    def _check_names(self) -> None:
        project = self.config.project
        for key, names in (("schemes", project.schemes), ("configurations", project.configurations)):
            for name in names:
                if not valid_name(name):
                    raise self._bad(
                        f"project.{key}", f"names {name!r}: letters, digits, space and . _ + - alone"
                    )

    def _check_steps(self) -> None:
        actions = self.config.actions
        if actions.step and self.origins.get("actions.verify", Origin.BUILT_IN) != Origin.BUILT_IN:
            raise self._bad("actions.verify", "and actions.step are both set: keep one of the two")
        if not actions.verify and not actions.step:
            raise self._bad("actions.verify", "is empty: a run has at least one step")
        project = self.config.project
        for index, step in enumerate(actions.step):
            key = f"actions.step[{index}]"
            if step.scheme is not None and step.scheme not in project.schemes:
                raise self._step(key, f"scheme = {step.scheme!r} is not in project.schemes")
            if step.configuration is not None and step.configuration not in project.configurations:
                raise self._step(
                    key, f"configuration = {step.configuration!r} is not in project.configurations"
                )
            if step.only_testing and step.action != "test":
                raise self._step(key, "only_testing serves test alone")
            for name in step.only_testing:
                if not valid_selector(name):
                    raise self._step(key, f"only_testing names {name!r}: not Target[/Suite[/test[()]]]")

    def _step(self, key: str, what: str) -> Failure:
        return bad_value(self.files.get("actions.step", CONFIG_NAME), key, what)

    def _check_timeouts(self) -> None:
        timeouts = self.config.timeouts
        if timeouts.idle_log_seconds > timeouts.overall_seconds:
            over = f"timeouts.overall_seconds = {timeouts.overall_seconds}"
            what = f"= {timeouts.idle_log_seconds} is over {over}"
            raise self._bad("timeouts.idle_log_seconds", what)

    def _check_cache(self, root: Path) -> None:
        """What jobs share is kept under a name: without one it would be anybody's."""
        cache = self.config.cache
        wanted = (cache.namespace or "").casefold()  # a Mac takes both for one folder
        rows = [row for row in self.config.policy.namespace if row.name.casefold() == wanted]
        if rows and not any(root.is_relative_to(Path(row.root).resolve()) for row in rows):
            file = self.files.get("cache.namespace", CONFIG_NAME)
            raise Failure(
                Kind.CONFIG,
                f'{file}: cache.namespace = "{cache.namespace}" is for other projects: the host\'s'
                " [[policy.namespace]] names their roots",
                subkind="LOCKED",
                data={"file": file, "key": "cache.namespace"},
            )
        for key, value in (("workspace", "warm"), ("derived_data", "shared")):
            if getattr(cache, key) == value and cache.namespace is None:
                what = f'= "{value}" needs cache.namespace, a name for what is kept, such as "myapp"'
                raise self._bad(f"cache.{key}", what)
