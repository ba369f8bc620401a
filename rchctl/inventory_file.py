"""A new entry for `workers.toml`: what is there stays as it is, byte for byte."""

from __future__ import annotations

import argparse
import json
import stat
import tempfile
from pathlib import Path
from typing import Any

from rch.contract.errors import Failure, Kind
from rch.files.paths import HostPaths
from rchctl.parser import UsageError

LOCK_SECONDS = 10.0
_FIRST = """\
# The workers, in TOML; the keys stand in docs/configuration.md. As long as this file exists it is
# the whole inventory: this machine serves only if an entry with transport = "local" says so.
"""


# What `workers add` and `workers key` are given, by the key of the entry that it is for.
_GIVEN = {
    "name": "name",
    "host": "--host",
    "user": "--user",
    "port": "--port",
    "priority": "--priority",
    "tags": "--tag",
    "known_host_fingerprint": "--fingerprint",
}


def refuse_unfit(word: str, args: argparse.Namespace) -> None:
    """`UsageError` where the inventory would not take what `workers WORD` was given."""
    from rch.config.inventory import wanted_instead

    given = {
        "name": args.name,
        "host": args.host,
        "user": args.user,
        "port": args.port,
        "priority": args.priority,
        "tags": args.tag or None,
        "known_host_fingerprint": args.fingerprint,
    }
    for key, value in given.items():
        if value is not None and (wanted := wanted_instead(key, value)) is not None:
            said = " ".join(value) if isinstance(value, list) else value
            raise UsageError(f"workers {word}: {_GIVEN[key]} {str(said)[:80]!r} is not {wanted}")


def refuse_known(path: Path, name: str) -> None:
    """`Failure` CONFIG where the inventory is none, or has a worker of that name."""
    from rch.config.inventory import load_inventory

    inventory = load_inventory(path)
    if not inventory.implied_local and any(entry.name == name for entry in inventory.workers):
        raise Failure(
            Kind.CONFIG,
            f"{path} has a worker {name!r} already",
            hint="take another name, or edit that entry",
        )


def add_entry(paths: HostPaths, entry: dict[str, Any]) -> str:
    """Append `entry`; the text that was added. The file is replaced whole or not at all.

    `Failure` CONFIG where the name is taken, or the file would not be read with the entry.
    """
    from rch.files.durable import make_dirs, write_atomic
    from rch.files.locks import FileLock

    make_dirs(paths.config_dir)
    make_dirs(paths.state_dir)
    lock = FileLock(paths.inventory_lock, f"rchctl adds worker {entry['name']}")
    lock.acquire(LOCK_SECONDS)
    try:
        refuse_known(paths.workers_toml, entry["name"])
        # A link, as from a folder of dot files, stays one.
        real = paths.workers_toml.resolve()
        before = real.read_bytes() if real.exists() else b""
        added = _joint(before) + block(entry)
        after = before + added.encode()
        _readable(after, before, paths.workers_toml)
        mode = stat.S_IMODE(real.stat().st_mode) if before else 0o600
        write_atomic(real, after, mode=mode)
    finally:
        lock.release()
    return added


def _joint(before: bytes) -> str:
    """What stands between the old text and the new entry."""
    if not before:
        return _FIRST + "\n"
    return "\n" if before.endswith(b"\n") else "\n\n"


def block(entry: dict[str, Any]) -> str:
    """The entry as a `[[worker]]`; texts, numbers and lists of TOML are JSON's."""
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in entry.items()]
    return "\n".join(["[[worker]]", *lines]) + "\n"


def _readable(after: bytes, before: bytes, path: Path) -> None:
    """Read it as the daemon will, from elsewhere."""
    from rch.config.inventory import load_inventory

    with tempfile.TemporaryDirectory(prefix="rch-") as folder:
        trial = Path(folder) / "workers.toml"
        trial.write_bytes(after)
        try:
            load_inventory(trial)
        except Failure as failure:
            why = failure.message.replace(str(trial), str(path))
            hint = "write its workers as [[worker]] tables, or add this one by hand" if before else None
            raise Failure(Kind.CONFIG, f"with the new entry: {why}", hint=hint) from failure
