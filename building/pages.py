"""What is made when a package is: a manual page of each program and verb, completions of each program.

The programs are those of pyproject.toml. One whose module has a `parser()` is described by that; of any
other its `--help` is the page, and what `completed()` gives the completion.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from building.content import COMPLETIONS, ROOT, man_place
from building.manual import Page, of_parser, of_text, see_also

_OF_A_SYSTEM = {"rchd": 8, "rch-worker": 8}
_SUMMARIES = {
    "rchctl": "build and test a Swift or Xcode project on a worker",
    "rch-worker": "serve builds and tests to the hosts that log in by SSH",
}


def made_files(distribution: Any, epoch: int) -> Iterator[tuple[str, str]]:
    """Place below the prefix and text of each file; `distribution` is setuptools' own."""
    os.environ["COLUMNS"] = "100"  # argparse asks for it
    scripts: dict[str, str] = {}
    for line in distribution.entry_points["console_scripts"]:
        name, _, target = line.partition("=")
        scripts[name.strip()] = target.strip()
    yield from _manual(scripts, distribution.get_version(), epoch)
    yield from _completions(scripts)


def parser_of(target: str, name: str = "parser") -> argparse.ArgumentParser | None:
    """What the function `name` of the module of a script's `module:function` gives."""
    make = getattr(import_module(target.partition(":")[0]), name, None)
    made = make() if callable(make) else None
    return made if isinstance(made, argparse.ArgumentParser) else None


def _manual(scripts: dict[str, str], version: str, epoch: int) -> Iterator[tuple[str, str]]:
    verbs = _verbs()
    programs = {name: _page(name, target) for name, target in scripts.items()}
    for name, target in scripts.items():
        page, parser = programs[name], parser_of(target)
        if parser is None:
            lines = of_text(page, _help(target, name), version=version, epoch=epoch)
        else:
            parser.prog = name
            lines = of_parser(page, parser, version=version, epoch=epoch)
        others = [other for other in programs.values() if other is not page]
        if name == "rchctl":
            others = [verb for verb, _ in verbs] + others
        yield man_place(name, page.section), _text([*lines, *see_also(others)])
    for page, parser in verbs:
        lines = of_parser(page, parser, version=version, epoch=epoch)
        yield man_place(page.name, page.section), _text([*lines, *see_also(programs.values())])


def _page(name: str, target: str) -> Page:
    told = _SUMMARIES.get(name)
    if told is None:
        parser = parser_of(target)
        whole = (parser and parser.description) or import_module(target.partition(":")[0]).__doc__ or name
        told = whole.strip().splitlines()[0].partition(". ")[0].rstrip(".")
    return Page(name, _OF_A_SYSTEM.get(name, 1), told)


def _verbs() -> list[tuple[Page, argparse.ArgumentParser]]:
    from rchctl.commands.completion import whole_parser

    choices: dict[str, argparse.ArgumentParser] = next(
        action.choices  # type: ignore[misc]  # of a part they are parsers
        for action in whole_parser()._actions  # noqa: SLF001  (argparse has no other way to them)
        if action.dest == "verb"
    )
    return [(Page(f"rchctl-{name}", 1, _summary(parser)), parser) for name, parser in choices.items()]


def _summary(parser: argparse.ArgumentParser) -> str:
    text = " ".join((parser.description or "").split()).rstrip(".")
    return f"{text[:1].lower()}{text[1:]}"


def _help(target: str, name: str) -> str:
    """What the program says of itself, asked as a program."""
    module, _, function = target.partition(":")
    code = f"import sys; sys.argv = [{name!r}, '--help']; import {module} as m; sys.exit(m.{function}())"
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode or not done.stdout.startswith("usage:"):
        raise RuntimeError(f"{name} --help ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def _completions(scripts: dict[str, str]) -> Iterator[tuple[str, str]]:
    import shtab

    from rchctl.commands.completion import whole_parser

    for name, target in scripts.items():
        parser = whole_parser(in_parts=True) if name == "rchctl" else parser_of(target)
        parser = parser or parser_of(target, "completed")
        if parser is None:
            continue
        parser.prog = name
        for shell, place in COMPLETIONS.items():
            yield place.format(name), _text([shtab.complete(parser, shell)])


def _text(lines: list[str]) -> str:
    return "\n".join(lines).rstrip("\n") + "\n"
