"""Takes secrets out of a table, by key name and by the look of a value (spec section 6)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

REDACTED = "[REDACTED]"

_SECRET_KEY = re.compile(
    r"(^|[._-])(password|passwd|passphrase|secrets?|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?|auth)"
    r"([._-]|$)",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}|\bglpat-[A-Za-z0-9_-]{16,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bsk-[A-Za-z0-9_-]{20,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"
    r"|\b[Bb]earer\s+[A-Za-z0-9._~+/-]{16,}"
    r"|://[^/\s:@]*:[^/\s@]+@"
)


def is_secret(key: str, value: object) -> bool:
    """Whether a value must not be written down; `key` is its last part alone."""
    if isinstance(value, str) and _SECRET_VALUE.search(value):
        return True
    return bool(_SECRET_KEY.search(key)) and value not in {None, "", True, False}


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
