"""One worker: its places, its config, and the rooms that keep its state on disk.

The rooms come in when they are asked for: a `status` needs neither the config nor the store.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from rch.files.durable import make_dirs
from rch.files.paths import SIMULATE_VARIABLE, worker_paths
from worker_agent.jobs import Jobs

if TYPE_CHECKING:
    from rch.config.worker_config import WorkerConfig
    from rch.contract.records import Capabilities, ToolchainEntry
    from worker_agent.filewatch import FileWatch
    from worker_agent.keys import WorkerKey
    from worker_agent.leases import Leases
    from worker_agent.sources import Sources
    from worker_agent.toolchains.apple import AppleTools

LOW_DISK_BYTES = 64 << 20
"""With less than that free no run begins: its records and its log alone may not fit."""


class Worker:
    """What every process of a worker sees; it holds nothing that is not on disk."""

    def __init__(self, env: Mapping[str, str] = os.environ) -> None:
        self.env = env
        self.paths = worker_paths(env)
        self.jobs = Jobs(self.paths)

    @cached_property
    def config(self) -> WorkerConfig:
        """`worker.toml`; `Failure` CONFIG if it is not right."""
        from rch.config.worker_config import load_worker_config

        return load_worker_config(self.paths.config_file)

    @property
    def simulated(self) -> bool:
        """Whether its tools are stand-ins: its config says so, or who started it for a simulation."""
        return self.config.simulate or self.env.get(SIMULATE_VARIABLE) == "1"

    @cached_property
    def apple(self) -> AppleTools | None:
        """The stand-in tools of a simulated worker, made if they are missing; None for any other."""
        if not self.simulated:
            return None
        from worker_agent.standin.layout import FOLDER, apple_tools, install

        install(self.paths.state_dir / FOLDER)
        return apple_tools(self.paths.state_dir)

    def toolchains(self) -> tuple[ToolchainEntry, ...]:
        """What is installed."""
        from worker_agent.capabilities import toolchains

        make_dirs(self.probe_cache)
        return toolchains(self.config, self.probe_cache, self.env, self.apple)

    @cached_property
    def sources(self) -> Sources:
        """The source store."""
        from worker_agent.sources import Sources

        return Sources(self.paths.sources, max_bytes=self.config.max_upload_bytes)

    @cached_property
    def leases(self) -> Leases:
        """Leases and slots."""
        from worker_agent.clock import boot_id, boot_seconds
        from worker_agent.leases import Leases

        return Leases(
            self.paths.leases,
            self.paths.locks / "leases.lock",
            slots=self.config.max_concurrent_jobs,
            grace_seconds=self.config.orphan_grace_seconds,
            boot_seconds=boot_seconds,
            boot=boot_id(),
            alive=self.jobs.holds_slot,
            low_disk=self.low_disk,
        )

    @cached_property
    def watch(self) -> FileWatch | None:
        """What tells of changed files, for one request at a time; None where the system has none."""
        from worker_agent.filewatch import new_watch

        return new_watch()

    @property
    def probe_cache(self) -> Path:
        """Where the answers of toolchains are kept between processes."""
        return self.paths.state_dir / "probe"

    def low_disk(self) -> str | None:
        """What is missing where jobs leave their files; None while there is room for one more."""
        from worker_agent.toolchains.machine import disk_free

        free = disk_free(self.paths.data_dir)
        if free >= LOW_DISK_BYTES:
            return None
        return f"the worker is low on disk: {free} bytes are free, a run needs {LOW_DISK_BYTES} to begin"

    @cached_property
    def key(self) -> WorkerKey:
        """What this worker signs with, made on first use; `RpcError` where it cannot be used."""
        from worker_agent.keys import worker_key

        return worker_key(self.paths.key)

    def capabilities(self) -> Capabilities:
        """What this worker says of itself now."""
        from worker_agent.capabilities import capabilities

        free, total = self.leases.slots_free(), self.config.max_concurrent_jobs
        told = capabilities(
            self.config,
            self.probe_cache,
            slots_free=free,
            slots_total=total,
            disk=self.paths.data_dir,
            apple=self.apple,
        )
        return msgspec.structs.replace(told, attestation_pubkey_fingerprint=self.key.fingerprint)
