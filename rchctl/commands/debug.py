"""`rchctl debug`: a run's history as a file that can be passed on, and such a file replayed.

The daemon's own program does both; this verb runs it and passes on what it says.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

from rch.contract.errors import Failure, Kind
from rchctl.autostart import daemon_command
from rchctl.context import Context, Outcome
from rchctl.parser import UsageError, VerbParser, one_of

WORDS = {"transcript": "write a run's transcript", "replay": "replay one"}
_OF_ONE = dict.fromkeys(("--output", "--comment", "--as-is"), ("transcript",))


def configure(parser: VerbParser) -> None:
    """What is to be done, and with what."""
    parser.word(WORDS, "write a run's transcript, or replay one", _OF_ONE)
    parser.add_argument(
        "subject", metavar="RUN-OR-FILE", help="a run, how its id begins, latest; or a file"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="transcript: where to; - is stdout")
    parser.add_argument("--comment", metavar="TEXT", help="transcript: a line for its header")
    parser.add_argument("--as-is", action="store_true", help="transcript: leave all names and places in it")
    parser.hide("--no-autostart")
    parser.examples(
        "rchctl debug transcript latest             the newest run, to pass on with a bug report",
        "rchctl debug transcript 20260131 -o t.jsonl",
        "rchctl debug replay t.jsonl                exit 0 where this version decides the same, else 1",
        "rchctl debug replay t.jsonl --json | jq -r '.data.difference.diff[]'",
    )


def run(context: Context) -> Outcome:
    """`transcript` exits 2 where nothing was recorded of the run, `replay` 1 where it differs."""
    args = context.args
    what = one_of("debug", "word", args.what, WORDS)
    command = [*daemon_command(context.env)[:-1], what, args.subject]
    for flag, value in (("--output", args.output), ("--comment", args.comment)):
        if value is not None:
            _only_of_a_transcript(what, flag)
            command.append(f"{flag}={value}")
    if args.as_is:
        _only_of_a_transcript(what, "--as-is")
        command.append("--as-is")
    if context.json and args.output == "-":
        raise UsageError("debug transcript: -o - and --json both want stdout: leave one of them out")
    return _told(command, context)


def _only_of_a_transcript(what: str, flag: str) -> None:
    if what != "transcript":
        raise UsageError(f"debug {what}: {flag} belongs to rchctl debug transcript")


def _told(command: list[str], context: Context) -> Outcome:
    """What the program says: its lines as they are, or its one object."""
    try:
        done = subprocess.run(
            [*command, "--json"] if context.json else command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if context.json else None,
            check=False,
        )
    except OSError as error:
        raise Failure(
            Kind.DAEMON,
            f"{command[0]} cannot be started: {error.strerror or error}",
            hint="see that RCH_RCHD names a program",
        ) from error
    if not context.json and done.returncode >= 0:
        return Outcome({}, done.returncode)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except (ValueError, RecursionError, TypeError):
        raise Failure(
            Kind.DAEMON,
            f"{command[0]} ended with {done.returncode} and gave no answer",
            hint="see what it said on stderr",
        ) from None
    return Outcome(answer.get("data") or {}, done.returncode, answer.get("error"))
