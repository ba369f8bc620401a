"""What our programs emit while tests run, held against the shipped schemas (spec sections 8, 3, 12).

After each test the artifacts below its `tmp_path` are looked at, whichever process wrote them, and so is
every line that was encoded in this process, or taken by it, in either protocol; folders that tests
share are looked at in the end. Each document is looked at once; `LEDGER` counts them, and the end of
the session tells how many there were.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from support.unlike import why_unlike

from rch.contract import worker_envelope
from rch.contract.local_api import METHODS
from rch.contract.worker_rpc import OPERATIONS, RESULTS
from rchd.core import session

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
INDEX: dict[str, Any] = json.loads((SCHEMAS / "index.json").read_bytes())
FILES = {Path(each["place"]).name: schema_id for schema_id, each in INDEX["artifacts"].items()}
EVENTS, INPUTS = "events.jsonl", "job_key_inputs.json"
STANDING = re.compile(r"/(?:steps/(?:build|test)|host)/[^/]+/[^/]+\Z")
"""Where a file that has an artifact's name is one, whatever it holds."""
_PASSED_OVER = frozenset({".build", ".git", "result.xcresult", "DerivedData"})
_MOST_TOLD = 5
_MOST_BYTES = 8 << 20
"""Longer documents are made by tests of limits, and cost them what they measure: they are passed over."""
_TEXTS = {each: (SCHEMAS / each).read_bytes() for each in INDEX["schemas"].values()}
"""Read at once: whoever encodes may be a loop that must not wait for a disk."""
_OPS = {kind: op for op, kind in RESULTS.items()}


@functools.cache
def validator(path: str) -> jsonschema_rs.Draft202012Validator:
    """Of the schema file at `path` below docs/schemas."""
    return jsonschema_rs.Draft202012Validator(json.loads(_TEXTS[path]))


class Ledger:
    """What was looked at in this process: how many documents of which schema, and what is wrong."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.looks = True
        self._seen: set[bytes] = set()

    def hold(self, path: str, data: bytes, where: str) -> None:
        """One document against the schema at `path`; what is wrong with it is noted."""
        if not self.looks or len(data) > _MOST_BYTES:
            return
        key = hashlib.sha256(path.encode() + b"\0" + data).digest()
        if key in self._seen:
            return
        self._seen.add(key)
        try:
            value = json.loads(data)
        except ValueError as error:
            self.wrong.append(f"{where}: no JSON: {error}")
            return
        self.counts[path] += 1
        for fault in validator(path).iter_errors(value):
            at = "/".join(str(part) for part in fault.instance_path)
            self.wrong.append(f"{where}: /{at}: {fault.message[:300]} ({path})")
            self._seen.discard(key)

    def artifacts(self, folder: Path) -> None:
        """Every artifact below `folder`."""
        for path in found(folder):
            self.artifact(path)

    def artifact(self, path: Path) -> None:
        """One file that has the name of an artifact; one that is another program's is left alone."""
        try:
            data = path.read_bytes()
        except OSError:
            return  # a test may have taken the right to read it
        schema_id = FILES[path.name]
        schema = INDEX["artifacts"][schema_id]["file"]
        if path.name == EVENTS:
            whole, _, _cut = data.rpartition(b"\n")
            for line in whole.splitlines():
                self.hold(schema, line, str(path))
        elif path.name == INPUTS or f'"{schema_id}"'.encode() in data or STANDING.search(str(path)):
            self.hold(schema, data, str(path))

    def taken(self) -> list[str]:
        """What was wrong since this was asked last."""
        told, self.wrong = self.wrong, []
        return told


def found(folder: Path) -> Iterator[Path]:
    """The files below `folder` that have an artifact's name; sets that were refused are passed over."""
    waiting = [str(folder)]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _PASSED_OVER and not entry.name.endswith(".rejected"):
                    waiting.append(entry.path)
            elif entry.name in FILES and entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


