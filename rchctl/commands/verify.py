"""`rchctl verify` and `rchctl run`: a run from here to its verdict."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from rch.contract.errors import Failure, Kind
from rchctl.context import Context, Outcome
from rchctl.live import LiveRun
from rchctl.parser import UsageError, VerbParser, is_utf8, one_of, spelled

ACTIONS = ("build", "test")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*")
# Numbers with a point stay text: nearly all of them are versions.
_MOST = 1 << 53  # what every JSON reader holds exactly
_LITERAL = re.compile(r'-?\d+|true|false|\[.*\]|\{.*\}|".*"', re.DOTALL)


def add_run_options(parser: VerbParser) -> None:
    """What every verb that makes a run takes."""
    parser.add_argument(
        "--action",
        action="append",
        metavar="ACTION",
        help="build or test; again for more, in this order (default: the project's own plan)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a config key for this run, as in --set timeouts.overall_seconds=600",
    )
    parser.add_argument("--no-queue", action="store_true", help="exit 90 at once when every worker is busy")


def configure(parser: VerbParser) -> None:
    """Flags of both verbs."""
    add_run_options(parser)
    parser.add_argument("--detach", action="store_true", help="leave the run to the daemon, print its id")
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="no log and no progress: the verdict alone"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="with --json: log and progress too, on stderr"
    )
    if parser.verb == "run":
        parser.examples(
            "rchctl run --action build             build only",
            "rchctl run --action test --no-queue   test only, now or never",
        )
        return
    parser.examples(
        "rchctl verify                              build and test, log here, exit with the verdict",
        "rchctl verify --quiet && git push          a gate in one line",
        "rchctl verify --json > verdict.json        for scripts",
        "rchctl verify --detach                     go on working; rchctl wait latest",
        "rchctl verify --set timeouts.overall_seconds=600",
    )


def run(context: Context) -> Outcome:
    """Submit, follow, and give the verdict."""
    args = context.args
    if context.verb == "run" and not args.action:
        raise UsageError("run: an action is missing: type 'rchctl run --action build'")
    console = context.console
    live = LiveRun(
        context,
        submit_params(context),
        show_log=not args.quiet and (not context.json or args.verbose) and not args.detach,
        show_progress=not args.quiet and (not context.json or args.verbose or console.live),
    )
    return live.detach() if args.detach else live.execute()


def submit_params(context: Context) -> dict[str, Any]:
    """`runs.submit` as the arguments say."""
    args = context.args
    params: dict[str, Any] = {
        "start": working_directory(),
        "overrides": overrides(context.verb, args.set),
        "queue": not args.no_queue,
    }
    if args.action:
        params["actions"] = [one_of(context.verb, "action", each, ACTIONS) for each in args.action]
    return params


def working_directory() -> str:
    """Where the user stands; `Failure` if that folder is gone, or has no name in UTF-8."""
    try:
        here = os.getcwd()  # noqa: PTH109  (pathlib is not needed for it)
    except OSError as error:
        raise UsageError(f"the current folder cannot be read: {error.strerror}") from error
    if not is_utf8(here):
        raise Failure(
            Kind.BUNDLER,
            f"the current folder's name is not UTF-8: {spelled(here)}",
            hint="rename it, or go to another folder",
        )
    return here


def overrides(verb: str, pairs: list[str]) -> dict[str, Any]:
    """`KEY=VALUE` pairs: whole numbers, true, false, JSON lists and quoted strings; else text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not _KEY.fullmatch(key):
            raise UsageError(
                f"{verb}: --set {pair!r} is not KEY=VALUE: type --set timeouts.overall_seconds=600"
            )
        try:
            found[key] = _read(text) if _LITERAL.fullmatch(text) else text
        except OverflowError as error:
            raise Failure(
                Kind.CONFIG,
                f"command line: {key} = {text[:40]} holds a number beyond 2^53",
                subkind="BAD_VALUE",
            ) from error
        except ValueError as error:
            raise UsageError(f"{verb}: --set {key}: {text!r} is no JSON value: {error}") from error
    return found


def _read(text: str) -> Any:
    """A JSON value; `OverflowError` for one that cannot be sent."""

    def whole(digits: str) -> int:
        if len(digits) > len(str(-_MOST)) or abs(number := int(digits)) > _MOST:
            raise OverflowError
        return number

    def other(digits: str) -> float:
        if not abs(number := float(digits)) <= _MOST:
            raise OverflowError
        return number

    return json.loads(text, parse_int=whole, parse_float=other, parse_constant=other)
