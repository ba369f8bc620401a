"""What the contract knows and this version does not build yet: refused by name (section 6)."""

from __future__ import annotations

from collections.abc import Mapping

from rch.contract.errors import Failure, Kind

_NOT_YET: Mapping[str, Mapping[object, str]] = {
    "backend": {"mcp": "use xcodebuild or swiftpm"},
}


def refuse_not_offered(key: str, value: object, file: str) -> None:
    """CONFIG / NOT_OFFERED for a value that a later version will take."""
    instead = _NOT_YET.get(key, {}).get(value) if isinstance(value, str) else None
    if key == "project.package" and isinstance(value, str) and value not in {".", ""}:
        instead = 'use "."'
    if instead is not None:
        raise not_offered(key, value, file, instead)


def not_offered(key: str, value: object, file: str, instead: str) -> Failure:
    """The refusal itself."""
    shown = f'"{value}"' if isinstance(value, str) else str(value).lower()
    message = f"{file}: not offered yet: {key} = {shown}; {instead}"
    return Failure(Kind.CONFIG, message, subkind="NOT_OFFERED", data={"file": file, "key": key})
