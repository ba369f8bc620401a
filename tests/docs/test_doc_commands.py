"""No page shows a verb or a flag that the programs do not have."""

from __future__ import annotations

from pathlib import Path

import pytest
from reference.commands import verb_parser
from support.pages import commands, hand_written

from rchctl.verbs import VERBS
from rchd.__main__ import parser as rchd_parser

PAGES = hand_written()
WORDS = {"WORKER": {"--help", "--version"}, "RCHD": {"run", "check", "rebuild", "replay", "--rebuild"}}


def unknown(words: list[str]) -> str | None:
    """What of a call is not there."""
    program, rest = words[0], [word for word in words[1:] if word != "…"]
    if program == "rch-worker":
        known = not rest or rest[0] in {"xcode", "key", "--help", "--version"}
        return None if known else f"rch-worker {rest[0]}"
    if program == "rchd":
        return _unknown_of_rchd(rest)
    if not rest or rest[0] in {"VERB", "--help", "--version", "--json"}:
        return None
    if rest[0] not in VERBS:
        return f"rchctl {rest[0]}"
    own = rest[1 : rest.index("--")] if "--" in rest else rest[1:]
    flags = verb_parser(rest[0]).flags
    for word in own:
        flag = word.partition("=")[0].strip("[]")
        if flag.startswith("-") and flag != "-" and flag not in flags:
            return f"rchctl {rest[0]} {flag}"
    return None


def _unknown_of_rchd(rest: list[str]) -> str | None:
    parser = rchd_parser()
    choices = next(action.choices for action in parser._actions if isinstance(action.choices, dict))
    if not rest or rest[0] in {"--help", "--version", "--rebuild"}:
        return None
    if rest[0] not in choices:
        return f"rchd {rest[0]}"
    flags = {flag for action in choices[rest[0]]._actions for flag in action.option_strings}
    return next(
        (f"rchd {rest[0]} {word}" for word in rest[1:] if word[0] == "-" and word not in flags), None
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_that_a_page_shows_is_one(page: Path) -> None:
    assert [problem for words in commands(page) if (problem := unknown(words))] == []


def test_what_a_page_shows_is_found() -> None:
    seen = [words for page in PAGES for words in commands(page)]
    assert len(seen) > 100
    assert ["rchctl", "verify", "--dry-run"] in seen
    assert unknown(["rchctl", "verify", "--no-such-flag"]) == "rchctl verify --no-such-flag"
    assert unknown(["rchctl", "prove"]) == "rchctl prove"
    assert unknown(["rchd", "check", "--nothing"]) == "rchd check --nothing"
