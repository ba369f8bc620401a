"""Keeps secrets out of the daemon's log: a processor of structlog's, the last before a line is rendered."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from rch.contract.redact import REDACTED, names_secret, scrub


def without_secrets(logger: object, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What the log is told, less what is a secret by its name or its look."""
    del logger, name
    for key, value in event.items():
        event[key] = _clean(key, value)
    return event


def _clean(key: str, value: object) -> object:
    """One value, whatever it is made of."""
    if isinstance(value, str):
        return REDACTED if names_secret(key) and value else scrub(value)
    if isinstance(value, Mapping):
        return {name: _clean(str(name), item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(key, item) for item in value]
    return value
