"""What `rchd check` and `rchd --rebuild` print: lines for people, or one envelope for scripts."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from rch.contract.errors import Failure, Kind
from rchd.core.compare import Finding, exit_code
from rchd.edges.check import Report
from rchd.edges.rebuild import Rebuilt

_LIVE_SECONDS = 0.1
_LINE_SECONDS = 10.0
_STEPS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


class Meter:
    """Progress on stderr: one updating line on a terminal, else a line every ten seconds."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._live = os.isatty(2) and os.environ.get("TERM") != "dumb"
        self._told = time.monotonic()
        self._shown = False

    def __call__(self, done: int, total: int, bytes_read: int = 0) -> None:
        """So much is done."""
        now = time.monotonic()
        if now - self._told < (_LIVE_SECONDS if self._live else _LINE_SECONDS):
            return
        self._told = now
        text = f"{self._what}: {done} of {total} runs" + (
            f", {size(bytes_read)} read" if bytes_read else ""
        )
        self._shown = self._live
        sys.stderr.write(f"\r\x1b[K{text}" if self._live else f"{text}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Take the updating line away."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False


def size(count: int) -> str:
    """Bytes for people."""
    for unit, name in _STEPS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def say_check(report: Report, *, as_json: bool) -> int:
    """Print the report; gives the exit code."""
    code = exit_code(report.findings)
    errors = [each for each in report.findings if each.severity == "error"]
    if as_json:
        envelope("check", code, msgspec.to_builtins(report), _failure(code, errors))
        return code
    for each in report.findings:
        _line(f"{each.severity}: {each.path}: {each.what}")
        _line(f"  remedy: {each.remedy}")
    looked = f"{_number(report.runs, 'run')}, {_number(report.sets, 'published set')}"
    if report.read_data:
        looked += f", {size(report.bytes_read)} read"
    told = _counted(report.findings)
    how = "" if report.read_data else "; digests were not compared: rchctl check --read-data"
    _line(f"{looked}: {told}{how}")
    return code


def _counted(findings: Iterable[Finding]) -> str:
    names = [each.severity for each in findings]
    if not names:
        return "nothing is wrong"
    return f"{_number(names.count('error'), 'error')}, {_number(names.count('warning'), 'warning')}"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _failure(code: int, errors: list[Finding]) -> Failure | None:
    if not errors:
        return None
    first = next((each for each in errors if each.area == "database"), errors[0])
    kind = Kind.DAEMON if first.area == "database" else Kind.ARTIFACTS
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    subkind = "STATE" if kind is Kind.DAEMON else None
    failure = Failure(kind, f"{first.path}: {first.what}{more}", subkind=subkind, hint=first.remedy)
    if failure.exit_code != code:
        raise AssertionError(f"exit code {code} is not that of {failure.label}")
    return failure


def say_rebuild(rebuilt: Rebuilt, *, as_json: bool) -> int:
    """Print what is back and what is not; 70 where a run is not."""
    failure = None
    if rebuilt.left_out:
        first, more = rebuilt.left_out[0], len(rebuilt.left_out) - 1
        text = f"{first.path}: {first.why}" + (f" (and {more} more)" if more else "")
        failure = Failure(
            Kind.ARTIFACTS, text, hint="look into the folder; remove it where it holds no run"
        )
    code = 0 if failure is None else failure.exit_code
    if as_json:
        envelope("rebuild", code, msgspec.to_builtins(rebuilt), failure)
        return code
    for each in rebuilt.runs:
        for note in each.notes:
            _line(f"note: run {each.run_id} ({each.state}): {note}")
    for folder in rebuilt.left_out:
        _line(f"left out: {folder.path}: {folder.why}")
    live = sum(each.state in {"QUEUED", "RUNNING"} for each in rebuilt.runs)
    _line(f"{rebuilt.database}: {_number(len(rebuilt.runs), 'run')}, {live} of them not over")
    if rebuilt.aside is not None:
        _line(f"the old database is kept as {rebuilt.aside}")
    return code


def say_failure(command: str, failure: Failure, *, as_json: bool) -> int:
    """Print a refusal; gives its exit code."""
    if as_json:
        envelope(command, failure.exit_code, None, failure)
    else:
        sys.stderr.write(f"rchd: {_one_line(failure.message)}\n  hint: {_one_line(failure.hint)}\n")
    return failure.exit_code


def envelope(command: str, code: int, data: Any, failure: Failure | None) -> None:
    """The product's one line; ASCII, so that no terminal acts on what it holds."""
    whole: dict[str, Any] = {"ok": code == 0, "command": command, "exit_code": code}
    if data is not None:
        whole["data"] = data
    if failure is not None:
        whole["error"] = {
            "kind": str(failure.kind),
            "subkind": failure.subkind,
            "message": failure.message,
            "hint": failure.hint,
            "exit_code": failure.exit_code,
        }
    _out(json.dumps(whole) + "\n")


def _line(text: str) -> None:
    _out(_one_line(text) + "\n")


def _out(text: str) -> None:
    """A reader that went away costs nobody the exit code."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(text: str) -> str:
    """Names of files are anybody's: nothing of them acts on a terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
