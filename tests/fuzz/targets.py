"""Every fuzz target by name: takes any bytes, and fails by an exception."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fuzz import targets_bytes, targets_words
from support import hostile_frames, hostile_tars

Target = Callable[[bytes], None]

SEEDS = Path(__file__).parent / "seeds"

TARGETS: dict[str, Target] = {
    "artifact_tar": targets_bytes.artifact_tar,
    "attestation": targets_words.attestation,
    "database": targets_words.database,
    "dispatch": targets_words.dispatch,
    "framing": targets_bytes.framing,
    "log": targets_words.log,
    "manifest": targets_words.manifest,
    "request": targets_words.request,
    "response": targets_words.response,
    "source_tar": targets_bytes.source_tar,
    "thin": targets_bytes.thin,
    "toml": targets_words.toml,
    "xcresult": targets_words.xcresult,
    "xunit": targets_words.xunit,
    "zstd": targets_bytes.zstd,
}


_FORMS: dict[str, dict[str, bytes]] = {
    "artifact_tar": hostile_tars.FORMS,
    "source_tar": hostile_tars.FORMS,
    "zstd": hostile_frames.FORMS,
}
_MOST_FORM = 20_000


def seeds(name: str) -> dict[str, bytes]:
    """The seeds of a target by their names: files (`found-` has been a finding), and hostile forms."""
    found = {path.name: path.read_bytes() for path in sorted((SEEDS / name).iterdir())}
    forms = _FORMS.get(name, {}).items()
    return found | {f"form {form}": data for form, data in forms if len(data) < _MOST_FORM}
