"""`rchctl`: choose the verb, import it alone, print its outcome once, exit with its code."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import rch
from rch.contract.errors import Failure, Kind, lookup
from rchctl.console import Console, open_standard
from rchctl.context import Context, Outcome, error_body
from rchctl.parser import UsageError, VerbParser, nearest
from rchctl.signals import EXIT_CANCELLED, Interrupted, Outside
from rchctl.verbs import VERBS, overview

if TYPE_CHECKING:
    from types import ModuleType

_EXIT_INTERRUPTED = 130
_PROTOCOL = 1
_OWNERS = frozenset({"verify", "run", "exec", "rerun"})
# Their exit code is the verdict, which stands wherever the text went.
_VERDICTS = frozenset({"verify", "run", "exec", "rerun", "wait", "watch"})


def main(argv: list[str] | None = None) -> int:
    """The exit code of one call; `argv` without the program's name."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    open_standard()
    words = list(sys.argv[1:] if argv is None else argv)
    console = Console(os.environ)
    own = _own(words)
    verb = next((word for word in own if not word.startswith("-")), "")
    verdict = verb in _VERDICTS and "--detach" not in own
    if verb in _OWNERS and "--detach" not in own:
        try:
            with Outside(last=argv is None):
                code, outcome = _call(verb, words, console)
        except Interrupted:  # while its end was told
            return EXIT_CANCELLED
    else:
        code, outcome = _call(verb, words, console)
    return code if console.lost is None else _lost(code, outcome, console, verdict=verdict)


def _own(words: list[str]) -> list[str]:
    """The words of this program: after `--` come those of another."""
    return words[: words.index("--")] if "--" in words else words


def _asks_json(verb: str, own: list[str]) -> bool:
    """Whether stdout belongs to the envelope, which is one of the forms of `diagnostics`."""
    if verb == "diagnostics":
        words = " ".join(own).replace("--format=", "--format ")
        return "--json" in own or "--format json" in words
    return "--json" in own


def _lost(code: int, outcome: Outcome | None, console: Console, *, verdict: bool) -> int:
    """Say that stdout took not all; no success, unless the code itself is the answer."""
    message = f"standard output cannot be written: {console.lost}"
    data = {} if outcome is None else outcome.data
    if run_id := data.get("run_id"):
        message += f"; run {run_id}: {data.get('state', 'see rchctl status')}"
    code = code if verdict else code or lookup(Kind.INTERNAL).exit_code
    console.error(f"{message}, exit code {code}")
    return code


def _call(verb: str, words: list[str], console: Console) -> tuple[int, Outcome | None]:
    """The exit code of a call whose outcome is printed, and that outcome if there is one."""
    own = _own(words)
    as_json = _asks_json(verb, own)
    try:
        outcome = _dispatch(verb, words, console, os.environ)
    except Failure as failure:
        return _refused(verb, failure, console, as_json=as_json), None
    except (KeyboardInterrupt, Interrupted) as stop:
        if isinstance(stop, KeyboardInterrupt) and (verb not in _OWNERS or "--detach" in own):
            console.clear_status()
            return _EXIT_INTERRUPTED, None
        early = Failure(Kind.CANCELLED, "interrupted before a run was submitted")
        return _refused(verb, early, console, as_json=as_json), None
    except Exception as error:  # a defect of this program: one line, exit 1
        if os.environ.get("RCH_DEBUG"):
            raise
        return _refused(verb, _defect(verb, error), console, as_json=as_json), None
    if outcome is None:
        return 0, None
    if as_json:
        body: dict[str, Any] = {"data": outcome.data}
        if outcome.error is not None:
            body["error"] = outcome.error
        _envelope(verb, outcome.exit_code, body, console)
    return outcome.exit_code, outcome


def _defect(verb: str, error: Exception) -> Failure:
    """What nobody has thought of, but for a part of the installation that was left out."""
    left_out: Failure | None = None
    if isinstance(error, ImportError):
        from rch.contract.extras import lacking
        from rch.files.origin import origin

        left_out = lacking(error, verb, origin())
    return left_out or Failure(
        Kind.INTERNAL, f"{type(error).__name__}: {error}", hint="set RCH_DEBUG=1 and run it again"
    )


def _dispatch(verb: str, words: list[str], console: Console, env: Mapping[str, str]) -> Outcome | None:
    """The verb's outcome; None when a text was asked for and printed."""
    if not verb:
        return _without_verb(words, console)
    if verb == "help":
        return _help(words, console, env)
    known = VERBS.get(verb)
    if known is None:
        near = nearest(verb, VERBS)
        raise UsageError(f"unknown verb {verb!r}: type 'rchctl {near or '--help'}'", subkind="UNKNOWN_VERB")
    words.remove(verb)
    module: ModuleType = import_module(known.module)
    parser = VerbParser(verb, known.summary, console.width)
    module.configure(parser)
    if {"-h", "--help"} & set(_own(words)):
        console.out(parser.format_help())
        return None
    context = Context(verb, parser.read(words), console, env)
    outcome: Outcome = module.run(context)
    return outcome


def _help(words: list[str], console: Console, env: Mapping[str, str]) -> Outcome | None:
    """`help` and `help VERB`, as many type it first."""
    topic = next((word for word in words if not word.startswith("-") and word != "help"), "")
    return _dispatch(topic, [topic, "--help"] if topic else ["--help"], console, env)


def _without_verb(words: list[str], console: Console) -> Outcome | None:
    flags = [word for word in words if word != "--json"]
    if flags == ["--version"]:
        if flags != words:
            return Outcome({"version": rch.__version__, "protocol": _PROTOCOL})
        console.out(f"rchctl {rch.__version__} (protocol {_PROTOCOL})\n")
    elif words and set(words) <= {"-h", "--help"}:
        console.out(overview())
    elif words:
        raise UsageError(f"unknown flag {words[0]!r}: type 'rchctl --help'", subkind="UNKNOWN_FLAG")
    else:
        raise UsageError("a verb is missing: type 'rchctl verify', or 'rchctl --help'")
    return None


def _refused(verb: str, failure: Failure, console: Console, *, as_json: bool) -> int:
    console.clear_status()
    hint = failure.hint
    if verb in VERBS and hint == lookup(Kind.USAGE).remedy:  # the help of all verbs
        hint = f"see rchctl {verb} --help"
    if as_json:
        error = {**error_body(failure), "hint": hint}
        _envelope(verb, failure.exit_code, {"error": error}, console)
        return failure.exit_code
    if isinstance(log := failure.data.get("log"), list):
        console.err("".join(f"  | {line}\n" for line in log))
    console.error(failure.message, None if isinstance(failure, UsageError) else hint)
    return failure.exit_code


def _envelope(verb: str, exit_code: int, body: dict[str, Any], console: Console) -> None:
    """The one line on stdout; ASCII, so that no terminal acts on what it holds."""
    console.clear_status()
    console.mark = ""  # it is JSON, and says it in a member
    whole = {"ok": exit_code == 0, "command": verb, "exit_code": exit_code, **body}
    console.out(json.dumps(whole).replace("\x7f", "\\u007f") + "\n")
