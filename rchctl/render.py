"""Runs as people read them: the verdict, tables, sizes and durations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rch.contract.errors import Kind, lookup
from rchctl.columns import Column, listing
from rchctl.console import Console
from rchctl.terminal import neutral, one_line

TERMINAL_STATES = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
_STYLE = {"SUCCEEDED": "good", "FAILED": "bad", "CANCELLED": "warn"}
_STOOD_IN = {"SUCCEEDED": "passed"}
_SCOPE_SHOWN = 3
_UNITS = ("B", "kB", "MB", "GB", "TB")


def is_over(run: dict[str, Any]) -> bool:
    """Whether the run's state is final."""
    return run.get("state") in TERMINAL_STATES


def exit_code(run: dict[str, Any]) -> int:
    """The code of a run that is over; whatever is not a plain success is no 0."""
    code = run.get("exit_code")
    if run.get("state") == "SUCCEEDED":
        return code if isinstance(code, int) else 0
    if isinstance(code, int) and 0 < code < 256:
        return code
    kind = run.get("failure_kind")
    fallback = Kind.CANCELLED if run.get("state") == "CANCELLED" else Kind.INTERNAL
    return lookup(Kind(kind) if kind in set(Kind) else fallback).exit_code


def run_error(run: dict[str, Any]) -> dict[str, Any] | None:
    """The envelope's `error` of a run that did not succeed."""
    if run.get("state") == "SUCCEEDED" and exit_code(run) == 0:
        return None
    return {
        "kind": run.get("failure_kind"),
        "subkind": run.get("failure_subkind"),
        "message": run.get("human_summary") or str(run.get("state")),
        "hint": remedy(run),
        "exit_code": exit_code(run),
    }


def label(run: dict[str, Any]) -> str:
    """`KIND / SUBKIND` of a run that failed, else nothing."""
    parts = [one_line(part) for part in (run.get("failure_kind"), run.get("failure_subkind")) if part]
    return " / ".join(part for part in parts if part != run.get("state"))


def remedy(run: dict[str, Any]) -> str | None:
    """What mends a run that failed: its own hint, else the registry's."""
    kind, subkind = run.get("failure_kind"), run.get("failure_subkind")
    if hint := run.get("hint"):
        return str(hint)
    if kind not in set(Kind) or kind == Kind.CANCELLED:
        return None
    return lookup(Kind(kind), subkind).remedy.replace("<run>", str(run.get("run_id")))


def worker_name(run: dict[str, Any]) -> str:
    """Who serves the run, as every run has to say it."""
    if not run.get("worker"):
        return "none"
    notes = []
    if run.get("embedded_worker"):
        notes.append("embedded worker on this machine")
    if run.get("simulated"):
        notes.append("simulated")
    name = one_line(run["worker"])
    return f"{name} ({', '.join(notes)})" if notes else name


def state_word(run: dict[str, Any]) -> str:
    """The state, and what keeps a success from being the gate's: stand-in tools, or a narrowed scope."""
    state = one_line(run.get("state", ""))
    if run.get("simulated"):
        return f"SIMULATED: {_STOOD_IN.get(state, state.lower())}"
    return f"{state} (narrowed)" if run.get("scope") and state == "SUCCEEDED" else state


def narrowed(run: dict[str, Any]) -> str:
    """By what a run is less than the gate; empty where it is all of it."""
    scope = [one_line(word) for word in run.get("scope") or ()]
    if not scope:
        return ""
    more = f" and {len(scope) - _SCOPE_SHOWN} more" if len(scope) > _SCOPE_SHOWN else ""
    return f"{', '.join(scope[:_SCOPE_SHOWN])}{more}: this is not the full gate"


def verdict(run: dict[str, Any], console: Console) -> str:
    """The block that ends a run."""
    state = str(run.get("state"))
    why = label(run) if state != "SUCCEEDED" else ""
    if run.get("simulated"):
        head = console.style(f"{state_word(run)} (stand-in tools, no verdict)", "warn")
    else:
        style = "warn" if run.get("scope") and state == "SUCCEEDED" else _STYLE.get(state, "warn")
        head = f"verdict: {console.style(state_word(run), style)}"
    lines = [head + (f" ({why})" if why else "")]
    lines += [
        f"  {line}" for line in neutral(str(run.get("human_summary") or "")).split("\n") if line.strip()
    ]
    if hint := remedy(run):
        lines.append(f"  hint: {one_line(hint)}")
    facts = [
        ("run", one_line(run.get("run_id", ""))),
        ("worker", worker_name(run)),
        ("narrowed", narrowed(run)),
        ("exit code", str(exit_code(run))),
        ("duration", duration(run.get("duration_ms"))),
        ("artifacts", one_line(run.get("run_dir", ""))),
    ]
    lines += [f"  {name:<10} {value}" for name, value in facts if value]
    return "\n".join(lines) + "\n"


def duration(milliseconds: object) -> str:
    """`850 ms`, `12.3 s`, `3 min 05 s`; empty if unknown."""
    if not isinstance(milliseconds, int):
        return ""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def size(count: object) -> str:
    """Bytes in decimal units."""
    value = float(count) if isinstance(count, int) else 0.0
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> str:
    """Aligned columns; on a terminal no line is wider than it."""
    return listing([Column(head) for head in heads], rows, console)
