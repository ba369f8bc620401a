"""How far a stage is, in words: what `stage` events (`RunEvent`) say of it."""

from __future__ import annotations

from typing import Any

from rchctl.render import duration, size


def number(value: object) -> int:
    """A count; 0 where there is none."""
    return int(value) if isinstance(value, (int, float)) else 0


def live_amount(data: dict[str, Any], done: int, total: int) -> str:
    """`41% of 45.0 MB, 3.2 MB/s, 8.0 s left, 12 files`: what is known of it, what matters most first."""
    if not total:
        return plain_amount(data, done, total)
    rate, left = number(data.get("rate")), data.get("left_seconds")
    share = f"{min(100 * done // total, 100)}%"
    parts = [f"{share} of {amount(total, data)}, {amount(rate, data)}/s" if rate else share]
    if rate and isinstance(left, (int, float)) and done < total:
        parts.append(f"{duration(int(left * 1000))} left")
    detail = str(data.get("detail") or "")
    return f"{', '.join(parts)}{',' if rate and detail else ''} {detail}".strip()


def plain_amount(data: dict[str, Any], done: int, total: int) -> str:
    """`45.0 MB 12 files`: all of it, or what there is by now where its end is not known."""
    found = amount(total or done, data) if total or done else ""
    return f"{found} {data.get('detail') or ''}".strip()


def amount(count: int, data: dict[str, Any]) -> str:
    """So much of the stage's unit."""
    unit = str(data.get("unit") or "")
    return size(count) if unit == "bytes" else f"{count} {unit}".strip()
