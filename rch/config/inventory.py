"""The inventory of workers, `workers.toml` (spec section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rch.config.keys import bad_value, check_tree, describe, known_keys
from rch.config.sources import Origin, file_layer, is_there
from rch.contract.errors import Failure

Text = Annotated[str, Meta(pattern=r"^[^\s-]\S*$", max_length=255)]
FilePath = Annotated[str, Meta(pattern="^[~/]", max_length=4096)]
HostKeyPin = Annotated[str, Meta(pattern=r"^SHA256:[A-Za-z0-9+/]{43}$")]
AttestationPin = Annotated[str, Meta(pattern=r"^SHA256:[0-9a-f]{64}$")]

_SSH_ONLY = ("host", "user", "port", "known_host_fingerprint", "known_hosts", "ssh_key_path")


class WorkerEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[worker]]`. `host` may be an alias of `~/.ssh/config`; lower `priority` goes first.

    An ssh worker without `known_host_fingerprint` must be known by `known_hosts`: there is no
    trust on first use. `command` is the argv of a `local` worker instead of the installed one.
    """

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    transport: Literal["ssh", "local"] = "ssh"
    host: Text | None = None
    user: Text | None = None
    port: Annotated[int, Meta(ge=1, le=65_535)] | None = None
    tags: tuple[Text, ...] = ()
    known_host_fingerprint: HostKeyPin | None = None
    known_hosts: FilePath | None = None
    attestation_pubkey_fingerprint: tuple[AttestationPin, ...] = ()
    ssh_key_path: FilePath | None = None
    priority: Annotated[int, Meta(ge=0, le=1_000_000)] = 100
    command: tuple[Annotated[str, Meta(min_length=1)], ...] = ()


_IN_WORDS = {
    "name": "a word of letters, digits, '.', '_' and '-' that begins with a letter or digit, 64 at most",
    "host": "one word that does not begin with '-'",
    "user": "one word that does not begin with '-'",
    "tags": "words that do not begin with '-'",
    "known_host_fingerprint": "SHA256: and 43 letters, as ssh-keygen -lf prints it",
}


def wanted_instead(key: str, value: object) -> str | None:
    """What a key of an entry takes, in plain words, where `value` is none of it."""
    annotation = known_keys(WorkerEntry)[key]
    try:
        msgspec.convert(value, annotation)
    except msgspec.ValidationError:
        return _IN_WORDS.get(key) or describe(annotation)
    return None


class StandbyEntry(WorkerEntry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """This machine's worker with stand-in tools and a home of its own. No file can name one."""


STANDBY = StandbyEntry(name="local-simulated", transport="local")
"""What serves the runs that ask with `--simulate` where there is no inventory."""


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """All workers in the file's order; `implied_local` means that there is no file."""

    workers: tuple[WorkerEntry, ...]
    implied_local: bool = False

    @property
    def everyone(self) -> tuple[WorkerEntry, ...]:
        """The workers, and who stands by for simulations."""
        return (*self.workers, STANDBY) if self.implied_local else self.workers


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    worker: tuple[WorkerEntry, ...] = ()


def load_inventory(path: Path) -> Inventory:
    """Read `workers.toml`; CONFIG names the worker and the key.

    Only if the file does not exist does one worker `local` on this machine serve.
    """
    if not is_there(path):
        return Inventory(workers=(WorkerEntry(name="local", transport="local"),), implied_local=True)
    file, tree = str(path), file_layer(path, Origin.HOST).tree
    rows = tree.get("worker", [])
    if isinstance(rows, list):
        rows = [_normal(row) for row in rows]
        for index, row in enumerate(rows):
            _check_row(row, f"{file}: {_called(row, index)}")
    check_tree({**tree, "worker": rows}, _File, file)
    workers = msgspec.convert(rows, tuple[WorkerEntry, ...])
    _check_names(workers, file)
    return Inventory(workers=workers)


def _normal(row: object) -> object:
    """One pin may stand without a list around it."""
    if isinstance(row, dict) and isinstance(pin := row.get("attestation_pubkey_fingerprint"), str):
        return {**row, "attestation_pubkey_fingerprint": [pin]}
    return row


def _called(row: object, index: int) -> str:
    name = row.get("name") if isinstance(row, Mapping) else None
    return f"worker {name}" if isinstance(name, str) else f"worker[{index}]"


def _check_row(row: object, file: str) -> None:
    if not isinstance(row, Mapping):
        return
    check_tree(row, WorkerEntry, file)
    if "name" not in row:
        raise bad_value(file, "name", "is missing")
    if row.get("transport", "ssh") == "ssh":
        _check_ssh(row, file)
        return
    for key in _SSH_ONLY:
        if key in row:
            raise bad_value(file, key, 'does not go with transport = "local"')


def _check_ssh(row: Mapping[str, object], file: str) -> None:
    if "host" not in row:
        raise bad_value(file, "host", 'is missing (or set transport = "local")')
    if "command" in row:
        raise bad_value(file, "command", 'serves transport = "local" alone')


def _check_names(workers: tuple[WorkerEntry, ...], file: str) -> None:
    seen: set[str] = set()
    for worker in workers:
        if worker.name in seen:
            raise _twice(worker.name, file)
        seen.add(worker.name)


def _twice(name: str, file: str) -> Failure:
    return bad_value(f"{file}: worker {name}", "name", "is given twice")
