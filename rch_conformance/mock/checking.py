"""What a scenario file may not say, though its form is right: words that nobody knows, and lies. Pure."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rch.config.keys import bad_value
from rch.contract.worker_rpc import Code, Feature

_ALWAYS = frozenset({"op", "do", "skip", "times", "seconds"})
_USED = {
    "refuse": frozenset({"code", "unknown_code", "message", "data"}),
    "change": frozenset({"payload", "envelope"}),
    "raw": frozenset({"text"}),
}
"""What each `do` reads beside what all of them read."""


def check_meaning(tree: Mapping[str, Any], file: str) -> None:
    """`Failure` CONFIG for the first mistake in a file whose keys and types were found right."""
    for key, value in _scalars(tree):
        if isinstance(value, float) and not math.isfinite(value):
            raise bad_value(file, key, f"= {value} is no number that JSON has")
    for key, _ in _keys(tree):
        if key.rpartition(".")[2] == "simulated":
            raise bad_value(
                file,
                key,
                "is not a scenario's to say: --pretend-real alone hides that a worker is simulated",
            )
    worker = tree.get("worker", {})
    for index, word in enumerate(worker.get("without", ())):
        _require_known(word, Feature, file, f"worker.without[{index}]", "no feature of the contract")
    for index, rule in enumerate(tree.get("answer", ())):
        _check_rule(rule, file, f"answer[{index}]")


def _check_rule(rule: Mapping[str, Any], file: str, key: str) -> None:
    used = _ALWAYS | _USED.get(rule["do"], frozenset())
    for name in rule:
        if name not in used:
            owners = [do for do, names in _USED.items() if name in names]
            raise bad_value(
                file, f"{key}.{name}", f'is of do = "{owners[0]}", and do = "{rule["do"]}" reads it not'
            )
    if rule["do"] != "refuse":
        return
    code = rule.get("code", "INTERNAL")
    if not rule.get("unknown_code", False):
        hint = "; a code that no host knows needs unknown_code = true"
        _require_known(code, Code, file, f"{key}.code", "no code of the contract", hint)
    elif code in list(Code):
        raise bad_value(file, f"{key}.unknown_code", f"= true, and {code} is a code of the contract")


def _require_known(word: str, known: Iterable[str], file: str, key: str, what: str, hint: str = "") -> None:
    words = [str(each) for each in known]
    if word not in words:
        near = difflib.get_close_matches(word, words, 1, 0.4) or difflib.get_close_matches(
            word.upper(), words, 1, 0.4
        )
        meant = f"did you mean {near[0]}?" if near else f"known: {', '.join(words)}"
        raise bad_value(file, key, f"= {word[:80]!r} is {what}; {meant}{hint}")


def _keys(tree: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every key at any depth, tables in arrays included, in dotted form."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield f"{prefix}{key}", value
            yield from _keys(value, f"{prefix}{key}.")
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield f"{prefix.rstrip('.')}[{index}]", value
            yield from _keys(value, f"{prefix.rstrip('.')}[{index}].")


def _scalars(tree: object) -> Iterator[tuple[str, object]]:
    return ((key, value) for key, value in _keys(tree) if not isinstance(value, Mapping | list))
