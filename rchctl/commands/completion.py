"""`rchctl completion`: a shell's completion, made of the verbs' own parsers."""

from __future__ import annotations

import argparse
from importlib import import_module
from itertools import islice
from typing import Any

from rch.files.paths import NO_DAEMON_MARK
from rchctl.context import Context, Outcome
from rchctl.parser import VerbParser, one_of
from rchctl.verbs import VERBS

SHELLS = ("bash", "zsh", "fish")
RUNS, KNOWN = "runs", "known"
_NEWEST = 50
_OF_EVERY = frozenset({"help", "json", "no_autostart"})
_COMMAND = "rchctl completion {} 2>/dev/null"
# They ask the daemon, which knows no `--no-daemon` run; the others look at the folders.
_ASK_THE_DAEMON = frozenset({"cancel", "rerun", "status", "tail", "wait", "watch"})


def configure(parser: VerbParser) -> None:
    """A shell."""
    parser.hide("--json")
    parser.hide("--no-autostart")
    parser.add_argument(
        "shell", metavar="|".join(SHELLS), help=f"print its script ({RUNS}, {KNOWN}: the words for RUN)"
    )
    parser.examples(
        'eval "$(rchctl completion bash)"                                in ~/.bashrc',
        "rchctl completion zsh > ~/.zfunc/_rchctl                        with fpath+=~/.zfunc",
        "rchctl completion fish > ~/.config/fish/completions/rchctl.fish",
    )


def run(context: Context) -> Outcome:
    """Needs no daemon and starts none."""
    shell = one_of("completion", "shell", context.args.shell, (*SHELLS, RUNS, KNOWN))
    if shell in {RUNS, KNOWN}:
        names = _runs(context, known=shell == KNOWN)
        context.say("".join(f"{name}\n" for name in names))
        return Outcome({"runs": names})
    import shtab

    script = shtab.complete(whole_parser(in_parts=True), shell)
    context.say(script if script.endswith("\n") else f"{script}\n")
    return Outcome({"shell": shell, "script": script})


def _runs(context: Context, *, known: bool) -> list[str]:
    """What may stand for RUN: the newest folders. A shell expands these words: ids alone are safe."""
    from rch.contract.ids import is_id
    from rchctl.report.places import run_folders

    folders = run_folders(context.paths.artifacts)
    newest = islice(
        (each for each in folders if not known or not (each / NO_DAEMON_MARK).exists()), _NEWEST
    )
    return ["latest", *(each.name for each in newest if is_id(each.name))]


def whole_parser(*, in_parts: bool = False) -> argparse.ArgumentParser:
    """One parser of all verbs, each as the verb itself configures it.

    With `in_parts` the words of a verb, as of `daemon`, have parsers of their own: a shell then offers the
    flags that go with a word, and tells of each word what it does.
    """
    root = argparse.ArgumentParser(prog="rchctl", add_help=False)
    root.add_argument("-h", "--help", action="store_true", help="what there is")
    root.add_argument("--version", action="store_true", help="version and protocol")
    verbs = root.add_subparsers(dest="verb", parser_class=_OfVerb)
    for name, verb in VERBS.items():
        parser = verbs.add_parser(name, help=verb.summary.replace("\n", " "), verb=name)
        import_module(verb.module).configure(parser)
        for action in parser._actions:  # noqa: SLF001  (argparse has no other way to them)
            _teach(action, KNOWN if name in _ASK_THE_DAEMON else RUNS)
        if in_parts and parser.parts:
            _divide(parser)
    return root


def _divide(parser: VerbParser) -> None:
    """Give each word its own flags and arguments; before a word stand those of every verb alone."""
    whole = [each for each in parser._actions if each.dest != "what"]  # noqa: SLF001  (as above)
    parser._actions[:] = [each for each in whole if each.dest in _OF_EVERY]  # noqa: SLF001  (as above)
    parts = parser.add_subparsers(dest="what", parser_class=argparse.ArgumentParser)
    for word, text in parser.parts.items():
        part = parts.add_parser(word, help=text, add_help=False)
        for action in whole:
            if all(word in parser.goes_with.get(flag, parser.parts) for flag in action.option_strings):
                part._add_action(action)  # noqa: SLF001  (argparse has no other way to share one)


class _OfVerb(VerbParser):
    """A verb's parser, made as argparse makes one of a part."""

    def __init__(self, *, verb: str, **_options: Any) -> None:
        super().__init__(verb, VERBS[verb].summary, 100)


def _teach(action: argparse.Action, runs: str) -> None:
    """What an argument's words are, as far as its metavar tells; `runs` lists those of RUN."""
    import shtab

    from rchctl.commands.list import STATES
    from rchctl.request import ACTIONS, DISCONNECTS

    metavar = str(action.metavar or "")
    fixed = {
        "ACTION": ACTIONS,
        "STATE": tuple(state.lower() for state in STATES),
        "WORD": DISCONNECTS,
        "WHAT": ("report", "log", "folder", "junit", "xcresult"),
    }
    if metavar in {"RUN", "RUN-OR-FILE"}:
        action.complete = shtab.cmd(_COMMAND.format(runs))  # type: ignore[attr-defined]  # shtab reads it there
    elif metavar == "FILE":
        action.complete = shtab.FILE  # type: ignore[attr-defined]  # as above
    elif metavar in fixed:
        action.choices = fixed[metavar]
    elif "|" in metavar:
        action.choices = metavar.split("|")
