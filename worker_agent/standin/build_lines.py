"""The lines that `xcodebuild` prints while it builds. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from worker_agent.standin.building import Build, Compiled, TargetBuild
from worker_agent.standin.model import Issue
from worker_agent.standin.project import Target
from worker_agent.standin.session import Session
from worker_agent.standin.sources import Diagnosis
from worker_agent.standin.texts import BROKEN_BUILDS


def heading(session: Session) -> Iterator[str]:
    """What comes before anything is built."""
    program = session.context.developer_dir / "usr/bin/xcodebuild"
    yield "Command line invocation:"
    yield f"    {shlex.join([str(program), *session.request.argv])}"
    yield ""
    if session.request.settings:
        yield "Build settings from command line:"
        yield from (f"    {key} = {value}" for key, value in sorted(session.request.settings.items()))
        yield ""
    yield from resolved_packages(session)
    if "-resultBundlePath" in session.request.values:
        yield "Writing result bundle at path:"
        yield f"\t{session.bundle}"
        yield ""


def resolved_packages(session: Session) -> Iterator[str]:
    """The packages of a container that has any, with their pinned versions."""
    if session.container.packages:
        yield from ("Resolve Package Graph", "", "", "Resolved source packages:")
        for package in session.container.packages:
            yield f"  {package.identity}: {package.location} @ {package.version or '1.0.0'}"
        yield ""


def graph(targets: Sequence[Target]) -> Iterator[str]:
    """From the preparations to the build description."""
    for name in (
        "ComputePackagePrebuildTargetDependencyGraph",
        "Prepare packages",
        "CreateBuildRequest",
        "SendProjectDescription",
        "CreateBuildOperation",
    ):
        yield from (name, "")
    yield "ComputeTargetDependencyGraph"
    yield "note: Building targets in dependency order"
    yield f"note: Target dependency graph ({len(targets)} target{'' if len(targets) == 1 else 's'})"
    for target in reversed(targets):
        words = f"    Target '{target.name}' in project '{target.project}'"
        yield words if target.dependencies else f"{words} (no dependencies)"
        for name in target.dependencies:
            yield f"        ➜ Explicit dependency on target '{name}' in project '{target.project}'"
    yield from ("", "GatherProvisioningInputs", "", "CreateBuildDescription", "")


def _escaped(text: str) -> str:
    return text.replace(" ", "\\ ")


def _in(target: Target) -> str:
    return f"(in target '{target.name}' from project '{target.project}')"


def compile_commands(build: TargetBuild, one: Compiled) -> tuple[str, str]:
    """The two names under which a file's compilation goes."""
    path = _escaped(str(one.path))
    batch = f"SwiftCompile normal arm64 Compiling\\ {_escaped(one.path.name)} {path} {_in(build.target)}"
    return batch, f"SwiftCompile normal arm64 {path} {_in(build.target)}"


def said(one: Compiled, diagnosis: Diagnosis) -> Iterator[str]:
    """A compiler's message, the source line, and a caret below it."""
    place = f"{one.path}:{diagnosis.line}:{diagnosis.column}"
    yield f"{place}: {diagnosis.severity}: {diagnosis.message}"
    yield diagnosis.text
    yield " " * (diagnosis.column - 1) + "^"


def target_lines(session: Session, build: TargetBuild) -> Iterator[str]:
    """One target's compile commands; a target that is up to date has none."""
    root = session.container.root
    for one in build.compiled:
        batch, single = compile_commands(build, one)
        yield from (batch, "", single, f"    cd {_escaped(str(root))}", "    ")
        for diagnosis in one.said:
            yield from said(one, diagnosis)
        yield ""
        if one.broken:
            yield "Command SwiftCompile failed with a nonzero exit code"
            yield ""
    if build.compiled and not build.broken:
        product = session.derived / "Build/Products" / session.variant / build.target.name
        yield f"Ld {_escaped(str(product))} normal {_in(build.target)}"
        yield f"    cd {_escaped(str(root))}"
        yield ""


def scheme_command(session: Session) -> str:
    """What the whole goes by in the list of failed commands."""
    verb = "Building" if session.action == "build" else "Testing"
    container = session.container
    return f"{verb} {container.kind} {container.name} with scheme {session.scheme.name}"


def failed_commands(session: Session, build: Build) -> list[str]:
    """The commands of the sources that have errors, then the whole."""
    names = [
        name
        for target in build.targets
        for one in target.compiled
        if one.broken
        for name in compile_commands(target, one)
    ]
    return [*names, scheme_command(session)]


def broken_elsewhere(session: Session, name: str, target: Target | None) -> tuple[list[str], list[str]]:
    """Lines and failed commands of a build that breaks without an error in a source."""
    row = BROKEN_BUILDS[name]
    names = {
        "derived": str(session.derived),
        "project": session.container.name,
        "target": target.name if target else session.scheme.name,
        "root": str(session.container.root),
        "scheme": session.scheme.name,
    }
    commands = [row.command.format(**names)]
    whole = scheme_command(session)
    if whole not in commands:
        commands.append(whole)
    return [line.format(**names) for line in row.lines], commands


def failures(commands: Sequence[str]) -> Iterator[str]:
    """The block that names the failed commands."""
    yield from ("", "", "The following build commands failed:")
    yield from (f"\t{command}" for command in commands)
    yield f"({len(commands)} failure{'' if len(commands) == 1 else 's'})"


def issues(build: Build) -> tuple[Issue, ...]:
    """What the compiler said, as results hold it."""
    return tuple(
        Issue(one.severity, str(each.path), one.line, one.column, one.message, target.target.name)
        for target in build.targets
        for each in target.compiled
        for one in each.said
    )
