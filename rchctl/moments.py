"""A moment as a user names it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from rch.contract.ids import timestamp
from rchctl.parser import UsageError

_AGE = re.compile(r"([0-9]{1,4})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def since(verb: str, word: str, now: datetime) -> str:
    """The moment that `word` means, RFC 3339: an age (`90m`, `36h`, `7d`, `2w`) or a date."""
    age = _AGE.fullmatch(word)
    try:
        if age is not None:
            moment = now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        else:
            moment = datetime.fromisoformat(word)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{verb}: --since {word!r} is no age (7d, 36h) and no date (2026-01-31)"
        ) from error
    return timestamp(moment.timestamp())
