"""Manual pages in the man macros, made of argparse's parsers or of a help text. Pure."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

_BLOCK = re.compile(r"([a-z]+(?: [a-z]+)?):(?: (.*))?")
_ROW = re.compile(r"  (\S+)\s{2,}(\S.*)")
_TITLES = {"exit code": "EXIT STATUS"}


class Page(NamedTuple):
    """A page's name, its section of the manual, and the one line that `apropos` finds."""

    name: str
    section: int
    summary: str


def of_parser(page: Page, parser: argparse.ArgumentParser, *, version: str, epoch: int) -> Iterator[str]:
    """The lines of a page, all but what it refers to (`see_also`)."""
    yield from _head(page, version, epoch)
    yield ".SH SYNOPSIS"
    yield from _synopsis(parser)
    yield ".SH DESCRIPTION"
    yield from _filled(parser.description or page.summary)
    yield from _options(parser)
    yield from _blocks(parser.epilog or "")


def of_text(page: Page, text: str, *, version: str, epoch: int) -> Iterator[str]:
    """As `of_parser`, of what a program prints when it is asked for help."""
    yield from _head(page, version, epoch)
    usage, _, rest = text.partition("\n\n")
    yield ".SH SYNOPSIS"
    yield from _as_it_is(line.removeprefix("usage:").strip() for line in usage.splitlines())
    yield ".SH DESCRIPTION"
    yield from _filled(f"{page.summary[:1].upper()}{page.summary[1:]}.")
    yield from _blocks(rest)


def see_also(pages: Iterable[Page]) -> Iterator[str]:
    """The last part of a page."""
    names = [f".BR {_escaped(page.name)} ({page.section})" for page in pages]
    yield ".SH SEE ALSO"
    yield from (f"{name} ," for name in names[:-1])
    yield from names[-1:]


def _head(page: Page, version: str, epoch: int) -> Iterator[str]:
    day = datetime.fromtimestamp(epoch, UTC).date().isoformat()
    yield f'.TH {page.name.upper()} {page.section} {day} "rch {version}" "RCH manual"'
    yield ".nh"  # options are not to be cut in two
    yield ".SH NAME"
    yield f"{_escaped(page.name)} \\- {_escaped(page.summary)}"


def _synopsis(parser: argparse.ArgumentParser) -> Iterator[str]:
    usage = " ".join(parser.format_usage().split()).removeprefix("usage: ")
    yield f".B {_escaped(parser.prog)}"
    rest = usage.removeprefix(parser.prog).strip()
    if rest:
        yield _escaped(rest)


def _options(parser: argparse.ArgumentParser, *, inner: bool = False) -> Iterator[str]:
    """What may be written after the name: words first, then flags, then what commands there are."""
    shown = [each for each in parser._actions if each.help != argparse.SUPPRESS]  # noqa: SLF001  (no other way)
    commands = [each for each in shown if isinstance(each, argparse._SubParsersAction)]  # noqa: SLF001  (as above)
    words = [each for each in shown if not each.option_strings and each not in commands]
    flags = [each for each in shown if each.option_strings and "--help" not in each.option_strings]
    for title, actions in (("ARGUMENTS", words), ("OPTIONS", flags)):
        if actions and not inner:
            yield f".SH {title}"
        for action in actions:
            yield ".TP"
            yield _spelled(action)
            yield from _filled(_help(action))
    for command in commands:
        yield ".SH COMMANDS"
        helps = {each.dest: each.help or "" for each in command._choices_actions}  # noqa: SLF001  (as above)
        for name, choice in command.choices.items():
            yield f".SS {_escaped(f'{parser.prog} {name}')}"
            text = " ".join([helps.get(name, ""), choice.description or ""]).strip()
            yield from _filled(f"{text[:1].upper()}{text[1:]}")
            yield from _options(choice, inner=True)


def _help(action: argparse.Action) -> str:
    known = {name: value for name, value in vars(action).items() if value is not argparse.SUPPRESS}
    return (action.help or "") % {**known, "prog": ""}


def _spelled(action: argparse.Action) -> str:
    values = (
        action.metavar if isinstance(action.metavar, tuple) else (action.metavar or action.dest.upper(),)
    )
    told = " ".join(f"\\fI{_escaped(value)}\\fR" for value in values)
    if not action.option_strings:
        return told
    flags = ", ".join(f"\\fB{_escaped(flag)}\\fR" for flag in action.option_strings)
    return flags if action.nargs == 0 else f"{flags} {told}"


def _blocks(text: str) -> Iterator[str]:
    """`title: ...` and what is indented below it is a part of that title; all else are notes."""
    title, held = "", list[str]()
    for line in [*text.splitlines(), ":"]:
        begins = _BLOCK.fullmatch(line)
        if begins or line == ":" or (line[:1].strip() and title):
            yield from _part(title, held)
            title, held = begins[1] if begins else "", [begins[2]] if begins and begins[2] else []
            held += [line] if not begins else []
        else:
            held.append(line)


def _part(title: str, lines: list[str]) -> Iterator[str]:
    text = "\n".join(lines).strip("\n")
    if not text:
        return
    yield f".SH {_TITLES.get(title, title.upper()) or 'NOTES'}"
    rows = [_ROW.fullmatch(line) for line in text.splitlines()]
    if title != "examples" and all(rows):
        for row in rows:
            if row:
                yield from (".TP", f"\\fB{_escaped(row[1])}\\fR", _escaped(row[2]))
    elif title == "examples":
        yield from _as_it_is(line.removeprefix("  ") for line in text.splitlines())
    else:
        yield from _filled(text)


def _filled(text: str) -> Iterator[str]:
    """Paragraphs."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        if number:
            yield ".PP"
        if paragraph:
            yield _escaped(" ".join(paragraph.split()))


def _as_it_is(lines: Iterable[str]) -> Iterator[str]:
    yield ".EX"
    yield from (_escaped(line) for line in lines)
    yield ".EE"


def _escaped(text: str) -> str:
    """No letter of it is a request, and a dash is what a shell takes for one."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    for sign, name in (("'", "\\(aq"), ("`", "\\(ga"), ("^", "\\(ha"), ("~", "\\(ti")):
        safe = safe.replace(sign, name)
    safe = "".join(each if each.isascii() else f"\\[u{ord(each):04X}]" for each in safe)
    return f"\\&{safe}" if safe.startswith(".") else safe
