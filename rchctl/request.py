"""`runs.submit` as a command line says it: the flags of `verify`, `run` and `submit` (section 12)."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from rch.contract.errors import Failure, Kind
from rchctl.context import Context
from rchctl.parser import UsageError, VerbParser, is_utf8, one_of, spelled

ACTIONS = ("build", "test")
DRY_RUN = "show the jobs as they would run, the worker and why, and run nothing"
NO_CACHE = "cache.results"
NARROWINGS = (
    ("--only-testing", "only_testing", "ID", "xcodebuild: Target[/Suite[/test]] alone; again for more"),
    ("--skip-testing", "skip_testing", "ID", "xcodebuild: all tests but these; again for more"),
    ("--filter", "filters", "EXPR", "swift: the tests alone that fit the expression; again for more"),
    ("--skip", "skips", "EXPR", "swift: all tests but those that fit; again for more"),
)
"""Flag, member of `narrowing`, metavar and help of what makes a run less than its plan."""
DISCONNECTS = ("keep", "cancel")
USUAL_PRIORITY, LAST_PRIORITY = 100, 1_000_000
_LONGEST_NAME = 200
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*")
# Bare words and numbers go as text: the daemon knows the type of the key, and 6 may be a version.
_MOST = 1 << 53  # what every JSON reader holds exactly
_LITERAL = re.compile(r'\[.*\]|\{.*\}|".*"', re.DOTALL)


def add_run_options(parser: VerbParser, *, plan: bool = True) -> None:
    """What every verb that makes a run takes; `plan`: its steps are the project's own, or `--action`'s."""
    if plan:
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
    parser.add_argument(
        "--no-cache", action="store_true", help="execute, whatever the worker has the result of already"
    )
    if plan:
        for flag, _, metavar, text in NARROWINGS:
            parser.add_argument(flag, action="append", default=[], metavar=metavar, help=text)
    parser.add_argument(
        "--simulate",
        action="store_true",
        help="on stand-in tools, for machines without Xcode: whatever it says is no verdict",
    )
    parser.add_argument("--no-queue", action="store_true", help="exit 90 at once when every worker is busy")
    parser.add_argument(
        "--priority",
        metavar="N",
        help=f"0 to {LAST_PRIORITY}, lower goes first (default {USUAL_PRIORITY}, 0 for what is urgent)",
    )
    parser.add_argument(
        "--group",
        metavar="NAME",
        help="of the runs of a group of this project one goes after another",
    )
    parser.add_argument(
        "--supersede",
        action="store_true",
        help="with --group: cancel the group's older runs, as an editor wants that saves often",
    )
    parser.add_argument(
        "--origin",
        metavar="NAME",
        help="who asks; origins take turns in the queue (default terminal)",
    )
    parser.add_argument(
        "--client-token",
        metavar="TOKEN",
        help="a name for this very request: whoever asks again with it gets the same run",
    )
    parser.add_argument(
        "--on-disconnect",
        metavar="WORD",
        help="keep: the run goes on when this client is gone (default); cancel: it ends with it",
    )


def submit_params(context: Context, *, stays: bool) -> dict[str, Any]:
    """`runs.submit` as the arguments say. `stays`: the client is there until the run is over."""
    args, verb = context.args, context.verb
    off = {NO_CACHE: False} if args.no_cache else {}
    params: dict[str, Any] = {
        "start": working_directory(),
        "overrides": {**overrides(verb, args.set), **off},
        "queue": not args.no_queue,
    }
    if getattr(args, "action", None):
        params["actions"] = [one_of(verb, "action", each, ACTIONS) for each in args.action]
    asked = {key: getattr(args, flag[2:].replace("-", "_"), None) for flag, key, _, _ in NARROWINGS}
    if narrowing := {key: words for key, words in asked.items() if words}:
        params["narrowing"] = narrowing
    if args.simulate:
        params["simulate"] = True
    if args.priority is not None:
        params["priority"] = _priority(verb, args.priority)
    for flag, example in (("group", "save"), ("origin", "editor"), ("client_token", "$(uuidgen)")):
        if (value := getattr(args, flag)) is not None:
            params[flag] = _name(verb, f"--{flag.replace('_', '-')}", value, example)
    if args.supersede:
        if args.group is None:
            raise UsageError(
                f"{verb}: --supersede is about a group: type 'rchctl {verb} --group save --supersede'"
            )
        params["supersede"] = True
    if args.on_disconnect is not None:
        params["on_disconnect"] = _on_disconnect(verb, args.on_disconnect, stays=stays)
    return params


def _priority(verb: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > len(str(LAST_PRIORITY)):
        number = LAST_PRIORITY + 1
    else:
        number = int(text)
    if number > LAST_PRIORITY:
        raise UsageError(
            f"{verb}: --priority {text[:40]!r} is no number from 0 to {LAST_PRIORITY}:"
            " type --priority 0 to go first"
        )
    return number


def _name(verb: str, flag: str, value: str, example: str) -> str:
    """A name of the user's own; short and of one line, since others read it in lists."""
    if 0 < len(value) <= _LONGEST_NAME and value.isprintable():
        return value
    raise UsageError(
        f"{verb}: {flag} {value[:40]!r} is no name of 1 to {_LONGEST_NAME} printable characters:"
        f" type {flag} {example}"
    )


def _on_disconnect(verb: str, word: str, *, stays: bool) -> str:
    one_of(verb, "word for --on-disconnect", word, DISCONNECTS)
    if word == "cancel" and not stays:
        raise UsageError(
            f"{verb}: this client does not stay, so the run would be over at once:"
            " type 'rchctl verify --on-disconnect cancel'"
        )
    return word


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
    """`KEY=VALUE` pairs: JSON lists, tables and quoted strings; else text, which has its key's type."""
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
        except (ValueError, RecursionError) as error:
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