LEDGER = Ledger()
LEDGER.looks = False  # until the first test begins: modules may make at their import what they like
_SHARED: set[Path] = set()
"""Folders that were made while a test that is looked at began, and are not that test's own."""


def is_exempt(item: pytest.Item) -> bool:
    """Whether a test says why what it emits is not to be looked at."""
    marker = item.get_closest_marker("unlike_schema")
    return bool(marker.args[0] if marker else why_unlike(item.nodeid))


def begin(item: pytest.Item) -> None:
    """A test begins. What it emits by itself is looked at if it is not exempt."""
    LEDGER.looks = not is_exempt(item)


def complaints(item: pytest.Item) -> str:
    """What a test that is over emitted and should not have; empty where all is well, or it may."""
    LEDGER.looks = True
    if is_exempt(item):
        LEDGER.taken()
        return ""
    tmp_path = getattr(item, "funcargs", {}).get("tmp_path")
    if isinstance(tmp_path, Path):
        _SHARED.discard(tmp_path)
        LEDGER.artifacts(tmp_path)
    return _some(LEDGER.taken())


def complaints_of_shared_folders() -> str:
    """What is wrong in the folders that fixtures of modules and of the session made."""
    for folder in sorted(_SHARED):
        LEDGER.artifacts(folder)
    return _some(LEDGER.taken())


def _some(told: list[str]) -> str:
    more = f"\nand {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
    return "\n".join(told[:_MOST_TOLD]) + more


def tap() -> None:
    """From now on every line that this process encodes, or takes as right, is looked at.

    To be called before whoever uses these functions is imported: they are imported by name.
    """
    _wrap(
        pytest.TempPathFactory, "mktemp", lambda folder, *_: _SHARED.add(folder) if LEDGER.looks else None
    )
    _wrap(worker_envelope, "encode_request", lambda line, op, *_: _worker(op, "request", line))
    _wrap(worker_envelope, "encode_result", lambda line, asked, _: _worker(asked.op, "response", line))
    _wrap(
        worker_envelope,
        "encode_error",
        lambda line, *_: LEDGER.hold(_of("worker-rpc", "error"), line, "error"),
    )
    _wrap(worker_envelope, "decode_response", _taken)
    _wrap(worker_envelope, "decode_fetch_header", lambda _, line, *__: _worker("fetch", "response", line))
    _wrap(session, "result_line", lambda line, call, _: _local(f"{call.method}.response", line))
    _wrap(session, "refusal_line", lambda line, *_: _local("error", line))
    _wrap(
        session,
        "event_line",
        lambda line, event: _local("runs.event.notification", line) if getattr(event, "at", None) else None,
    )
    received = session.Session.receive

    def receive(self: session.Session, line: bytes) -> Any:
        told = received(self, line)
        if isinstance(told, session.Call):
            _local(f"{told.method}.request", line)
        elif isinstance(told, session.Refusal):
            _local("error", told.line)
        return told

    session.Session.receive = receive  # type: ignore[method-assign]


def _wrap(module: Any, name: str, look: Callable[..., None]) -> None:
    real = getattr(module, name)

    @functools.wraps(real)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        made = real(*args, **kwargs)
        look(made, *args)
        return made

    setattr(module, name, wrapped)


def _made(folder: Path, *_: object) -> None:
    if LEDGER.looks:
        _SHARED.add(folder)


def _of(family: str, name: str) -> str:
    return f"{family}/{name}.schema.json"


def _worker(op: str, way: str, line: bytes) -> None:
    if op in OPERATIONS:
        LEDGER.hold(_of("worker-rpc", f"{op}.{way}"), line, f"{op}: {way}")


def _local(name: str, line: bytes) -> None:
    if name == "error" or name.rpartition(".")[0] in METHODS or name == "runs.event.notification":
        LEDGER.hold(_of("local-api", name), line, name)


def _taken(_made: object, line: bytes, _request_id: str, kind: type, *_: object) -> None:
    if kind in _OPS:
        _worker(_OPS[kind], "response", line)
