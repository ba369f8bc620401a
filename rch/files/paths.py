"""Every place that host and worker use (spec sections 6, 8, 12; table in docs/places.md).

Standard library alone: the thin client imports this module. Nothing here touches the disk.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from rch.contract.errors import Failure, Kind

# sizeof(sockaddr_un.sun_path), its closing NUL included.
_SUN_PATH_BYTES = 104 if sys.platform == "darwin" else 108

HOME_VARIABLE = "RCH_WORKER_HOME"
"""Moves all of a worker under one folder."""
SIMULATE_VARIABLE = "RCH_WORKER_SIMULATE"
"""`1` makes a simulated worker of the one that is started, as `simulate = true` in its config does."""


class HostPaths(NamedTuple):
    """Where the daemon and its clients keep their things. All paths are absolute."""

    config_dir: Path
    data_dir: Path
    state_dir: Path
    run_dir: Path
    socket: Path

    @property
    def artifacts(self) -> Path:
        """One folder per run (section 8)."""
        return self.data_dir / "artifacts" / "xcode"

    @property
    def workers_toml(self) -> Path:
        """The inventory (section 6)."""
        return self.config_dir / "workers.toml"

    @property
    def config_toml(self) -> Path:
        """The host's layer of the config, `[policy]` included."""
        return self.config_dir / "config.toml"

    @property
    def database(self) -> Path:
        """The truth about runs, jobs and events (section 4)."""
        return self.state_dir / "rchd.db"

    @property
    def spool(self) -> Path:
        """Compressed source bundles on their way to a worker (section 5)."""
        return self.state_dir / "spool"

    @property
    def standby_worker(self) -> Path:
        """The home of this machine's simulated worker, which shares nothing with the real one."""
        return self.state_dir / "simulated-worker"

    @property
    def log(self) -> Path:
        """The daemon's own log."""
        return self.state_dir / "rchd.log"

    @property
    def lock(self) -> Path:
        """Held by the one daemon of this state directory."""
        return self.state_dir / "rchd.lock"

    @property
    def socket_lock(self) -> Path:
        """Held by the one daemon of this socket path."""
        return self.socket.with_name(self.socket.name + ".lock")

    @property
    def start_lock(self) -> Path:
        """Held by the client that starts the daemon."""
        return self.state_dir / "start.lock"

    @property
    def inventory_lock(self) -> Path:
        """Held by the client that changes the inventory."""
        return self.state_dir / "inventory.lock"

    @property
    def bugreports(self) -> Path:
        """Where `rchctl bugreport` puts a report that is given no place."""
        return self.state_dir / "bugreports"

    @property
    def transcripts(self) -> Path:
        """What the daemon recorded of itself lately (docs/transcripts.md)."""
        return self.state_dir / "transcripts"

    @property
    def drained(self) -> Path:
        """The workers that are to get no new run."""
        return self.state_dir / "drained.json"

    @property
    def host_id_file(self) -> Path:
        """The `host_id` that this host gives to workers."""
        return self.state_dir / "host_id"


class WorkerPaths(NamedTuple):
    """Where a worker keeps its things. All paths are absolute."""

    config_file: Path
    data_dir: Path
    state_dir: Path

    @property
    def sources(self) -> Path:
        """The content-addressed source store (section 5)."""
        return self.data_dir / "sources"

    @property
    def trees(self) -> Path:
        """Sources as files, from which runs are cloned."""
        return self.data_dir / "trees"

    @property
    def jobs(self) -> Path:
        """One folder per `job_id`."""
        return self.data_dir / "jobs"

    @property
    def runs(self) -> Path:
        """One working tree per `run_id` (section 11)."""
        return self.data_dir / "runs"

    @property
    def workspaces(self) -> Path:
        """Warm workspaces by namespace and toolchain (section 11)."""
        return self.data_dir / "workspaces"

    @property
    def results(self) -> Path:
        """The result cache: which job's set answers which key (section 11)."""
        return self.data_dir / "results"

    @property
    def caches(self) -> Path:
        """Caches by namespace and toolchain (section 11)."""
        return self.data_dir / "caches"

    @property
    def leases(self) -> Path:
        """Leases and the fence counter (section 3.4)."""
        return self.state_dir / "leases"

    @property
    def locks(self) -> Path:
        """Lock files, outside of what they guard."""
        return self.state_dir / "locks"

    @property
    def key(self) -> Path:
        """What the worker signs its attestations with (section 10)."""
        return self.state_dir / "attestation.key"

    @property
    def log(self) -> Path:
        """The worker's own log."""
        return self.state_dir / "rch-worker.log"


def _home(env: Mapping[str, str]) -> Path:
    return Path(env.get("HOME") or os.path.expanduser("~")).absolute()  # noqa: PTH111  (no RuntimeError)


def _place(env: Mapping[str, str], name: str) -> Path | None:
    """The absolute path that variable `name` gives; unset and empty are the same."""
    value = env.get(name)
    if not value:
        return None
    if value == "~" or value.startswith("~/"):  # service files do not expand it
        return _home(env) / value[2:]
    return Path(value).absolute()


def host_paths(env: Mapping[str, str]) -> HostPaths:
    """The host's places under `env` (`RCH_HOME`, `XDG_*`, `RCH_STATE_DIR`, `RCH_SOCKET`, `HOME`)."""
    socket = _place(env, "RCH_SOCKET")
    if (base := _place(env, "RCH_HOME")) is not None:
        config, data, state, run = base / "config", base / "data", base / "state", base / "run"
    else:
        home = _home(env)
        config = (_place(env, "XDG_CONFIG_HOME") or home / ".config") / "rch"
        data = (_place(env, "XDG_DATA_HOME") or home / ".local/share") / "rch"
        state = (_place(env, "XDG_STATE_HOME") or home / ".local/state") / "rch"
        runtime = _place(env, "XDG_RUNTIME_DIR")
        run = runtime / "rch" if runtime is not None else state / "run"
    if (private := _place(env, "RCH_STATE_DIR")) is not None:
        state, run = private, private
    if socket is None:
        socket = run / "rchd.sock"
    return HostPaths(
        config_dir=config, data_dir=data, state_dir=state, run_dir=socket.parent, socket=socket
    )


def worker_paths(env: Mapping[str, str]) -> WorkerPaths:
    """The worker's places under `env` (`RCH_WORKER_HOME`, `HOME`).

    `XDG_*` has no say: an SSH command and a terminal on the same machine often differ in
    it, and would then keep two sets of leases and locks.
    """
    if (base := _place(env, HOME_VARIABLE)) is not None:
        return WorkerPaths(
            config_file=base / "config" / "worker.toml", data_dir=base / "data", state_dir=base / "state"
        )
    home = _home(env)
    return WorkerPaths(
        config_file=home / ".config/rch/worker.toml",
        data_dir=home / ".local/share/rch-worker",
        state_dir=home / ".local/state/rch-worker",
    )


def check_socket_path(path: Path) -> None:
    """Refuse a socket path that the platform cannot hold: `DAEMON` / `SOCKET_PATH` (section 12)."""
    length = len(os.fsencode(path)) + 1
    if length > _SUN_PATH_BYTES:
        raise Failure(
            Kind.DAEMON,
            f"socket path {path} takes {length} bytes with its closing NUL, the platform allows"
            f" {_SUN_PATH_BYTES}: set RCH_SOCKET or RCH_HOME to a shorter path",
            subkind="SOCKET_PATH",
        )


NO_DAEMON_MARK = "no_daemon.json"
"""In the folder of a run that `--no-daemon` made: the usual daemon does not know it."""
