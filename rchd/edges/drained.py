"""Which workers are drained: a file beside the database, which a rebuild leaves as it is.

It is written before the core is told, and read once, at the start.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from rch.contract.decoding import decode_json
from rch.contract.errors import Failure, Kind
from rch.files.durable import write_atomic

MAX_BYTES = 1 << 20


class Drain(msgspec.Struct, frozen=True, kw_only=True):
    """Why a worker is given no new run, maybe nothing, and since when."""

    reason: str
    since: str


class Drained:
    """The drained workers by name; `Failure` DAEMON / STATE where `path` holds anything else."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Drain] = {}
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return
        try:
            self._known = decode_json(data[:MAX_BYTES], dict[str, Drain])
        except (msgspec.MsgspecError, ValueError) as error:
            raise Failure(
                Kind.DAEMON,
                f"{path} does not say which workers are drained: {error}",
                subkind="STATE",
                hint=f"remove {path}, and drain them again: rchctl workers drain NAME",
            ) from error

    def get(self, name: str) -> Drain | None:
        """Why this worker is drained, if it is."""
        return self._known.get(name)

    def reasons(self) -> dict[str, str]:
        """The reason of each."""
        return {name: each.reason for name, each in sorted(self._known.items())}

    def set(self, name: str, drain: Drain | None) -> None:
        """Durable when it returns; null: the worker is drained no more."""
        known = {key: each for key, each in self._known.items() if key != name}
        if drain is not None:
            known[name] = drain
        write_atomic(self._path, msgspec.json.encode(known, order="sorted") + b"\n")
        self._known = known
