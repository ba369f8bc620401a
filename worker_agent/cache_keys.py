"""Names and places of what outlives a job: by namespace and toolchain (spec section 11). Pure.

    workspaces/<namespace>/<toolchain_key>/<n>/
    caches/<namespace>/spm/<toolchain_key>/
    caches/<namespace>/derived_data/shared/<toolchain_key>/
    caches/<namespace>/derived_data/per_job/<job_key>/

The lock of such a folder lies below `locks` under the same path, in lower case: where the file
system takes two namespaces for one, so do the locks.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from rch.contract.records import Job
from rch.contract.worker_rpc import Code, RpcError
from rch.files.paths import WorkerPaths
from worker_agent.backends.config import config_of

_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]|__+")
_LONGEST_PART = 48


class CacheConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[cache]` of a job, as far as it is about what the worker keeps. Without `namespace`: nothing."""

    namespace: str | None = None
    derived_data: Literal["off", "per_job", "run", "shared"] = "run"
    spm: Literal["off", "shared"] | None = None
    workspace: Literal["off", "warm"] = "off"

    @property
    def own_build(self) -> bool:
        """Whether build products are the job's own and go with it."""
        per_job = self.derived_data == "per_job" and self.namespace is None
        return self.derived_data == "off" or per_job


def cache_config(job: Job) -> CacheConfig:
    """A job's `[cache]`; `RpcError` INVALID_REQUEST for what may not come near a path."""
    try:
        config = msgspec.convert(config_of(job).get("cache", {}), CacheConfig)
    except msgspec.ValidationError as error:
        raise RpcError(Code.INVALID_REQUEST, f"effective_config.cache: {error}") from error
    if config.namespace is not None and not _NAMESPACE.fullmatch(config.namespace):
        shown = config.namespace[:64]
        raise RpcError(
            Code.INVALID_REQUEST, f"cache.namespace {shown!r} is not of the form {_NAMESPACE.pattern}"
        )
    if config.namespace is None and config.workspace == "warm":
        raise RpcError(Code.INVALID_REQUEST, "cache.workspace is warm and cache.namespace is missing")
    return config


def toolchain_key(toolchain: Mapping[str, str]) -> str:
    """`swift_<version>__<os>_<major>__<arch>` or `xcode_<build>__macos_<major>__<arch>`.

    `toolchain` is that of `job_key_inputs`. What may not stand in a path is replaced, and a digest
    of the true words added, so that two keys stay two.
    """
    if "xcode_build" in toolchain:
        tool, name = "xcode", toolchain["xcode_build"]
        system, release = "macos", toolchain.get("macos_version", "")
    else:
        tool, name = "swift", toolchain.get("swift_version", "")
        system, release = toolchain.get("os_name", "").lower(), toolchain.get("os_version", "")
    words = (name, system, release.partition(".")[0], toolchain.get("arch", ""))
    safe = [_UNSAFE.sub("-", word)[:_LONGEST_PART] or "unknown" for word in words]
    key = f"{tool}_{safe[0]}__{safe[1]}_{safe[2]}__{safe[3]}"
    if tuple(safe) == words:
        return key
    return f"{key}__{hashlib.sha256(repr(words).encode()).hexdigest()[:12]}"


def slots_folder(paths: WorkerPaths, namespace: str, key: str) -> Path:
    """Where the workspaces of a namespace and a toolchain lie, one below each number."""
    return paths.workspaces / namespace / key


def spm_folder(paths: WorkerPaths, namespace: str, key: str) -> Path:
    """What SwiftPM keeps of dependencies and manifests."""
    return paths.caches / namespace / "spm" / key


def build_folder(
    paths: WorkerPaths, config: CacheConfig, toolchain: Mapping[str, str], job_key: str | None
) -> Path | None:
    """The build products that outlive a run; None where they are the run's, the slot's or the job's own."""
    if config.namespace is None or job_key is None:
        return None
    kept = paths.caches / config.namespace / "derived_data" / config.derived_data
    match config.derived_data:
        case "shared":
            return kept / toolchain_key(toolchain)
        case "per_job":
            return kept / job_key
        case _:
            return None


def lock_path(paths: WorkerPaths, folder: Path) -> Path:
    """The lock of a folder below the worker's data."""
    relative = folder.relative_to(paths.data_dir)
    return paths.locks / f"{str(relative).lower()}.lock"
