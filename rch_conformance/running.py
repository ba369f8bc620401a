"""From a command line's options to a report: which checks, progress, the reporters, the exit code."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

from rch.contract.neutral import one_line
from rch_conformance.checks import Check, Result, Verdict, run_checks
from rch_conformance.pipes import forget
from rch_conformance.reporters import as_json, junit, section_order, table

EXIT_PASSED, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143
DEFAULT_TIMEOUT_SECONDS = 120.0
_USUAL_COLUMNS = 80

SECTIONS = {
    "2": "Identifiers, time, text",
    "3.1": "Envelope",
    "3.2": "Binary framing",
    "3.3": "Operations",
    "3.4": "Leases",
    "4": "Run and job life",
    "5": "Source",
    "7": "Selection, toolchain, destination, job key",
    "8": "Artifacts",
    "9": "The verdict",
    "10": "Attestation",
}
"""Titles of the contract's sections, for the table."""

Rig = TypeVar("Rig")


class Terminated(KeyboardInterrupt):
    """SIGTERM: as an interrupt, with a code of its own."""


class UsageError(Exception):
    """The command line asks for what there is not; the text names it and the remedy."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What every sub-command takes."""
    parser.add_argument(
        "--section",
        action="append",
        default=[],
        metavar="N",
        help="only checks of this section and those below it (3 or 3.2); may be repeated",
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="ID", help="only this check (see --list); repeatable"
    )
    parser.add_argument("--list", action="store_true", help="list the checks and do nothing else")
    parser.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="FEATURE",
        help="not offering this feature is a failure; repeatable, 'all' for every one",
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=DEFAULT_TIMEOUT_SECONDS,
        metavar="SECONDS",
        help="how long one answer may take (%(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, no table")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write a JUnit report to FILE, too")


def seconds(text: str) -> float:
    """A time of an option: above 0, a day at most."""
    value = float(text)
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 86400 seconds")
    return value


