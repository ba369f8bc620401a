"""Keeps secrets out of what a job leaves: values of its environment, and what has their look (section 11).

The log is a stream (`StreamMask`); results that tools wrote into files are read past it, and have their
texts masked before any record is made of them (`Mask`). The verdict is made before: what a test
prints cannot hide a failure behind a mask.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

import msgspec

from rch.contract.redact import Scrubber, is_secret
from worker_agent.buildfiles import Redactor
from worker_agent.results.cases import MAX_MESSAGE

_SHORTEST_SECRET = 4
# Members that hold what a project wrote; in all others stand words of ours.
_FREE = frozenset(
    "message name suite path identifier said failures fact why problem targets".split()  # noqa: SIM905
)

T = TypeVar("T")


def secrets_of(env: Mapping[str, str]) -> tuple[str, ...]:
    """The values in an environment that are secrets, the longest first."""
    found = {value for key, value in env.items() if is_secret(key, value)}
    found = {value for value in found if len(value) >= _SHORTEST_SECRET}
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


class StreamMask:
    """For bytes that come in pieces."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._scrubber = Scrubber(partial(_known, env))

    def feed(self, data: bytes) -> bytes:
        """What is safe to pass on."""
        return self._scrubber.feed(data)

    def flush(self) -> bytes:
        """What was held back."""
        return self._scrubber.feed(b"", last=True)


class Mask:
    """For texts, and for values that hold some."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = {key: value for key, value in env.items() if is_secret(key, value)}

    def text(self, text: str) -> str:
        """A text without secrets; one that was cut ends before what may be the beginning of one."""
        data = text.encode("utf-8", "surrogatepass")
        masked = Scrubber(partial(_known, self._env)).feed(data, last=len(text) < MAX_MESSAGE)
        return text if masked == data else masked.decode("utf-8", "surrogatepass")

    def of(self, value: T) -> T:
        """The same value, of dataclasses, Structs and tuples, with the texts of projects in it masked."""
        masked: T = self._walk(value, free=False)
        return masked

    def _walk(self, value: Any, *, free: bool) -> Any:
        if isinstance(value, str):
            return self.text(value) if free else value
        if isinstance(value, tuple):
            return tuple(self._walk(one, free=free) for one in value)
        if isinstance(value, msgspec.Struct):
            return msgspec.structs.replace(value, **self._members(value, value.__struct_fields__))
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in dataclasses.fields(value)]
            return dataclasses.replace(value, **self._members(value, names))
        return value

    def _members(self, value: Any, names: Any) -> dict[str, Any]:
        """The members that change; those that do not are left as they are."""
        changed = {}
        for name in names:
            old = getattr(value, name)
            new = self._walk(old, free=name in _FREE)
            if new is not old and new != old:
                changed[name] = new
        return changed


def _known(env: Mapping[str, str]) -> Redactor:
    return Redactor(os.fsencode(value) for value in secrets_of(env))
