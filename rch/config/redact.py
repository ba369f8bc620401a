"""Takes secrets out of a table, by key name and by the look of a value (spec section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rch.contract.redact import REDACTED, is_secret

__all__ = ["REDACTED", "is_secret", "redact"]


def redact(tree: Mapping[str, object], prefix: str = "") -> tuple[dict[str, Any], tuple[str, ...]]:
    """A copy that can be written down, and the dotted keys of what was taken out."""
    clean: dict[str, Any] = {}
    taken: list[str] = []
    for key, value in tree.items():
        clean[key], paths = _redact_value(key, value, f"{prefix}{key}")
        taken += paths
    return clean, tuple(taken)


def _redact_value(key: str, value: object, path: str) -> tuple[Any, list[str]]:
    if isinstance(value, Mapping):
        clean, paths = redact(value, f"{path}.")
        return clean, list(paths)
    if isinstance(value, list | tuple):
        pairs = [_redact_value(key, item, f"{path}[{index}]") for index, item in enumerate(value)]
        return [item for item, _ in pairs], [taken for _, found in pairs for taken in found]
    return (REDACTED, [path]) if is_secret(key, value) else (value, [])