def say(text: str) -> None:
    """Write to standard output; `UsageError` where that does not go, for nothing more can be told."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        forget()
        raise UsageError(f"standard output was not written: {error.strerror}") from error


class Running(Generic[Rig]):
    """The checks that a command line asks for. `UsageError` for one that there is not."""

    def __init__(self, args: argparse.Namespace, checks: Sequence[Check[Rig]]) -> None:
        self.args = args
        self.checks = chosen(checks, args.section, args.only)
        known = {feature for check in checks for feature in check.needs}
        for feature in args.require:
            if feature not in known | {"all"}:
                raise UsageError(
                    f"--require {feature}: no check is about it; known are {', '.join(sorted(known))}"
                )

    def listing(self) -> str:
        """What `--list` prints: a line a check, or one JSON array."""
        if self.args.json:
            return json.dumps([_listed(check) for check in self.checks], indent=2) + "\n"
        width = max([len(check.id) for check in self.checks] + [1])
        lines = []
        for check in self.checks:
            needs = f" [{', '.join(check.needs)}]" if check.needs else ""
            lines.append(f"{check.section:<4} {check.id:<{width}} {check.name}{needs}")
        return "".join(f"{line}\n" for line in lines)

    def run(
        self,
        subject: str,
        rig: Rig,
        need: Callable[[str], None] = lambda _feature: None,
        heard: Callable[[], list[str]] = list,
    ) -> int:
        """Run them, report in the forms that were asked for, and give the exit code.

        `need` and `heard` are those of `run_checks`.
        An interrupt ends the run: what came of the checks before it is reported. `UsageError` where
        a report cannot be written: of JUnit's that is tried before the checks, too.
        """
        self._try_junit()
        results: list[Result] = []
        progress = _Progress(len(self.checks))
        interrupt: KeyboardInterrupt | None = None
        try:
            for check in self.checks:
                progress.begin(check.section, check.name)
                results += map(self._required, run_checks([check], rig, need, heard=heard))
        except KeyboardInterrupt as error:
            interrupt = error
        progress.end()
        code = exit_code(results, interrupt)
        self._report(subject, results, code)
        if interrupt is not None:
            told = f"interrupted: {len(results)} of {len(self.checks)} checks were tried"
            sys.stderr.write(f"rch-conformance: {told}\n")
        return code

    def _try_junit(self) -> None:
        """`UsageError` where the report could not be written: that is better known before the checks."""
        if self.args.junit is None:
            return
        try:
            with self.args.junit.open("ab"):
                pass
        except OSError as error:
            raise UsageError(
                f"--junit {self.args.junit}: {error.strerror}; name a file in a folder of yours"
            ) from error

    def _report(self, subject: str, results: Sequence[Result], code: int) -> None:
        if self.args.json:
            text = json.dumps(as_json(subject, results, code), indent=2, ensure_ascii=True) + "\n"
        else:
            text = table(subject, results, SECTIONS, colour=_coloured())
        try:
            say(text)
        finally:  # each of the two is worth having without the other
            self._write_junit(subject, results)

    def _write_junit(self, subject: str, results: Sequence[Result]) -> None:
        if self.args.junit is None:
            return
        try:
            self.args.junit.write_bytes(junit(subject, results))
        except OSError as error:
            raise UsageError(f"--junit {self.args.junit} was not written: {error.strerror}") from error

    def _required(self, result: Result) -> Result:
        if result.verdict is not Verdict.NOT_OFFERED:
            return result
        if "all" not in self.args.require and result.feature not in self.args.require:
            return result
        detail = f"--require {result.feature}: it is not offered ({result.detail})"
        return replace(result, verdict=Verdict.FAIL, detail=detail)


def exit_code(results: Sequence[Result], interrupt: KeyboardInterrupt | None) -> int:
    """What a run with these results ends with."""
    if interrupt is not None:
        return EXIT_TERMINATED if isinstance(interrupt, Terminated) else EXIT_INTERRUPTED
    return EXIT_FAILED if any(each.verdict is Verdict.FAIL for each in results) else EXIT_PASSED


def _coloured() -> bool:
    """Whether the table is for a terminal with colours whose user wants them."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and _clever()


def _clever() -> bool:
    return os.environ.get("TERM", "") != "dumb"


def _width() -> int:
    """Columns of the terminal behind standard error."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_COLUMNS
    except (OSError, ValueError):
        return _USUAL_COLUMNS


def chosen(checks: Sequence[Check[Rig]], sections: Sequence[str], only: Sequence[str]) -> list[Check[Rig]]:
    """The checks of these sections, or with these ids; all where nothing is asked. In order of section."""
    for each in only:
        if not any(check.id == each for check in checks):
            raise UsageError(f"--only {each}: there is no such check; see --list")
    for each in sections:
        if not any(_is_within(check.section, each) for check in checks):
            known = sorted({check.section for check in checks}, key=section_order)
            raise UsageError(f"--section {each}: nothing is checked of it; there are {', '.join(known)}")
    found = [
        check
        for check in checks
        if (not sections and not only)
        or check.id in only
        or any(_is_within(check.section, each) for each in sections)
    ]
    return sorted(found, key=lambda check: section_order(check.section))


def _is_within(section: str, asked: str) -> bool:
    return section == asked or section.startswith(f"{asked}.")


def _listed(check: Check[Rig]) -> dict[str, object]:
    members = {"id": check.id, "section": check.section, "name": check.name, "needs": list(check.needs)}
    return {**members, "page": check.page}


class _Progress:
    """One line on a terminal's standard error that says what is being tried; nothing elsewhere."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._shown = sys.stderr.isatty() and _clever()

    def begin(self, section: str, name: str) -> None:
        self._done += 1
        if self._shown:
            text = one_line(f"{self._done}/{self._total} {section} {name}")
            sys.stderr.write(f"\r\x1b[K{text[: _width() - 1]}")
            sys.stderr.flush()

    def end(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
