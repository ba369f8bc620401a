"""What this worker says of itself, and whether what a job was planned on still stands (section 7)."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from rch import __version__
from rch.contract.ids import timestamp
from rch.contract.records import Capabilities, JobKeyInputs, Limits, ToolchainEntry
from rch.contract.toolchain import host_destination_inputs, swift_toolchain_inputs
from rch.files.durable import make_dirs
from worker_agent.toolchains import machine
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
    config: WorkerLimits, cache_dir: Path, env: Mapping[str, str] | None = None
) -> tuple[ToolchainEntry, ...]:
    """What is installed; answers of the tools are kept in `cache_dir`."""
    env = os.environ if env is None else env
    versions = VersionCache(cache_dir / "toolchains.json")
    xcode = XcodeProbe(versions=versions, env=env)
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
) -> Capabilities:
    """The answer to `probe`. Blocks: milliseconds once the toolchains' versions are known.

    `cache_dir` is made if it is missing. The free space told is that of `disk`, where jobs leave
    their files, which need not be there yet.
    """
    make_dirs(cache_dir)
    system = machine.this_system()
    return Capabilities(
        hostname=platform.node() or "unknown",
        agent_version=__version__,
        probed_at=timestamp(time.time()),
        os_name=system.name,
        os_version=system.version,
        os_build=system.build,
        arch=system.arch,
        toolchains=toolchains(config, cache_dir),
        capacity=machine.capacity(disk or cache_dir, slots_total=slots_total, slots_free=slots_free),
        limits=Limits(
            max_upload_bytes=config.max_upload_bytes,
            max_artifact_bytes=config.max_artifact_bytes,
            max_log_bytes=config.max_log_bytes,
        ),
        tools={"python": platform.python_version()},
        gui_session=machine.gui_session(),
    )


def unchanged(config: WorkerLimits, cache_dir: Path, inputs: JobKeyInputs) -> str | None:
    """None if the toolchain and destination that a job names are still here, else what changed."""
    return differs(capabilities(config, cache_dir, slots_free=0, slots_total=0), inputs)


def differs(now: Capabilities, inputs: JobKeyInputs) -> str | None:
    """The first member of a job's toolchain or destination that this worker does not have."""
    named = inputs.toolchain
    if "swift_version" not in named:
        return f"toolchain {_words(named)} is none that this worker serves"
    folder = named.get("toolchain_dir")
    entry = next((one for one in now.toolchains if one.kind == "swift" and one.path == folder), None)
    if entry is None:
        have = ", ".join(one.path for one in now.toolchains if one.kind == "swift") or "none"
        return f"toolchain_dir {folder} is gone; there is {have}"
    return _first_difference(named, swift_toolchain_inputs(now, entry)) or _first_difference(
        inputs.destination, host_destination_inputs(now)
    )


def _first_difference(named: Mapping[str, str], here: Mapping[str, str]) -> str | None:
    for key in sorted(named.keys() | here.keys()):
        if named.get(key) != here.get(key):
            return f"{key} {named.get(key)} is {here.get(key)} now"
    return None


def _words(table: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(table.items())) or "(empty)"
