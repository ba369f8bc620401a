"""The files of a run, found through `run_index.json` and `job_index.json` alone (spec section 8)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rch.contract.errors import Failure, Kind

RUN_INDEX = "run_index.json"
_ENVELOPE = frozenset({"schema_version", "schema_id", "created_at", "run_id", "job_id", "job_key", "steps"})


@dataclass(frozen=True, slots=True)
class Item:
    """One file or folder that an index names. `scope` is `run` or the step's action.

    `size` is in bytes, None for a folder and for what is missing.
    """

    scope: str
    name: str
    path: Path
    kind: str
    size: int | None

    @property
    def missing(self) -> bool:
        """Whether an index names it and it is not there."""
        return self.kind == "missing"

    def answers_to(self, wanted: str) -> bool:
        """Whether `wanted` means this item: its name or its file's name, `SCOPE/` before it or not."""
        names = {self.name, self.path.name}
        return wanted in names or wanted in {f"{self.scope}/{name}" for name in names}

    def as_json(self) -> dict[str, Any]:
        """For the envelope."""
        return {
            "scope": self.scope,
            "name": self.name,
            "path": str(self.path),
            "type": self.kind,
            "size": self.size,
        }


def items(run_dir: Path) -> list[Item]:
    """Everything that the indices of the run at `run_dir` name, the indices first.

    `Failure` ARTIFACTS when an index is unreadable, of another major, or points outside.
    """
    index = run_index(run_dir)
    found = [_item(run_dir, "run", "run_index", RUN_INDEX)]
    found += [
        _item(run_dir, "run", name, path)
        for name, path in index.items()
        if name not in _ENVELOPE and isinstance(path, str)
    ]
    for step in steps_of(index):
        found += step_items(run_dir, step)
    return found


def run_index(run_dir: Path) -> dict[str, Any]:
    """The index of the run at `run_dir`; `Failure` ARTIFACTS as `items`."""
    return _read(run_dir / RUN_INDEX, "rch-xcode/run_index@1")


def steps_of(index: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries of its steps, in order."""
    found = index.get("steps")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def step_items(run_dir: Path, step: dict[str, Any]) -> Iterator[Item]:
    """What the index entry `step` of the run at `run_dir` points to, and what its job's index names."""
    action = str(step.get("action", ""))
    for key, path in step.items():
        if key.endswith("_path") and isinstance(path, str):
            yield _item(run_dir, action, key.removesuffix("_path"), path)
    if not isinstance(pointer := step.get("job_index_path"), str):
        return
    job_index = _inside(run_dir, pointer)
    if not job_index.exists():
        return  # it is listed as missing already
    files = _read(job_index, "rch-xcode/job_index@1").get("files")
    for name, path in (files if isinstance(files, dict) else {}).items():
        yield _item(job_index.parent, action, str(name), str(path))


def manifest_digests(run_dir: Path) -> dict[Path, str]:
    """SHA-256 of each file that a manifest of the run at `run_dir` lists, by its path.

    `Failure` ARTIFACTS as `items`. What no manifest lists is not in it.
    """
    found: dict[Path, str] = {}
    for step in steps_of(run_index(run_dir)):
        if not isinstance(pointer := step.get("job_index_path"), str):
            continue
        base = _inside(run_dir, pointer).parent
        if not (base / "manifest.json").exists():
            continue  # what the host made of a job that left nothing
        entries = _read(base / "manifest.json", "rch-xcode/manifest@1").get("entries")
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and isinstance(digest := entry.get("sha256"), str):
                found[_inside(base, str(entry.get("path")))] = digest
    return found


def _item(base: Path, scope: str, name: str, pointer: str) -> Item:
    path = _inside(base, pointer)
    if path.is_dir():
        return Item(scope, name, path, "directory", None)
    if path.is_file():
        return Item(scope, name, path, "file", path.stat().st_size)
    return Item(scope, name, path, "missing", None)


def _inside(base: Path, pointer: str) -> Path:
    """The place of a relative pointer; an index cannot point out of its folder."""
    relative = PurePosixPath(pointer)
    if relative.is_absolute() or ".." in relative.parts or not relative.parts or "\0" in pointer:
        raise Failure(Kind.ARTIFACTS, f"the index in {base} points outside of it: {pointer!r}")
    return base.joinpath(*relative.parts)


def _read(path: Path, schema_id: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise Failure(
            Kind.ARTIFACTS,
            f"{path} is not there: the run has not ended, or its folder was removed",
            subkind="GONE",
            hint="rchctl list shows which runs have ended; rchctl verify makes a new one",
        ) from error
    except OSError as error:
        raise Failure(Kind.ARTIFACTS, f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise Failure(Kind.ARTIFACTS, f"{path} is no JSON: {error}") from error
    seen = value.get("schema_id") if isinstance(value, dict) else None
    if seen != schema_id:
        raise Failure(Kind.ARTIFACTS, f"{path} is {seen!r}; this version reads {schema_id!r}")
    return dict(value)
