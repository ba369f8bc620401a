"""Makes `tests/compat/<version>/` with the real programs of this version: `scripts/keep-version`.

What a user has after some days: ended runs, one that is queued, and one in the middle of a step when the
machine went down. It is made in `HOUSE`, a place that is nobody's, since rows and records hold paths.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from support.lab import FAILING_TEST, PASSING_TEST, Lab
from support.until import until, waiting_project

import rch
from rch.config.daemon_config import load_daemon_config
from rch.config.inventory import load_inventory
from rch.config.layers import load_config
from rch.config.root import find_root
from rch.config.worker_config import load_worker_config

HERE = Path(__file__).parent
HOUSE = Path("/home/dev")
LARGEST = 1_000_000  # bytes of a whole folder
_LEFT = (
    *(
        "*.lock",
        "*.reserve",
        "*.db-*",
        "rchd.log*",
        "rch-worker.log*",
        "*.key",
        "run",
        "trees",
        "caches",
        "packed",
    ),
    *("workspaces", "agent"),
)

REPO_TOML = """\
schema_version = 1
backend = "xcodebuild"
[project]
workspace = "App.xcworkspace"
schemes = ["App", "Kit"]
configurations = ["Debug", "Release"]
[actions]
verify = ["build", "test"]
[destination]
value = "platform=iOS Simulator,name=iPhone 15"
provisioning = "ephemeral"
[toolchain]
xcode_build = "15F31d"
xcode_version = ">=15.0"
[timeouts]
overall_seconds = 1200
idle_log_seconds = 120
connect_timeout_seconds = 20
[bundle]
mode = "git_index"
symlinks = "dereference"
gitignore = true
max_bytes = 1000000
[cache]
namespace = "app"
derived_data = "per_job"
spm = "off"
workspace = "warm"
results = false
[run]
continue_on_failure = true
artifact_profile = "minimal"
allow_no_tests = true
allow_narrowing = true
retry_tests = 2
retry_infrastructure = 1
[selection]
tags = ["xcode"]
mode = "adaptive"
on_busy = "wait"
probe_ttl_seconds = 60
[queue]
max_wait_seconds = 600
"""
PACKAGE_TOML = """\
schema_version = 1
backend = "swiftpm"
[project]
package = "."
configurations = ["debug"]
[[actions.step]]
action = "build"
configuration = "debug"
[[actions.step]]
action = "test"
"""
HOST_TOML = """\
[timeouts]
overall_seconds = 900
[toolchain]
swift_version = ">=5.9"
[policy]
lock = ["toolchain.swift_version"]
allow_flags = []
[[policy.namespace]]
name = "other"
root = "/home/dev"
[gc]
automatic = false
keep_runs = 5
keep_days = 10
keep_bytes = 1000000
max_runs = 100
[log]
level = "debug"
format = "text"
max_bytes = 100000
keep = 1
[metrics]
textfile = "/home/dev/rch.prom"
interval_seconds = 30
[notify]
command = ["/usr/bin/logger", "rch"]
desktop = true
when = "failure"
finished_after_seconds = 60
timeout_seconds = 5
[transcripts]
keep_bytes = 1000000
"""
WORKERS_TOML = f"""\
[[worker]]
name = "mini"
transport = "ssh"
host = "mini.example"
user = "build"
port = 2222
tags = ["xcode", "arm64"]
known_host_fingerprint = "SHA256:{"A" * 43}"
attestation_pubkey_fingerprint = ["SHA256:{"0" * 64}"]
ssh_key_path = "/home/dev/.ssh/rch_mini"
priority = 10
[[worker]]
name = "studio"
host = "studio.example"
known_hosts = "/home/dev/.ssh/known_hosts"
attestation_pubkey_fingerprint = "SHA256:{"1" * 64}"
[[worker]]
name = "here"
transport = "local"
command = ["/usr/bin/rch-worker", "xcode", "rpc"]
"""
WORKER_TOML = """\
name = "mini"
max_concurrent_jobs = 2
orphan_grace_seconds = 300
max_upload_bytes = 1000000
max_artifact_bytes = 1000000
max_log_bytes = 1000000
keep_sources_bytes = 1000000
keep_workspaces_bytes = 1000000
keep_workspaces_days = 7
keep_caches_bytes = 1000000
keep_caches_days = 7
cache_wait_seconds = 60
pass_env = ["LC_TIME"]
allow_flags = []
swift = "/opt/swift"
boot_seconds = 120
results_cache = false
simulate = false
labels = ["fast"]
"""
CONFIGS = {
    "config.toml": HOST_TOML,
    "workers.toml": WORKERS_TOML,
    "worker.toml": WORKER_TOML,
    "app/.rch/xcode.toml": REPO_TOML,
    "app/App.xcworkspace/contents.xcworkspacedata": "<Workspace/>\n",
    "package/.rch/xcode.toml": PACKAGE_TOML,
    "package/Package.swift": "// swift-tools-version: 5.9\n",
}


def effective(folder: Path) -> dict[str, Any]:
    """What the files of `configs/` come to, as data."""
    host = folder / "config.toml"
    found = {
        "config.toml": load_daemon_config(host),
        "workers.toml": load_inventory(folder / "workers.toml").workers,
        "worker.toml": load_worker_config(folder / "worker.toml"),
    }
    for name in ("app", "package"):
        root = find_root(folder / name)
        found[name] = load_config(root, host_config=host, overrides={}).config
    return {name: msgspec.to_builtins(value) for name, value in found.items()}


def _configs(folder: Path) -> None:
    for name, text in CONFIGS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "effective.json").write_text(json.dumps(effective(folder), indent=1, sort_keys=True) + "\n")


@contextmanager
def _house() -> Iterator[Lab]:
    """A user in `HOUSE`, which is gone afterwards; refused where somebody lives there."""
    HOUSE.mkdir()
    (HOUSE / "run").mkdir(mode=0o700)
    user = Lab(HOUSE, HOUSE / "run", stand_in=True)
    try:
        yield user
    finally:
        user.stop()
        shutil.rmtree(HOUSE)


def _live_through(user: Lab) -> dict[str, Any]:
    """Ended runs, a queued one, one in mid-step; then nothing lives any more. What each run is."""
    for name, script in (("green", PASSING_TEST), ("red", FAILING_TEST)):
        user.rchctl("verify", cwd=user.project(name, test=script))
    project, marker, _gate = waiting_project(user)
    cancelled = user.json("submit", cwd=project)["data"]["run_id"]
    until(marker.exists)
    user.rchctl("cancel", cancelled)
    user.rchctl("wait", cancelled)
    marker.unlink()
    user.json("submit", "--action", "build", cwd=project)
    until(marker.exists)
    user.json("submit", "--action", "build", cwd=user.project("later"))
    done = user.rchctl("workers", "drain", "local", "--reason", "a new Xcode")
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    runs = user.json("list")["data"]["runs"]
    return {
        each["run_id"]: {name: each[name] for name in ("state", "exit_code", "project")} for each in runs
    }


def _power_cut(user: Lab) -> None:
    """Everything of this user dies at once."""
    user.kill_daemon()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        try:
            words = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if (
            f"RCH_HOME={user.home}".encode() in words
            or f"RCH_WORKER_HOME={user.worker_home}".encode() in words
        ):
            os.kill(int(folder.name), signal.SIGKILL)
    with closing(sqlite3.connect(user.home / "state" / "rchd.db")) as con:
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _take(user: Lab, folder: Path) -> None:
    """Copy what a release's successor will find; not what is made anew, nor a private key."""
    left = shutil.ignore_patterns(*_LEFT)
    shutil.copytree(user.home, folder / "home", ignore=left, symlinks=True)
    shutil.copytree(user.worker_home, folder / "worker", ignore=left, symlinks=True)


def main() -> None:
    """Make the folder of this version anew."""
    folder = HERE / rch.__version__
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    _configs(folder / "configs")
    with _house() as user:
        runs = _live_through(user)
        out = folder / "exported.jsonl"
        green = next(run_id for run_id, run in runs.items() if run["project"] == "green")
        done = user.rchctl(
            "debug", "transcript", green, "-o", str(out), "--comment", "a run of this version"
        )
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        _power_cut(user)
        _take(user, folder)
    (folder / "runs.json").write_text(json.dumps(runs, indent=1) + "\n")
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    size = sum(path.stat().st_size for path in files)
    sys.stdout.write(f"{folder.relative_to(HERE.parents[1])}: {len(files)} files, {size} bytes\n")
    if size > LARGEST:
        raise SystemExit(f"that is more than {LARGEST} bytes")


if __name__ == "__main__":
    main()
