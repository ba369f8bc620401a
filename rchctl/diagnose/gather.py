"""Reads what a run found from its folder, by way of its indices: no daemon, no types but JSON's."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rchctl.diagnose import finding as f
from rchctl.diagnose.places import Project
from rchctl.indices import run_index, step_items, steps_of

MAX_BYTES = 64 << 20
_ENDED = {"success": "SUCCEEDED", "failed": "FAILED", "rejected": "FAILED", "cancelled": "CANCELLED"}


@dataclass(frozen=True, slots=True)
class Found:
    """What a run found. `state` and `exit_code` are the run's; the code is None until it is over.

    `notes` say what could not be read.
    """

    run_id: str
    root: str
    state: str
    exit_code: int | None
    summary: str
    simulated: bool
    findings: tuple[f.Finding, ...]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For the envelope."""
        counts = dict.fromkeys(f.SEVERITIES, 0)
        for each in self.findings:
            counts[each.severity] += 1
        return {
            "run_id": self.run_id,
            "root": self.root,
            "state": self.state,
            "run_exit_code": self.exit_code,
            "human_summary": self.summary,
            "simulated": self.simulated,
            "errors": counts["error"],
            "warnings": counts["warning"],
            "findings": [each.as_json() for each in self.findings],
            "notes": list(self.notes),
        }


def found_in(run_dir: Path) -> Found:
    """The findings of the run at `run_dir`, each once; `Failure` ARTIFACTS without its indices."""
    index = run_index(run_dir)
    reading = _Reading(run_dir)
    head = {name: reading.named(index.get(name)) for name in ("accepted", "run_summary", "run_state")}
    summary, simulated = head["run_summary"], index.get("simulated") is True
    root = _text(head["accepted"].get("root"))
    state = _ENDED.get(_text(summary.get("status"))) or _text(head["run_state"].get("state")) or "UNKNOWN"
    code = summary.get("exit_code")
    said = reading.findings(index, simulated=simulated)
    words = _text(summary.get("human_summary"))
    if summary and state != "SUCCEEDED" and not any(each.severity == "error" for each in said):
        said.insert(0, f.verdict(state, words, simulated=simulated))
    if simulated:
        said.append(f.stood_in())
    project = Project(root, reading.digests(index) if any(each.path for each in said) else {})
    return Found(
        run_id=_text(index.get("run_id")) or run_dir.name,
        root=root,
        state=state,
        exit_code=code if isinstance(code, int) else None,
        summary=words,
        simulated=simulated,
        findings=tuple(project.placed(each) for each in f.distinct(said)),
        notes=tuple(reading.notes),
    )


@dataclass(slots=True)
class _Reading:
    """Reads records below one run, and remembers what went wrong."""

    run_dir: Path
    notes: list[str] = field(default_factory=list)

    def named(self, pointer: object) -> dict[str, Any]:
        """The record that a run's index points to; empty without one."""
        if not isinstance(pointer, str) or ".." in Path(pointer).parts:
            return {}
        return self.record(self.run_dir / pointer)

    def record(self, path: Path) -> dict[str, Any]:
        """The JSON object at `path`."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
            # A larger one is cut, and so no JSON.
            value = json.loads(data[:MAX_BYTES])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            self.notes.append(f"{path.name}: {error}")
            return {}
        return value if isinstance(value, dict) else {}

    def findings(self, index: dict[str, Any], *, simulated: bool) -> list[f.Finding]:
        """Of each step the compiler's messages and the failed tests."""
        found: list[f.Finding] = []
        for step in steps_of(index):
            action = _text(step.get("action"))
            files = {item.name: item.path for item in step_items(self.run_dir, step) if item.kind == "file"}
            if (path := files.get("build_summary")) is not None:
                rows = _rows(self.record(path), "diagnostics")
                said = [f.diagnostic(each, action, simulated=simulated) for each in rows]
                found += [each for each in said if each is not None]
            if (path := files.get("test_summary")) is not None:
                rows = _rows(self.record(path), "failures")
                found += [f.failure(each, action, simulated=simulated) for each in rows]
        return found

    def digests(self, index: dict[str, Any]) -> dict[str, str]:
        """The SHA-256 of each file as the run was given it."""
        entries = _rows(self.named(index.get("source_manifest")), "entries")
        return {
            each["path"]: each["sha256"]
            for each in entries
            if each.get("type") == "file" and isinstance(each.get("path"), str) and each.get("sha256")
        }


def _rows(record: dict[str, Any], name: str) -> list[dict[str, Any]]:
    rows = record.get(name)
    return [each for each in rows if isinstance(each, dict)] if isinstance(rows, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
