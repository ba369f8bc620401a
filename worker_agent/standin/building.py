"""The stand-in compiler: which sources changed since the last build, and what is wrong with them.

What was compiled is remembered in the derived data, a digest a file, so that a second build of
an unchanged tree compiles nothing. A target whose source has an error remembers none of its
files, as a real one would be compiled again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker_agent.standin.context import read_json, write_json
from worker_agent.standin.project import Container, Scheme, Target
from worker_agent.standin.sources import Diagnosis, diagnoses

_DATA = "Build/Intermediates.noindex/XCBuildData"
RECORD = "standin-build.json"


@dataclass(frozen=True, slots=True)
class Compiled:
    """A source that is compiled in this build, and what the compiler says of it."""

    path: Path
    said: tuple[Diagnosis, ...]

    @property
    def broken(self) -> bool:
        """Whether it has an error."""
        return any(one.severity == "error" for one in self.said)


@dataclass(frozen=True, slots=True)
class TargetBuild:
    """The sources of a target that are compiled now, in order."""

    target: Target
    compiled: tuple[Compiled, ...]

    @property
    def broken(self) -> bool:
        """Whether one of them has an error."""
        return any(one.broken for one in self.compiled)


@dataclass(frozen=True, slots=True)
class Build:
    """Targets in dependency order, and what is to be remembered of them afterwards."""

    targets: tuple[TargetBuild, ...]
    record: Mapping[str, Mapping[str, str]]

    @property
    def broken(self) -> bool:
        """Whether any source has an error."""
        return any(each.broken for each in self.targets)


class Locked(Exception):  # noqa: N818  (it says what is so)
    """Another build holds the database of these derived data."""


def order(container: Container, scheme: Scheme, *, tests: bool) -> tuple[Target, ...]:
    """What a scheme builds, dependencies first."""
    wanted = [*scheme.builds, *(each.target for each in scheme.tests if tests)]
    found: dict[str, Target] = {}

    def visit(name: str, above: tuple[str, ...]) -> None:
        target = container.target(name)
        if target is None or name in found or name in above:
            return
        for dependency in target.dependencies:
            visit(dependency, (*above, name))
        found[name] = target

    for name in wanted:
        target = container.target(name)
        if target is not None and (tests or not target.tests):
            visit(name, ())
    return tuple(found.values())


def survey(derived: Path, variant: str, targets: tuple[Target, ...]) -> Build:
    """Read the sources; `variant` tells builds of one tree apart (configuration and platform)."""
    known: Any = read_json(derived / _DATA / RECORD, {})
    kept = known if isinstance(known, dict) else {}
    builds: list[TargetBuild] = []
    record: dict[str, dict[str, str]] = {key: each for key, each in kept.items() if isinstance(each, dict)}
    for target in targets:
        key = f"{variant}/{target.project}/{target.name}"
        now = {str(path): _read(path) for path in target.sources}
        digests = {path: hashlib.sha256(data or b"").hexdigest() for path, data in now.items()}
        before = record.get(key, {})
        compiled = tuple(
            Compiled(Path(path), _said(path, data))
            for path, data in now.items()
            if data is None or before.get(path) != digests[path]
        )
        build = TargetBuild(target, compiled)
        record[key] = {} if build.broken else digests
        builds.append(build)
        if build.broken:
            break
    return Build(tuple(builds), record)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _said(path: str, data: bytes | None) -> tuple[Diagnosis, ...]:
    if data is None:
        return (Diagnosis("error", 1, 1, f"Build input file cannot be found: '{path}'", ""),)
    return tuple(diagnoses(data.decode(errors="replace")))


def remember(derived: Path, build: Build) -> None:
    """Keep what was compiled, for the next build."""
    write_json(derived / _DATA / RECORD, build.record)


@contextlib.contextmanager
def database(derived: Path) -> Iterator[None]:
    """Hold the build database as long as a build goes on; `Locked` where another has it."""
    folder = derived / _DATA
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "build.db").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked from None
        yield
