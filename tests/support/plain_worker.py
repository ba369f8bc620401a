"""A worker with fewer features: `plain_worker.py FOLDER FEATURE…`.

It is the real `rch-worker xcode rpc`, which neither offers nor serves these features. FOLDER/asked has a
line a request: the operation, and the process that was asked.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from support.lab import Lab

from rch.contract.worker_rpc import Code, Feature, RpcError
from worker_agent import ops, rpc

OPERATIONS = {"reserve": Feature.LEASE, "release": Feature.LEASE, "tail": Feature.TAIL, "gc": Feature.GC}
MEMBERS = {
    "lease_id": Feature.LEASE,
    "resume": Feature.UPLOAD_RESUMABLE,
    "base": Feature.UPLOAD_THIN,
    "offset": Feature.FETCH_RESUME,
}
OPTIONAL = (
    Feature.SESSION,
    Feature.TAIL,
    Feature.LEASE_RENEW,
    Feature.FETCH_RESUME,
    Feature.UPLOAD_RESUMABLE,
    Feature.UPLOAD_THIN,
    Feature.ATTESTATION_SIGNING,
)
"""What a worker may leave out by itself; without leases it renews none either."""


class Plain:
    """The test's side: makes the one worker of `user` one without these features."""

    def __init__(self, user: Lab, without: Iterable[Feature]) -> None:
        self._folder = user.root / "plain"
        self._folder.mkdir()
        tests = Path(__file__).parents[1]
        program = f"import sys; sys.path.append({str(tests)!r}); import support.plain_worker as p; p.main()"
        command = [sys.executable, "-c", program, str(self._folder), *map(str, without)]
        user.workers(f'[[worker]]\nname = "plain"\ntransport = "local"\ncommand = {command}\n')

    def _asked(self) -> list[list[str]]:
        path = self._folder / "asked"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def asked(self) -> list[str]:
        """Every operation that it was asked for, in order."""
        return [op for op, _ in self._asked()]

    def most_of_a_channel(self) -> int:
        """How many requests the longest channel had."""
        return max(Counter(pid for _, pid in self._asked()).values())


def main() -> None:
    """Serve standard input and output."""
    folder, without = Path(sys.argv[1]), {Feature(word) for word in sys.argv[2:]}
    perform = ops.perform

    def plain(call: ops.Call) -> Any:
        with (folder / "asked").open("a") as file:
            file.write(f"{call.request.op} {os.getpid()}\n")
        _refuse(call, without)
        result = perform(call)
        if call.request.op == "probe":
            left = tuple(each for each in result.features if each not in without)
            return msgspec.structs.replace(result, features=left)
        return result

    vars(rpc)["perform"] = plain
    sys.exit(rpc.serve_stdio(os.environ))


def _refuse(call: ops.Call, without: set[Feature]) -> None:
    """`RpcError` for what needs a feature that is not offered."""
    op, payload = call.request.op, call.payload
    if OPERATIONS.get(op) in without:
        raise RpcError(Code.UNKNOWN_OPERATION, f"op {op!r} is not known")
    if op == "reserve" and payload.lease_id is not None and Feature.LEASE_RENEW in without:
        raise RpcError(Code.FEATURE_MISSING, "leases are not renewed here")
    for member, feature in MEMBERS.items():
        if feature in without and getattr(payload, member, None):
            raise RpcError(Code.FEATURE_MISSING, f"{member} needs the feature {feature}")
