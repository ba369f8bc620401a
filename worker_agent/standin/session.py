"""One call of `xcodebuild build` or `test`: what it is about, or why the tool refuses it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from worker_agent.standin import devices
from worker_agent.standin.arguments import Request
from worker_agent.standin.context import Context, locked, read_json, write_json
from worker_agent.standin.model import Device
from worker_agent.standin.project import Container, ProjectError, Scheme, load
from worker_agent.standin.scenario import Scenario, find
from worker_agent.standin.texts import REFUSALS

_GENERIC = Device("", "Any iOS Simulator Device", "iOS Simulator", "generic", "", "", "")


class Refused(Exception):  # noqa: N818  (it says what is so)
    """The tool ends before it does anything: words for standard error, and the exit code."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.text = text
        self.exit_code = exit_code


def refuse(name: str, /, **names: str) -> Refused:
    """A refusal of the table, with its names filled in."""
    row = REFUSALS[name]
    return Refused(row.text.format(**names), row.exit_code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """`derived` are the derived data, `bundle` the result bundle's path or None where none is due."""

    request: Request
    context: Context
    action: str
    container: Container
    scheme: Scheme
    device: Device
    scenario: Scenario
    derived: Path
    bundle: Path | None
    pid: int
    at: float

    @property
    def configuration(self) -> str:
        """`Debug` unless the call names another."""
        return self.request.values.get("-configuration", "Debug")

    @property
    def variant(self) -> str:
        """The folder of products: `Debug-iphonesimulator`."""
        return f"{self.configuration}-iphonesimulator" if self.device.simulator else self.configuration

    @property
    def generic(self) -> bool:
        """Whether the destination is a platform and no device."""
        return not self.device.udid


def container_path(request: Request, context: Context) -> Path:
    """The workspace or project that a call names, or the only one of the folder."""
    named = request.values.get("-workspace") or request.values.get("-project")
    if named is not None:
        path = context.place(named)
        if not path.is_dir():
            raise refuse("no-project", path=named)
        return path
    for suffix in ("xcworkspace", "xcodeproj"):
        found = sorted(context.cwd.glob(f"*.{suffix}"))
        if len(found) == 1:
            return found[0]
    raise refuse("no-project-here", folder=str(context.cwd))


def open_container(path: Path) -> Container:
    """The project or workspace; a refusal where it cannot be read."""
    try:
        return load(path)
    except ProjectError as error:
        raise refuse("unreadable-project", container=path.stem, why=str(error)) from error


def scenario_for(context: Context, tree: Path, action: str) -> Scenario:
    """What happens in this call for this tree."""
    wanted = find(context.env, (tree, context.cwd, context.root))
    calls = 0
    if wanted.counted:
        file = context.root / "calls.json"
        key = f"{action} {wanted.text} {tree}"
        with locked(file):
            kept = read_json(file, {})
            calls = int(kept.get(key, 0))
            write_json(file, {**kept, key: calls + 1})
    return wanted.scenario(action, calls)


def begin(request: Request, context: Context, action: str, pid: int) -> Session:
    """Find out what a call is about; `Refused` in the order in which the real tool looks."""
    bundle = _bundle(request, context)
    path = container_path(request, context)
    scenario = scenario_for(context, path.parent, action)
    if scenario.refusal == "license":
        raise refuse("license")
    if scenario.refusal == "no-project":
        raise refuse("no-project", path=path.name)
    container = open_container(path)
    named = request.values.get("-scheme") or next(iter(container.schemes), "")
    scheme = container.schemes.get(named)
    if scheme is None or scenario.refusal == "no-scheme":
        raise refuse("no-scheme", kind=container.kind, container=container.name, scheme=named)
    _buildable(container, scheme, action)
    if scenario.refusal == "existing-bundle" or (bundle is not None and bundle.exists()):
        raise refuse("existing-bundle", bundle=str(bundle or "/tmp/Result.xcresult"))  # noqa: S108  (words)
    _packages(request, container, scenario)
    derived = _derived(request, context, container)
    device = _device(request, context, scheme, scenario)
    if action == "test" and not device.udid:
        target = scheme.tests[0].target if scheme.tests else scheme.name
        raise refuse(
            "no-concrete-device",
            kind=container.kind,
            container=container.name,
            scheme=scheme.name,
            target=target,
        )
    at = time.time()
    if bundle is None and action == "test":
        bundle = _own_bundle(derived / "Logs" / "Test", scheme.name, at)
    return Session(
        request=request,
        context=context,
        action=action,
        container=container,
        scheme=scheme,
        device=device,
        scenario=scenario,
        derived=derived,
        bundle=bundle,
        pid=pid,
        at=at,
    )


def _bundle(request: Request, context: Context) -> Path | None:
    named = request.values.get("-resultBundlePath")
    return None if named is None else context.place(named)


def _own_bundle(folder: Path, scheme: str, at: float) -> Path:
    """A path that is free, by the second of the call."""
    name = f"Test-{scheme}-{time.strftime('%Y.%m.%d_%H-%M-%S', time.gmtime(at))}-+0000"
    free = (folder / f"{name}{mark}.xcresult" for mark in ("", *(f"-{n}" for n in range(1, 1000))))
    return next(path for path in free if not path.exists())


def _derived(request: Request, context: Context, container: Container) -> Path:
    named = request.values.get("-derivedDataPath")
    if named is not None:
        return context.place(named)
    home = Path(context.env.get("HOME", "/tmp"))  # noqa: S108  (as the real tool falls back)
    mark = hashlib.sha256(str(container.path).encode()).hexdigest()[:28]
    return home / "Library/Developer/Xcode/DerivedData" / f"{container.name}-{mark}"


def _buildable(container: Container, scheme: Scheme, action: str) -> None:
    """A scheme that names what is not there, or tests nothing, does not pass for one that is green."""
    for name in (*scheme.builds, *(each.target for each in scheme.tests)):
        if container.target(name) is None:
            raise refuse(
                "no-target",
                kind=container.kind,
                container=container.name,
                scheme=scheme.name,
                target=name,
            )
    if action == "test" and not scheme.tests:
        raise refuse("no-test-action", scheme=scheme.name)


def _packages(request: Request, container: Container, scenario: Scenario) -> None:
    if scenario.refusal == "packages":
        raise refuse("packages")
    if request.fixed_packages and any(package.version is None for package in container.packages):
        raise refuse("outdated-resolved", resolved=str(container.resolved))


def specifier(text: str) -> Mapping[str, str]:
    """`platform=iOS Simulator,name=iPhone 16` as a table; `generic/platform=iOS` has `generic`."""
    plain = text.removeprefix("generic/")
    pairs = (each.partition("=") for each in plain.split(",") if "=" in each)
    table = {key.strip(): value.strip() for key, _, value in pairs}
    return {**table, "generic": "yes"} if plain != text else table


def _device(request: Request, context: Context, scheme: Scheme, scenario: Scenario) -> Device:
    known = devices.destinations(context.root)
    text = request.values.get("-destination", "platform=iOS Simulator")
    asked = specifier(text)
    found = None if scenario.refusal == "no-destination" else choose(asked, known)
    if found is not None:
        return found
    listed = "\n".join(
        f"\t\t{{ platform:{one.platform}, id:{one.udid}, OS:{one.os_version}, name:{one.name} }}"
        for one in known
    )
    named = ", ".join(f"{key}:{value}" for key, value in asked.items() if key != "generic")
    raise refuse("no-destination", destination=named, scheme=scheme.name, available=listed)


def choose(asked: Mapping[str, str], known: list[Device]) -> Device | None:
    """The device that a specifier means, the newest system first; None if there is none."""
    if not asked:
        return None
    if "generic" in asked:
        return _GENERIC if asked.get("platform", "").startswith("iOS") else known[0]
    matching = [
        one
        for one in known
        if asked.get("platform", one.platform) == one.platform
        and asked.get("name", one.name) == one.name
        and asked.get("id", one.udid).upper() == one.udid.upper()
        and asked.get("OS", "latest") in {"latest", one.os_version}
    ]
    return max(matching, key=lambda one: [int(part) for part in one.os_version.split(".")], default=None)
