"""Durations as Apple's tools print them, in whichever language the machine speaks."""

from __future__ import annotations

import re

_PART = re.compile(r"(\d{1,12})(?:[.,\u066b](\d{1,12}))?\s{0,4}([^\W\d_]{1,16})\.?")
_UNITS = {"ms": 1, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000}
_MOST = 10 * 365 * 86_400_000


def milliseconds(text: str | None, seconds: float | None = None) -> int:
    """Milliseconds of a number of seconds, else of such a text (`5s`, `1m 2s`, `0,005s`); 0 if unclear.

    A comma is a decimal sign here: the parts of such a text never reach a thousand.
    """
    if seconds is not None:
        return min(int(seconds * 1000), _MOST) if 0 <= seconds < _MOST else 0
    parts = list(_PART.finditer((text or "")[:200]))
    total = 0
    for part in parts:
        unit = part[3].lower()
        scale = _UNITS.get(unit) or _UNITS.get(unit[0])
        if scale is None:
            if len(parts) > 1:
                return 0
            scale = 1000  # one part alone, in a script that is not known: a test takes seconds
        fraction = int((part[2] or "0")[:6].ljust(6, "0"))
        total += int(part[1]) * scale + fraction * scale // 1_000_000
    return min(total, _MOST)
