"""Less than the plan: which tests alone a run is about, and how that is put on record (sections 6, 9).

Pure. Build steps stay as they are; a test step whose own `only_testing` leaves nothing of what is asked
for is left out. Whether narrowing is allowed at all is the classifier's to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rch.contract.errors import Failure, Kind
from rch.contract.policy import GRAMMARS, Action, Backend
from rch.contract.records import Accepted, Narrowing

ONLY = {"xcodebuild": "-only-testing", "swiftpm": "--filter"}
SKIP = {"xcodebuild": "-skip-testing", "swiftpm": "--skip"}
_TEST: Action = "test"
_SPOKEN = {
    "xcodebuild": ("--only-testing and --skip-testing", "--only-testing AppTests/SumTests/testOne"),
    "swiftpm": ("--filter and --skip", "--filter AppTests.SumTests"),
}


def require_fitting(narrowing: Narrowing, backend: Backend) -> None:
    """`Failure` USAGE says what to type where `narrowing` is in the words of the other backend."""
    other = [*narrowing.filters, *narrowing.skips]
    if backend == "swiftpm":
        other = [*narrowing.only_testing, *narrowing.skip_testing]
    if other:
        flags, example = _SPOKEN[backend]
        raise Failure(
            Kind.USAGE,
            f"{other[0][:80]!r}: this project's backend is {backend}, which is narrowed by {flags}",
            hint=f"type {example}",
        )
    if not any((*_selectors(narrowing), *narrowing.by_step)):
        raise Failure(Kind.USAGE, "a narrowing that names no test", hint="name one, or leave it out")


def narrowed(
    steps: Sequence[tuple[str, tuple[str, ...], tuple[str, ...]]], narrowing: Narrowing, backend: Backend
) -> list[tuple[str, tuple[str, ...]]]:
    """Action and command line of each step that is left.

    `steps` have action, command line and the selectors of the plan's own. `Failure` USAGE where no
    test step is left.
    """
    require_fitting(narrowing, backend)
    tests = [index for index, (action, _, _) in enumerate(steps) if action == _TEST]
    if not tests:
        raise Failure(
            Kind.USAGE,
            "no step of this run is a test, so there is nothing to narrow",
            hint="type --action test, or leave the narrowing out",
        )
    if narrowing.by_step and len(narrowing.by_step) != len(tests):
        raise Failure(
            Kind.USAGE,
            f"the plan has {len(tests)} test steps now, and {len(narrowing.by_step)} were meant",
            hint="type rchctl verify: the project's plan has changed since",
        )
    left = []
    for index, (action, argv, own) in enumerate(steps):
        if action != _TEST:
            left.append((action, argv))
            continue
        only = _only(narrowing, tests.index(index), own, backend)
        if only is not None:
            left.append((action, _argv(argv, backend, only, _skips(narrowing, backend))))
    if not any(action == _TEST for action, _ in left):
        named = ", ".join(_selectors(narrowing))[:200]
        wide = ", ".join(sorted({name for _, _, own in steps for name in own}))[:200]
        raise Failure(
            Kind.USAGE,
            f"{named} is in no test step of the plan: their only_testing has {wide}",
            hint="name a test of one of these",
        )
    return left


def _selectors(narrowing: Narrowing) -> tuple[str, ...]:
    return (*narrowing.only_testing, *narrowing.skip_testing, *narrowing.filters, *narrowing.skips)


def _skips(narrowing: Narrowing, backend: Backend) -> tuple[str, ...]:
    return narrowing.skips if backend == "swiftpm" else narrowing.skip_testing


def _only(
    narrowing: Narrowing, test: int, own: tuple[str, ...], backend: Backend
) -> tuple[str, ...] | None:
    """What alone is run of test step number `test`; empty: all of it; None: nothing."""
    if narrowing.by_step:
        return narrowing.by_step[test] or None
    if backend == "swiftpm":
        return narrowing.filters
    if not narrowing.only_testing or not own:
        return narrowing.only_testing
    # Several selectors widen each other: what both the plan and the caller want is worked out here.
    both = [inner for asked in narrowing.only_testing for each in own if (inner := _inner(asked, each))]
    return tuple(dict.fromkeys(both)) or None


def _inner(one: str, other: str) -> str | None:
    """The narrower one of two selectors, if one holds the other."""
    if f"{one}/".startswith(f"{other}/"):
        return one
    return other if f"{other}/".startswith(f"{one}/") else None


def _argv(
    argv: tuple[str, ...], backend: Backend, only: tuple[str, ...], skips: tuple[str, ...]
) -> tuple[str, ...]:
    """The command line with what it is narrowed to, in the place of what it was."""
    words = _without(argv, backend, ONLY[backend]) if only else argv
    return (*words, *_words(backend, ONLY[backend], only), *_words(backend, SKIP[backend], skips))


def _words(backend: Backend, flag: str, values: Iterable[str]) -> list[str]:
    if backend == "xcodebuild":
        return [f"{flag}:{value}" for value in values]
    return [word for value in values for word in (flag, value)]


def _without(argv: tuple[str, ...], backend: Backend, flag: str) -> tuple[str, ...]:
    """The command line without a flag and its values, however they are written."""
    spellings = {name for name, each in GRAMMARS[backend].flags.items() if each.name == flag}
    kept: list[str] = []
    words = iter(argv)
    for word in words:
        if word in spellings:
            next(words, None)
        elif not any(word.startswith((f"{name}:", f"{name}=")) for name in spellings):
            kept.append(word)
    return tuple(kept)


def scope_of(accepted: Accepted) -> tuple[str, ...]:
    """The flags by which a run is less than the project's gate; none where its plan alone says them."""
    words = tuple(word for step in accepted.steps for word in step.scope)
    if accepted.request is not None and accepted.request.narrowing is not None:
        return words
    listed: Any = accepted.policy.get("selectors")
    own = set(listed) if isinstance(listed, list | tuple) else set()
    return tuple(word for word in words if _value(word) not in own)


def _value(word: str) -> str:
    """What a flag of one word says, after `:` or `=`."""
    at = min((found for sign in ":=" if (found := word.find(sign)) >= 0), default=len(word))
    return word[at + 1 :]
