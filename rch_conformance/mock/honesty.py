"""A simulated worker says so, whatever its scenario makes of an answer (spec section 9). Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from rch.contract.decoding import decode_json


def honest(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer of a simulated worker as a scenario changed it, saying all the same what it is."""
    made = dict(answer)
    payload = made.get("payload")
    if isinstance(payload, dict) and isinstance(payload.get("capabilities"), dict):
        made["payload"] = {**payload, "capabilities": {**payload["capabilities"], "simulated": True}}
    if isinstance(made.get("manifest"), dict):
        made["manifest"] = {**made["manifest"], "simulated": True}
    return made


def honest_text(text: str) -> str:
    """The same for the lines of `do = "raw"`; what is no JSON object stays as it is."""
    return "\n".join(map(_honest_line, text.split("\n")))


def _honest_line(line: str) -> str:
    try:
        told = decode_json(line.encode("utf-8", "replace"), dict[str, Any])
    except ValueError:
        return line
    made = honest(told)
    return line if made == told else msgspec.json.encode(made).decode()
