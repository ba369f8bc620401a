"""`rchctl check`: the daemon's own program compares; this verb runs it and passes on what it says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rch.contract.errors import Failure, Kind
from rchctl.autostart import daemon_command
from rchctl.context import Context, Outcome
from rchctl.parser import VerbParser

if TYPE_CHECKING:
    import subprocess


def configure(parser: VerbParser) -> None:
    """`--read-data`."""
    parser.add_argument("--read-data", action="store_true", help="read every artifact, compare its digest")
    parser.hide("--no-autostart")
    parser.examples(
        "rchctl check                     database, records, and the artifacts' names and sizes",
        "rchctl check --read-data         every byte of the artifacts as well",
        "rchctl check --json | jq -r '.data.findings[].path'",
    )


def run(context: Context) -> Outcome:
    """Exit 0 where nothing is wrong, 4 for a damaged database, 70 for damaged artifacts."""
    command = [*daemon_command(context.env)[:-1], "check"]
    command += ["--read-data"] if context.args.read_data else []
    process = _start([*command, "--json"] if context.json else command, piped=context.json)
    try:
        said, _ = process.communicate()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if not context.json:
        return Outcome({}, process.returncode) if process.returncode >= 0 else _no_answer(command, process)
    try:
        answer: dict[str, Any] = json.loads(said)
    except (ValueError, RecursionError):
        return _no_answer(command, process)
    return Outcome(answer.get("data") or {}, process.returncode, answer.get("error"))


def _start(command: list[str], *, piped: bool) -> subprocess.Popen[bytes]:
    import subprocess

    try:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if piped else None
        )
    except OSError as error:
        raise Failure(
            Kind.DAEMON,
            f"{command[0]} cannot be started: {error.strerror or error}",
            hint="see that RCH_RCHD names a program",
        ) from error


def _no_answer(command: list[str], process: subprocess.Popen[bytes]) -> Outcome:
    raise Failure(
        Kind.DAEMON,
        f"{command[0]} check ended with {process.returncode} and gave no answer",
        hint="see what it said on stderr, or run rchd check",
    )
