"""Our own worker with one promise broken: `mutants.py NAME` serves a channel as `rch-worker xcode rpc`.

A mutant is a function that patches the worker's modules in this process, before they serve. Supervisors
are forked from it, and so carry the mutation with them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

Mutant = Callable[[], None]
MUTANTS: dict[str, tuple[str, Mutant]] = {}
"""Each with the id of the check that is to find it."""

VARIANTS: dict[str, tuple[tuple[str, ...], Mutant]] = {}
"""Each with the ids of checks that have nothing to say of it."""


def mutant(name: str, check: str) -> Callable[[Mutant], Mutant]:
    """Adds a mutant."""

    def add(patch: Mutant) -> Mutant:
        assert name not in MUTANTS
        MUTANTS[name] = (check, patch)
        return patch

    return add


def variant(name: str, *checks: str) -> Callable[[Mutant], Mutant]:
    """Adds a worker that differs from ours and keeps the contract, and the checks that it passes."""

    def add(patch: Mutant) -> Mutant:
        VARIANTS[name] = (checks, patch)
        return patch

    return add


def module(name: str) -> Any:
    """One of the modules that are patched."""
    return import_module(name)


def wrap(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Replace `owner.name` by what `make` gives for it."""
    setattr(owner, name, make(getattr(owner, name)))


def replaced(record: Any, **changes: Any) -> Any:
    """A record with other members."""
    import msgspec

    return msgspec.structs.replace(record, **changes)


def refusal(code: str, message: str) -> Exception:
    """An error of the protocol without data."""
    words = module("rch.contract.worker_rpc")
    return words.RpcError(words.Code(code), message)  # type: ignore[no-any-return]


def every_mutant() -> dict[str, tuple[str, Mutant]]:
    """All of them: this module may run under another name than the one that they know."""
    for part in ("channels", "sources", "jobs", "slots", "sets", "records", "races", "variants"):
        module(f"conformance.mutants_of_{part}")
    return module("conformance.mutants").MUTANTS  # type: ignore[no-any-return]


def main() -> int:
    """Patch, then serve."""
    name = sys.argv[1]
    if name != "none":
        (every_mutant() | module("conformance.mutants").VARIANTS)[name][1]()
    from worker_agent.rpc import serve_stdio

    return serve_stdio(os.environ)


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])
    sys.exit(main())
