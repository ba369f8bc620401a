"""Identifiers and times (spec section 2). Standard library alone."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{9,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def is_id(value: object) -> bool:
    """Whether `value` is a well-formed run, job, request, lease or upload id."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def is_sha256(value: object) -> bool:
    """Whether `value` is 64 lower-case hex digits."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def require_id(value: object, field: str) -> str:
    """`value`, once it is known to be safe in a path; `ValueError` names the field otherwise."""
    if not is_id(value):
        raise ValueError(f"{field} {str(value)[:80]!r} is not an id ([A-Za-z0-9][A-Za-z0-9_-]{{9,63}})")
    return str(value)


def timestamp(seconds: float) -> str:
    """RFC 3339, UTC, milliseconds, `Z`, of `seconds` since the epoch."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def is_timestamp(value: object) -> bool:
    """Whether `value` is RFC 3339 in UTC with the `Z` suffix."""
    return isinstance(value, str) and _TIME.fullmatch(value) is not None


def parse_timestamp(value: str) -> float:
    """Seconds since the epoch; `ValueError` if `value` does not conform."""
    if not is_timestamp(value):
        raise ValueError(f"{value!r} is no RFC 3339 UTC time with a Z suffix")
    return datetime.fromisoformat(value).timestamp()
