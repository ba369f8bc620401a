"""Every command of the programs, out of their own argparse parsers."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from rch_conformance.__main__ import parser as rch_conformance_parser
from rch_conformance.mock.__main__ import parser as rch_mock_worker_parser
from rchctl.parser import VerbParser
from rchctl.verbs import VERBS, overview
from rchd.__main__ import parser as rchd_parser
from reference.markdown import block, cell, code, page, table
from worker_agent.__main__ import USAGE

WIDTH = 90
INTRO = """
What each verb is for, at more length and by task, is in [the command line](../cli.md); what a code means in
[exit codes](exit-codes.md). `RUN` is an id, a beginning of one that no other has, or `latest`.
"""
RCHD = """
The daemon of the host. `rchctl` starts it by itself; by hand it is needed for a look at the database, for a
rebuild, and under a service manager of your own.
"""
RCH_WORKER = """
The worker's program. A host starts it over SSH or as a child, one process a channel; nothing of it stays
running but a supervisor for each job. What it speaks is in [the worker protocol](../protocol-worker.md).
"""
RCH_CONFORMANCE = """
Holds a worker, or a host, to the contract from outside: [conformance](../conformance.md).
"""
RCH_MOCK_WORKER = """
A worker without a toolchain, for whoever tests a host or an editor: [a mock worker](../mock-worker.md).
"""


def verb_parser(verb: str) -> VerbParser:
    """The parser of a verb, as the verb itself configures it."""
    parser = VerbParser(verb, VERBS[verb].summary, WIDTH)
    import_module(VERBS[verb].module).configure(parser)
    return parser


def arguments_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Flags and words with their help; what is hidden is left out."""
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._SubParsersAction):
            continue
        metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
        value = "" if action.nargs == 0 else f" {metavar}"
        shown = ", ".join(f"{flag}{value}" for flag in action.option_strings) or metavar
        yield shown, action.help or ""


def exit_codes_told(docs: Path) -> dict[str, list[tuple[str, str]]]:
    """Of each verb the forms in docs/cli.md's table with their exit codes."""
    text = (docs / "cli.md").read_text(encoding="utf-8")
    found: dict[str, list[tuple[str, str]]] = {}
    for line in text.splitlines():
        cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
        words = re.match(r" *`([a-z]+)", cells[0])
        if len(cells) == 3 and words and words[1] in VERBS:
            found.setdefault(words[1], []).append((cells[0].strip(), cells[2].strip()))
    return found


def rchctl_page(docs: Path) -> str:
    """All verbs of the client."""
    exits = exit_codes_told(docs)
    parts = [INTRO, block(overview())]
    for verb, entry in VERBS.items():
        parser = verb_parser(verb)
        parts.append(f"(verb-{verb})=\n## rchctl {verb}\n")
        parts.append(f"{entry.summary[:1].upper()}{entry.summary[1:]}.\n")
        parts += _told(parser)
        if verb in exits:
            parts.append("**Exit code**\n")
            parts.append("\n".join(f"- {form}: {_codes(text)}" for form, text in exits[verb]) + "\n")
    return page("rchctl: every verb and flag", *parts)


def _codes(text: str) -> str:
    return re.sub(r"\]\((?!#|http)([^)]+)\)", r"](../\1)", text)


def _told(parser: argparse.ArgumentParser) -> list[str]:
    usage = re.sub(r"^usage: ", "", parser.format_usage())
    rows = [(code(shown), cell(text)) for shown, text in arguments_of(parser)]
    parts = [block(usage), table(("argument", "what it does"), rows)]
    epilog = (parser.epilog or "").partition("examples:\n")[2]
    if epilog:
        lines = [line.removeprefix("  ") for line in epilog.splitlines()]
        parts += ["**Examples**\n", block("\n".join(lines))]
    return parts


def rchd_page() -> str:
    """The daemon's commands."""
    return _with_commands("rchd", RCHD, rchd_parser())


def rch_conformance_page() -> str:
    """What checks a worker or a host."""
    return _with_commands("rch-conformance", RCH_CONFORMANCE, rch_conformance_parser())


def rch_mock_worker_page() -> str:
    """The scripted worker."""
    return page("rch-mock-worker", RCH_MOCK_WORKER, *_told(rch_mock_worker_parser()))


def _with_commands(program: str, intro: str, parser: argparse.ArgumentParser) -> str:
    parts = [intro, *_told(parser)]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {each.dest: each.help or "" for each in action._choices_actions}
            for name, sub in action.choices.items():
                parts.append(f"## {program} {name}\n")
                parts.append(f"{helps.get(name, '')}. {sub.description or ''}\n")
                parts += _told(sub)
    return page(program, *parts)


def rch_worker_page() -> str:
    """The worker's commands."""
    return page(
        "rch-worker",
        RCH_WORKER,
        block(USAGE),
        "Exit 0 at the end of its input, 2 for a command line that is none of these.\n",
    )
