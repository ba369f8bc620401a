"""Where the evidence of a job lies, tool by tool, and how it is read (spec section 9).

A backend hands over places and a way to run a tool; everything that judges is the same for all.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rch.contract.records import Job
from rch.contract.toolchain import backend_of
from rch.contract.versions import numbers_of
from rch.files.durable import make_dirs, remove_tree
from worker_agent.backends.swiftpm import XUNIT, XUNIT_SWIFT_TESTING
from worker_agent.model import JobLayout
from worker_agent.results import xcresult
from worker_agent.results.lines import xctest_name
from worker_agent.results.logfacts import LogFacts
from worker_agent.results.places import Places
from worker_agent.results.tool import run_tool
from worker_agent.results.xunit import XunitFile, read_xunit

_SWIFT_TESTING_SINCE = (6,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What a backend leaves behind. `name` and `version` go into the attestation.

    `xunit` is XCTest's file first; `bundle` lies in the scratch folder until the set is closed,
    and `get` reads a part of it.
    """

    name: str
    version: str
    xunit: tuple[Path, ...] = ()
    bundle: Path | None = None
    get: xcresult.Get | None = None


def backend_name(job: Job) -> str:
    """The tool of a job: `xcodebuild` if its identity names an Xcode, else `swiftpm`."""
    return backend_of(job.job_key_inputs.toolchain)[0]


def sources_of(job: Job, layout: JobLayout, env: Mapping[str, str]) -> Sources:
    """The sources of a job; `env` is what its tools were run with."""
    told = job.job_key_inputs.toolchain
    name, version = backend_of(told)
    if name == "xcodebuild":
        bundle = layout.scratch / xcresult.NAME
        return Sources(
            name=name,
            version=version,
            bundle=bundle,
            get=lambda words: run_tool(
                ("xcrun", "xcresulttool", "get", *words, "--path", str(bundle)), env, cwd=layout.tree
            ),
        )
    files = [layout.scratch / XUNIT]
    if numbers_of(told.get("swift_version", "")) >= _SWIFT_TESTING_SINCE:
        files.append(layout.scratch / XUNIT_SWIFT_TESTING)
    return Sources(name=name, version=version, xunit=tuple(files))


def xunit_files(sources: Sources, log: LogFacts) -> tuple[XunitFile, ...]:
    """The xunit files of a test run, XCTest's with the skips that only its console tells."""
    read = [read_xunit(path) for path in sources.xunit]
    return tuple(_with_skips(file, log) if not at else file for at, file in enumerate(read))


def bundle_of(sources: Sources, places: Places, *, tested: bool) -> xcresult.Bundle | None:
    """The result bundle, read; None for a tool that writes none, or a build that wrote none."""
    if sources.bundle is None or sources.get is None:
        return None
    if not tested and not os.path.lexists(sources.bundle):
        return None
    return xcresult.read_bundle(sources.bundle, sources.get, places, tested=tested)


def keep_bundle(sources: Sources, folder: Path) -> None:
    """Put the bundle into the set, from where it stays: a set may have to be closed a second time.

    Links cost no space; what is neither file nor folder has no place in a set.
    """
    if sources.bundle is None or not sources.bundle.is_dir():
        return
    target = folder / xcresult.NAME
    remove_tree(target)
    for where, folders, names in os.walk(sources.bundle):
        here = target / Path(where).relative_to(sources.bundle)
        make_dirs(here)
        folders[:] = [name for name in folders if not Path(where, name).is_symlink()]
        for name in names:
            _keep(Path(where, name), here / name)


def _keep(source: Path, target: Path) -> None:
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(source.lstat().st_mode):
            return
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


def _with_skips(file: XunitFile, log: LogFacts) -> XunitFile:
    """XCTest's file calls a skipped test passed; the console knows better."""
    cases = tuple(
        replace(case, outcome="skipped")
        if case.outcome == "passed" and xctest_name(f"{case.suite}.{case.name}") in log.skipped
        else case
        for case in file.cases
    )
    return replace(file, cases=cases)
