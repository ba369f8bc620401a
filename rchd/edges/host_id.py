"""This host's name towards workers, made once and kept."""

from __future__ import annotations

from pathlib import Path

import uuid_utils

from rch.contract.errors import Failure, Kind
from rch.contract.ids import is_id
from rch.files.durable import write_atomic


def host_id(path: Path) -> str:
    """The id in `path`, made if it is not there; `Failure` DAEMON / STATE for anything but an id."""
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        made = str(uuid_utils.uuid7())
        write_atomic(path, made.encode() + b"\n")
        return made
    text = found.decode("utf-8", "backslashreplace").strip()
    if not is_id(text):
        raise Failure(
            Kind.DAEMON,
            f"{path} holds {text[:80]!r}, which is no id",
            subkind="STATE",
            hint=f"remove {path}: a new one is made, and leases under the old one run out by themselves",
        )
    return text
