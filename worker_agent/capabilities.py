"""What this worker says of itself, and whether what a job was planned on still stands (section 7)."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from msgspec import UNSET

from rch import __version__
from rch.contract.destinations import destination_change
from rch.contract.ids import timestamp
from rch.contract.records import Capabilities, JobKeyInputs, Limits, ToolchainEntry
from rch.contract.toolchain import first_difference, host_destination_inputs, toolchain_change
from rch.files.durable import make_dirs
from worker_agent.toolchains import machine
from worker_agent.toolchains.apple import AppleTools
from worker_agent.toolchains.simulators import Simulators, simulators
from worker_agent.toolchains.swift import SwiftProbe
from worker_agent.toolchains.versions import VersionCache
from worker_agent.toolchains.xcode import XcodeProbe


class WorkerLimits(Protocol):
    """The part of the worker's config that shows in its capabilities."""

    @property
    def swift(self) -> str | None:
        """A toolchain's folder, or its `swift`."""

    @property
    def max_upload_bytes(self) -> int:
        """0: none."""

    @property
    def max_artifact_bytes(self) -> int:
        """0: none."""

    @property
    def max_log_bytes(self) -> int:
        """0: none."""


def toolchains(
    config: WorkerLimits,
    cache_dir: Path,
    env: Mapping[str, str] | None = None,
    apple: AppleTools | None = None,
) -> tuple[ToolchainEntry, ...]:
    """What is installed; answers of the tools are kept in `cache_dir`. `apple`: as of `capabilities`.

    With stand-ins nothing of the machine's own is looked for: there is a Swift only where the
    worker's config names one.
    """
    env = os.environ if env is None else env
    versions = VersionCache(cache_dir / "toolchains.json")
    xcode = XcodeProbe(versions=versions, env=env)
    if apple is not None:
        xcode = replace(xcode, usual=apple.xcodes, select=apple.xcode_select, within=Path(apple.root))
        if config.swift is None:
            return xcode.toolchains()
    swift = SwiftProbe(
        versions=versions,
        env=env,
        configured=config.swift,
        developer_dirs=xcode.developer_dirs(),
        darwin=machine.DARWIN,
    )
    return (*xcode.toolchains(), *swift.toolchains())


def capabilities(
    config: WorkerLimits,
    cache_dir: Path,
    *,
    slots_free: int,
    slots_total: int,
    disk: Path | None = None,
    env: Mapping[str, str] | None = None,
    with_simulators: bool = True,
    apple: AppleTools | None = None,
) -> Capabilities:
    """The answer to `probe`. Blocks: milliseconds once versions are known, a second for simulators.

    `cache_dir` is made if it is missing. The free space told is that of `disk`, where jobs leave
    their files, which need not be there yet. `apple` are the stand-ins of a simulated worker, which
    are then asked in place of this machine.
    """
    env = os.environ if env is None else env
    make_dirs(cache_dir)
    found = toolchains(config, cache_dir, env, apple)
    there = _simulators(found, env, apple) if with_simulators else Simulators()
    system = machine.this_system(apple)
    return Capabilities(
        hostname=platform.node() or "unknown",
        agent_version=__version__,
        probed_at=timestamp(time.time()),
        os_name=system.name,
        os_version=system.version,
        os_build=system.build,
        arch=system.arch,
        toolchains=found,
        runtimes=there.runtimes,
        devices=there.devices,
        capacity=machine.capacity(disk or cache_dir, slots_total=slots_total, slots_free=slots_free),
        limits=Limits(
            max_upload_bytes=config.max_upload_bytes,
            max_artifact_bytes=config.max_artifact_bytes,
            max_log_bytes=config.max_log_bytes,
        ),
        tools={"python": platform.python_version()},
        gui_session=machine.gui_session(),
        simulated=apple is not None,
        home_beyond_ascii=UNSET if str(disk or cache_dir).isascii() else True,
    )


def _simulators(
    found: Iterable[ToolchainEntry], env: Mapping[str, str], apple: AppleTools | None
) -> Simulators:
    """What the active Xcode tells; the runtimes and devices are the machine's, whichever is asked."""
    xcodes = sorted((each for each in found if each.kind == "xcode"), key=lambda each: not each.active)
    developer = xcodes[0].developer_dir if xcodes else None
    return simulators(env, developer, apple.xcrun if apple else None) if developer else Simulators()


def unchanged(
    config: WorkerLimits, cache_dir: Path, inputs: JobKeyInputs, apple: AppleTools | None = None
) -> str | None:
    """None if the toolchain and destination that a job names are still here, else what changed."""
    # The simulators are asked for a job on one of them alone: that takes a second.
    asked = "sim_runtime_identifier" in inputs.destination
    now = capabilities(config, cache_dir, slots_free=0, slots_total=0, with_simulators=asked, apple=apple)
    return differs(now, inputs)


def differs(now: Capabilities, inputs: JobKeyInputs) -> str | None:
    """The first member of a job's toolchain or destination that this worker does not have."""
    changed = toolchain_change(now, inputs.toolchain)
    if changed is None and "swift_version" in inputs.toolchain:
        return first_difference(inputs.destination, host_destination_inputs(now))
    return changed or destination_change(now, inputs.destination)
