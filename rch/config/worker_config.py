"""The worker's own `worker.toml` (spec sections 3.3, 3.4, 6, 11)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from rch.config.keys import bad_value, check_tree
from rch.config.sources import Origin, file_layer, is_there
from rch.contract.denied import WORKER_OWNED_ENVIRONMENT
from rch.contract.policy import POLICY_ONLY

_GIB = 1 << 30
_MIB = 1 << 20

Bytes = Annotated[int, Meta(ge=0)]
Days = Annotated[int, Meta(ge=0, le=3650)]
Words = tuple[Annotated[str, Meta(min_length=1, max_length=128)], ...]
Variable = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a worker permits and how much of it.

    Byte limits of 0 mean none. `keep_sources_bytes` bounds what is kept of sources that nothing
    uses; the limits of workspaces and caches likewise, and their days count from their last use.
    `cache_wait_seconds` is how long a job waits for a cache that another one has. `name` is what the
    worker calls itself where nobody names it. `pass_env` adds variables to the environment allowlist;
    `allow_flags` permits policy-only flags; `swift` is a toolchain's folder or its `swift`, instead of
    what is found. With `results_cache` a job whose like has succeeded here is answered by what that one
    left. `boot_seconds` is how long a simulator may take to boot. `simulate` brings the stand-in tools in.
    """

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] | None = None
    max_concurrent_jobs: Annotated[int, Meta(ge=1, le=64)] = 1
    orphan_grace_seconds: Annotated[int, Meta(ge=0, le=86_400)] = 600
    max_upload_bytes: Bytes = 4 * _GIB
    max_artifact_bytes: Bytes = 4 * _GIB
    max_log_bytes: Bytes = 256 * _MIB
    keep_sources_bytes: Bytes = 2 * _GIB
    keep_workspaces_bytes: Bytes = 20 * _GIB
    keep_workspaces_days: Days = 14
    keep_caches_bytes: Bytes = 10 * _GIB
    keep_caches_days: Days = 30
    cache_wait_seconds: Annotated[int, Meta(ge=0, le=86_400)] = 600
    pass_env: tuple[Variable, ...] = ()
    allow_flags: Words = ()
    swift: Annotated[str, Meta(pattern="^/")] | None = None
    boot_seconds: Annotated[int, Meta(ge=1, le=3600)] = 300
    results_cache: bool = True
    simulate: bool = False
    labels: Words = ()


def load_worker_config(path: Path) -> WorkerConfig:
    """Read `worker.toml`; one that does not exist leaves every default in force."""
    if not is_there(path):
        return WorkerConfig()
    file = str(path)
    tree = file_layer(path, Origin.HOST).tree
    check_tree(tree, WorkerConfig, file)
    config = msgspec.convert(tree, WorkerConfig)
    for flag in config.allow_flags:
        if flag not in POLICY_ONLY:
            raise bad_value(file, "allow_flags", f"names {flag}: only {', '.join(sorted(POLICY_ONLY))}")
    for name in config.pass_env:
        if name in WORKER_OWNED_ENVIRONMENT:
            raise bad_value(file, "pass_env", f"names {name}: the worker owns it")
    return config
