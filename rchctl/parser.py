"""Arguments of one verb: argparse with one-line refusals that say what to type instead."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

from rch.contract.errors import Failure, Kind


class UsageError(Failure):
    """A command line that is not understood: one line, exit 2."""

    def __init__(self, message: str, *, subkind: str | None = None) -> None:
        super().__init__(Kind.USAGE, message, subkind=subkind)


class VerbParser(argparse.ArgumentParser):
    """The parser of one verb. It never prints and never exits."""

    def __init__(self, verb: str, summary: str, width: int) -> None:
        self._width = min(width, 100) - 2
        # A formatter without a width would import shutil for each argument that is added.
        formatter = partial(argparse.RawDescriptionHelpFormatter, width=self._width, max_help_position=26)
        super().__init__(
            prog=f"rchctl {verb}",
            description=f"{summary[:1].upper()}{summary[1:]}.",
            formatter_class=formatter,
            add_help=False,
            allow_abbrev=False,
        )
        self.verb = verb
        self.flags: list[str] = []
        self.takes_command = False
        self.parts: Mapping[str, str] = {}
        self.goes_with: Mapping[str, Sequence[str]] = {}
        self.add_argument("-h", "--help", action="store_true", help="this text")
        self.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else")
        self.add_argument("--no-autostart", action="store_true", help="do not start the daemon: exit 4")

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        """As argparse; remembers the flags for suggestions."""
        action = super().add_argument(*names, **options)
        self.flags += action.option_strings
        return action

    def format_help(self) -> str:
        """As argparse; the summary is wrapped, the examples are not."""
        import textwrap

        self.description = textwrap.fill(self.description or "", self._width)
        return super().format_help()

    def hide(self, flag: str) -> None:
        """Take a flag of all verbs out of this one's help: it is there to be refused in words."""
        for action in self._actions:
            if flag in action.option_strings:
                action.help = argparse.SUPPRESS

    def word(self, words: Mapping[str, str], text: str, goes_with: Mapping[str, Sequence[str]]) -> None:
        """Take one of `words` first, each with its summary; `text` is the help.

        `goes_with` has the words of each flag that goes not with all: after those alone it is offered.
        """
        self.parts, self.goes_with = words, goes_with
        self.add_argument("what", metavar="|".join(words), help=text)

    def command(self, metavar: str, text: str) -> None:
        """Take a whole command line, as `words`; it stands after `--`, its flags being its own."""
        self.takes_command = True
        self.add_argument("words", metavar=metavar, nargs="*", help=text)

    def examples(self, *lines: str) -> None:
        """The examples below the help text."""
        self.epilog = "examples:\n" + "\n".join(f"  {line}" for line in lines)

    def error(self, message: str) -> NoReturn:
        """As `UsageError`."""
        missing = message.removeprefix("the following arguments are required: ")
        what = message if missing == message else f"{missing} is missing"
        raise UsageError(f"{self.verb}: {what}: see rchctl {self.verb} --help")

    def read(self, argv: list[str]) -> argparse.Namespace:
        """The namespace of `argv`; `UsageError` names the nearest flag."""
        for token in argv:
            if not is_utf8(token):
                self.error(f"{spelled(token)} is not UTF-8")
        for token in argv:
            if token == "--":  # noqa: S105  (ends the flags)
                break
            flag = token.partition("=")[0]
            if flag[1:].isdecimal():  # a negative number is some flag's value
                continue
            if flag.startswith("-") and flag != "-" and flag not in self.flags:
                raise UsageError(
                    f"{self.verb}: unknown flag {flag!r}: {self._instead(flag)}", subkind="UNKNOWN_FLAG"
                )
        return self.parse_args(argv)

    def _instead(self, flag: str) -> str:
        if self.takes_command:
            return f"write the command after --: rchctl {self.verb} -- xcodebuild ..."
        near = nearest(flag, self.flags)
        return f"type 'rchctl {self.verb} {near or '--help'}'"


def is_utf8(word: str) -> bool:
    """Whether a word of the system's is text, which alone can be sent and stored."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def spelled(word: str) -> str:
    """A word of the system's with its odd bytes written out."""
    return f"'{os.fsencode(word).decode('utf-8', 'backslashreplace')}'"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be."""
    import difflib

    spellings = {each.lower(): each for each in known}
    found = difflib.get_close_matches(word.lower(), list(spellings), n=1, cutoff=0.5)
    return spellings[found[0]] if found else None


def one_of(verb: str, what: str, value: str, known: Collection[str]) -> str:
    """`value` if it is known; else `UsageError` with the nearest."""
    if value in known:
        return value
    near = nearest(value, known)
    listed = ", ".join(known)
    instead = f"did you mean {near!r}?" if near else f"it is one of {listed}"
    raise UsageError(f"{verb}: unknown {what} {value!r}: {instead}")
